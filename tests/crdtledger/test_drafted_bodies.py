"""What a node seals for itself, without looking twice at what it built, is what every other node opens and would have judged alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.ledger import body
from crdtledger.ledger.batch import Batch, open_batch
from crdtledger.ledger.body import MAX_BODY_BYTES, Body, Cursor, decode, encode, opened
from crdtledger.ledger.drafting import FillColumns, draft_fills
from crdtledger.ledger.facts import NO_STRING, Account, Bust, Deposit, Fact, Fill, Kind, Mark, Void
from tests.crdtledger.worlds import SPOT, Desk, Pen, World, genesis

NAMES = ("A", "B", "C")
FILL = Fill(venue="v", trade_id="t", instrument=SPOT.name, account="A", side="buy", qty=1, price=1)
FACTS: list[Fact] = [
    FILL,
    msgspec.structs.replace(FILL, trade_id=7, leg="x", account="B"),
    Bust(**msgspec.structs.asdict(FILL)),
    Mark(instrument=SPOT.name, price=3, ts_us=1, source="s"),
    Account(name="D", label="d"),
    SPOT,
]
MOVES: list[Fact] = [Deposit(id="d", account="A", asset="USDT", amount=5), Void(id=1, reserve="r")]

row = st.tuples(st.integers(0, 9), st.integers(1, 3), st.sampled_from((1, -1)), st.integers(0, 2), st.integers(-1, 1))
calls = st.lists(st.lists(row, min_size=1, max_size=12), min_size=1, max_size=6)


def same(one: Body, other: Body) -> bool:
    tables = {kind: (table.dtype, table.tobytes()) for kind, table in one.tables.items()}
    others = {kind: (table.dtype, table.tobytes()) for kind, table in other.tables.items()}
    return tables == others and one._replace(tables={}) == other._replace(tables={})


def columns(rows: Sequence[tuple[int, ...]]) -> FillColumns:
    ids, qty, side, account, fee_asset = np.array(rows, np.int64).T
    return FillColumns(
        venue="v",
        instrument=SPOT.name,
        trade_id=ids.astype(np.uint64),
        price=ids + 1,
        qty=qty,
        side=side.astype(np.int8),
        account=account,
        accounts=NAMES,
        fee=np.ones_like(ids),
        fee_asset=fee_asset,
        fee_assets=("BTC", "USDT"),
    )


def desk() -> Desk:
    return World(1).furnish(NAMES).desks[0]


def fields(batch: Batch) -> dict[str, Any]:
    held = [name for name in Batch.__struct_fields__ if name != "inside"]
    return {name: getattr(batch, name) for name in [*held, "header", "header_bytes", "signature"]}


@given(st.one_of(*(st.lists(st.sampled_from(some), unique_by=id) for some in (FACTS, MOVES))))
def test_a_drafted_body_reads_as_what_its_bytes_decode_to(facts: list[Fact]) -> None:
    wire = Pen(genesis(2), 0).draft(facts)
    assert same(opened(wire), decode(encode(wire)))


@given(calls)
def test_what_a_node_seals_is_what_its_bytes_open_to(told: list[list[tuple[int, ...]]]) -> None:
    writer = desk()
    for rows in told:
        for batch in writer.recorder.record_fills(columns(rows), 5).batches:
            read = open_batch(batch.raw, writer.genesis)
            assert fields(read) == fields(batch)
            assert same(read.body, batch.body)


@given(calls)
def test_of_columns_each_statement_about_an_id_is_recorded_once(told: list[list[tuple[int, ...]]]) -> None:
    writer = desk()
    stated: set[tuple[int, ...]] = set()
    for rows in told:
        first: dict[int, tuple[int, ...]] = {}
        fresh = 0
        for said in rows:
            fresh += said not in stated and (said[0] not in first or first[said[0]] != said)
            first.setdefault(said[0], said)
        stated |= set(rows)
        recorded = writer.recorder.record_fills(columns(rows), 5)
        assert (recorded.facts, recorded.duplicates) == (fresh, len(rows) - fresh)
    writer.replica.check_invariants()


@given(calls, st.booleans())
def test_a_call_of_many_rows_records_what_calls_of_its_parts_do(
    told: list[list[tuple[int, ...]]], ascending: bool
) -> None:
    whole, parts = desk(), desk()
    for rows in told:
        if ascending:
            rows = sorted({said[0]: said for said in rows}.values())
        with patch.object(body, "MAX_FACTS", 3):
            together = whole.recorder.record_fills(columns(rows), 5).batches
        apart = [parts.recorder.record_fills(columns(rows[at : at + 3]), 5).batches for at in range(0, len(rows), 3)]
        assert [batch.raw for batch in together] == [batch.raw for some in apart for batch in some]


@given(st.lists(row, min_size=1, max_size=12))
def test_names_are_entered_in_the_order_of_the_importer_s_dictionary(rows: list[tuple[int, ...]]) -> None:
    (wire,) = draft_fills(columns(rows), lambda name: bytes(32))
    drafted = opened(wire)
    table = drafted.tables[Kind.FILL]
    accounts, assets = sorted({said[3] for said in rows}), sorted({said[4] for said in rows if said[4] >= 0})
    names = [NAMES[place] for place in accounts] + [("BTC", "USDT")[place] for place in assets]
    assert list(drafted.strings)[-len(names) :] == names
    for said, fact in zip(rows, table, strict=True):
        assert drafted.strings[fact["account"]] == NAMES[said[3]]
        assert (
            (fact["fee_asset"] == NO_STRING)
            if said[4] < 0
            else drafted.strings[fact["fee_asset"]] == ("BTC", "USDT")[said[4]]
        )


@given(st.integers(400, 700), st.integers(100, 128), st.sampled_from("x€😀"), st.booleans())
def test_no_drafted_body_is_beyond_its_bound_and_none_within_it_is_split(
    rows: int, length: int, letter: str, cursor: bool
) -> None:
    ids = [f"{number:04d}"[:length] + letter * (length - 4) for number in range(rows)]
    told = msgspec.structs.replace(columns([(0, 1, 1, 0, -1)] * rows), text_ids=ids)
    bodies = draft_fills(told, lambda name: bytes(32), Cursor("s" * 128, 1 << 60, 1 << 60) if cursor else None)
    assert all(len(encode(one)) <= MAX_BODY_BYTES for one in bodies)
    assert len(bodies) == 1 or sum(len(encode(one)) for one in bodies) > MAX_BODY_BYTES
