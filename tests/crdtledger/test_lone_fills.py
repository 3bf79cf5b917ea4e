"""A fill alone in its call is told to be new without a table of ids: it is recorded, or known, as it would be among others."""

from __future__ import annotations

from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from crdtledger.ledger.body import opened
from crdtledger.ledger.factkeys import fact_keys, lone_fill_key
from crdtledger.ledger.facts import Kind
from tests.crdtledger.test_drafted_bodies import FACTS, MOVES, columns, desk, row
from tests.crdtledger.worlds import Pen, genesis


@given(st.lists(row, max_size=24))
def test_a_fill_alone_in_its_call_is_judged_as_one_among_others(rows: list[tuple[int, ...]]) -> None:
    glancing, looking = desk(), desk()
    for said in rows:
        with patch.object(looking.recorder, "_is_new", lambda body: False):
            slowly = looking.recorder.record_fills(columns([said]), 5)
        recorded = glancing.recorder.record_fills(columns([said]), 5)
        assert [batch.raw for batch in recorded.batches] == [batch.raw for batch in slowly.batches]
        assert (recorded.facts, recorded.duplicates) == (slowly.facts, slowly.duplicates)


def test_what_is_new_is_one_fill_of_an_id_never_heard_of() -> None:
    writer = desk()
    is_new = writer.recorder._is_new
    pen = Pen(genesis(2), 0)
    bodies = [opened(pen.draft(facts)) for facts in ([FACTS[0]], [FACTS[1]], FACTS[:2], [FACTS[2]], [FACTS[3]], MOVES)]
    assert [is_new(body) for body in bodies] == [True, True, False, False, False, False]
    writer.recorder.record(FACTS[:1], 5)
    assert [is_new(body) for body in bodies[:2]] == [False, True]
    view = writer.replica.view
    for body in bodies[:2]:
        assert lone_fill_key(body) == tuple(half.item() for half in fact_keys(body, Kind.FILL))
        assert view.positions.heard_of(Kind.FILL, *lone_fill_key(body)) != is_new(body)
