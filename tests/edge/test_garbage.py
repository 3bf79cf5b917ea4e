"""What a node does all the time leaves nothing that only the collector of cyclic garbage would find: a full one stalls it for long."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import msgspec
import pytest

from crdtledger.edge import api
from crdtledger.ledger.facts import Account, Fill
from crdtledger.ledger.view import View
from gossip import wire
from tests.edge.test_folding import TERMS, looked_at

FILL = {"kind": "fill", "venue": "v", **TERMS}


@pytest.fixture(autouse=True)
def _uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_recording_and_hearing_facts_leaves_no_cycles() -> None:
    node, peer = looked_at()
    for number in range(20):
        if number == 2:  # by then every decoder that is made at its first use is there
            gc.collect()
        assert node.ask(api.Record([FILL | {"trade_id": number}, FILL | {"trade_id": f"t{number}"}]))["facts"] == 2
        node.hear("n1", wire.Push((peer.write(Account(name=f"A{number}")).raw,)))
        node.core.fold()
    assert gc.collect() == 0


def test_a_view_that_is_let_go_is_gone() -> None:
    node, peer = looked_at()
    fill = Fill(venue="v", trade_id=1, instrument=TERMS["instrument"], account="A", side="buy", qty=1, price=1)
    node.hear("n1", wire.Push((peer.write(fill, msgspec.structs.replace(fill, qty=2)).raw,)))
    view = View(node.genesis)
    for batch in node.core.replica.batches():
        view.apply(batch)
    assert view.position_rows()
    gone = weakref.ref(view.positions)
    del view
    assert gone() is None
