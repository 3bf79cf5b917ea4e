"""An id above the highest that was noted was never noted; nothing else is said."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crdtledger.ledger.body import opened
from crdtledger.ledger.facts import Bust, Fact, Fill, Kind
from crdtledger.ledger.highestids import HighestIds
from tests.crdtledger.worlds import INVERSE, SPOT, Pen, genesis

MAX_ID = (1 << 64) - 1
ids = st.integers(0, 5) | st.sampled_from((MAX_ID - 1, MAX_ID, "t", "7x"))
facts = st.builds(
    lambda kind, venue, instrument, leg, trade_id: kind(
        venue=venue, instrument=instrument, leg=leg, trade_id=trade_id, account="A", side="buy", qty=1, price=1
    ),
    st.sampled_from((Fill, Bust)),
    st.sampled_from("vw"),
    st.sampled_from((SPOT.name, INVERSE.name)),
    st.sampled_from(("", "x")),
    ids,
)


def scope(fact: Fact) -> tuple[object, ...]:
    assert isinstance(fact, Fill | Bust)
    return type(fact), fact.venue, fact.instrument, fact.leg


@given(st.lists(st.lists(facts, min_size=1, max_size=5), max_size=4), st.lists(facts, min_size=1, max_size=8))
def test_only_a_number_beyond_all_of_its_scope_is_above(noted: list[list[Fact]], asked: list[Fact]) -> None:
    pen, highest = Pen(genesis(2), 0), HighestIds()
    for some in noted:
        highest.note(opened(pen.draft(some)))
    body = opened(pen.draft(asked))
    before: dict[object, list[int]] = {}
    for fact in [fact for some in noted for fact in some]:
        if isinstance(fact.trade_id, int):
            before.setdefault(scope(fact), []).append(fact.trade_id)
    for kind, of in ((Kind.FILL, Fill), (Kind.BUST, Bust)):
        mine = [fact for fact in asked if type(fact) is of]
        told = highest.above(kind, body).tolist() if kind in body.tables else []
        assert told == [
            isinstance(fact.trade_id, int) and all(fact.trade_id > one for one in before.get(scope(fact), ()))
            for fact in mine
        ]
