"""What facts say, hashed by the definition that stands in ``contents``: whole columns at a time give the same."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from crdtledger import Ledger
from crdtledger.ledger.body import Body
from crdtledger.ledger.contents import fact_contents
from crdtledger.ledger.facts import NO_STRING, Account, Bust, Fill, Instrument, Kind

SPOT = {"type": "spot", "base": "BTC", "quote": "USDT", "settlement": "USDT", "price_decimals": 2, "qty_decimals": 5}
ACCOUNTS, INSTRUMENTS = ("A", "Ä", "AA"), ("I", "J")
TERMS = st.tuples(
    st.sampled_from([Fill, Bust]),
    st.sampled_from(ACCOUNTS),
    st.sampled_from(INSTRUMENTS),
    st.sampled_from(["buy", "sell"]),
    st.integers(1, 2**62),
    st.integers(-(2**62), 2**62),
    st.integers(-3, 3),
    st.sampled_from([None, "USDT", "BTC"]),
)


def plainly(body: Body, kind: Kind, row: int) -> bytes:
    """BLAKE2b-128 over BLAKE2b-128(the names, each with its length) and the numbers."""
    fact = body.tables[kind][row]
    name, definition = body.instruments[body.scopes[int(fact["scope"])].instrument]
    fee_asset = "" if fact["fee_asset"] == NO_STRING else body.strings[int(fact["fee_asset"])]
    words = [b"fill", body.strings[int(fact["account"])].encode(), fee_asset.encode(), name.encode(), definition]
    names = hashlib.blake2b(
        b"".join(len(word).to_bytes(4, "little") + word for word in words), digest_size=16, person=b"crdtledger/says"
    )
    numbers = b"".join(int(fact[n]).to_bytes(8, "little", signed=True) for n in ("side", "qty", "price", "fee"))
    return hashlib.blake2b(names.digest() + numbers, digest_size=16).digest()


@given(st.lists(TERMS, min_size=1, max_size=12))
def test_columns_of_facts_say_what_the_definition_says_of_each(
    told: list[tuple[type, str, str, str, int, int, int, str]],
) -> None:
    (ledger,) = Ledger.cluster("one", assets={"USDT": 2, "BTC": 8})
    ledger.record(*(Account(name=name) for name in ACCOUNTS), *(Instrument(name=name, **SPOT) for name in INSTRUMENTS))
    facts = [
        kind(
            venue="V",
            trade_id=number,
            instrument=instrument,
            account=account,
            side=side,
            qty=qty,
            price=price,
            fee=fee,
            fee_asset=asset,
        )
        for number, (kind, account, instrument, side, qty, price, fee, asset) in enumerate(told)
    ]
    for batch in ledger.record(*facts).batches:
        for kind in batch.body.tables:
            contents = fact_contents(batch.body, kind)
            assert [row.astype("<u8").tobytes() for row in contents] == [
                plainly(batch.body, kind, row) for row in range(len(contents))
            ]
