"""A request is the same on the other side, whatever its frame was written over."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.edge import api
from crdtledger.ledger.body import Cursor
from crdtledger.ledger.drafting import FillColumns

ROW = st.tuples(
    st.integers(0, 2**64 - 1), st.integers(-(2**62), 2**62), st.integers(1, 2**62), st.sampled_from((1, -1))
)


def columns(rows: list[tuple[int, ...]], more: bool) -> FillColumns:
    ids, prices, quantities, sides = ([row[at] for row in rows] for at in range(4))
    places = np.arange(2 * len(rows))[::2]  # with gaps between them: a request has none
    return FillColumns(
        venue="v",
        instrument="I",
        trade_id=np.array(ids, np.uint64),
        price=np.array(prices, np.int64),
        qty=np.array(quantities, np.int64),
        side=np.array(sides, np.int8),
        account=places,
        accounts=["A"] * max(1, 2 * len(rows)),
        ts_us=places + 1 if more else None,
        fee=-places if more else None,
        fee_asset=places if more else None,
        fee_assets=["USDT"] if more else [],
    )


@given(
    st.lists(
        st.tuples(st.lists(ROW, min_size=1, max_size=9), st.booleans(), st.integers(0, 2**63 - 1)),
        min_size=1,
        max_size=4,
    )
)
def test_columns_are_read_as_they_were_written_one_request_over_another(
    told: list[tuple[list[tuple[int, ...]], bool, int]],
) -> None:
    room = bytearray()
    for rows, more, number in told:
        fills, cursor = columns(rows, more), Cursor("s", 1, 2) if more else None
        api.encode_asked(number, api.pack_fills(fills, cursor), room)
        frame = api.decode_frame(bytes(room))
        assert frame is not None
        assert frame.number == number
        request = api.decode_request(frame.body)
        assert isinstance(request, api.Columns)
        assert request.cursor == cursor
        read = api.unpack_fills(request)
        for field in fills.__struct_fields__:
            one, other = getattr(fills, field), getattr(read, field)
            assert np.array_equal(one, other) if isinstance(one, np.ndarray) else one == other
        assert api.decode_local(frame.body) is None


@given(st.integers(0, 2**63 - 1), st.text(max_size=20))
def test_a_request_is_framed_like_any_other_bytes(number: int, name: str) -> None:
    request, room = api.Query("positions", account=name), bytearray(b"what was there")
    api.encode_asked(number, request, room)
    plain = api.decode_frame(api.encode_frame(api.Frame(number, api.encode_request(request))))
    assert api.decode_frame(bytes(room)) == plain
