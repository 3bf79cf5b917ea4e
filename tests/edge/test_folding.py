"""A fact is written down and acknowledged before figures are brought up to date with it; who asks for them gets them all the same."""

from __future__ import annotations

from crdtledger.edge import api
from crdtledger.ledger.facts import Account, Fill
from gossip import wire
from tests.edge.test_hostile import SPOT, Hand, Victim

FILL = Fill(venue="v", trade_id=1, instrument=SPOT.name, account="A", side="buy", qty=1, price=1)
TERMS = {"instrument": SPOT.name, "account": "A", "side": "buy", "qty": "1", "price": "1"}


def looked_at() -> tuple[Victim, Hand]:
    """A node that told its positions, and the hand of a peer that it heard of."""
    node = Victim()
    peer = Hand("n1", node.genesis)
    node.hear("n1", wire.Push((peer.write(Account(name="A"), SPOT).raw,)))
    assert node.query("positions") == []
    return node, peer


def folded(node: Victim) -> int:
    view = node.core.replica.folded
    assert view is not None
    return view.facts


def test_a_fact_that_a_client_hands_in_is_acknowledged_before_it_is_folded() -> None:
    node, _ = looked_at()
    before, written = folded(node), len(node.records)
    assert node.ask(api.Record([{"kind": "fill", "venue": "v", "trade_id": 9, **TERMS}]))["facts"] == 1
    assert (len(node.records), folded(node)) == (written + 1, before)
    node.core.fold()
    assert folded(node) == before + 1


def test_a_peer_s_batch_is_written_down_before_it_is_folded() -> None:
    node, peer = looked_at()
    before, written = folded(node), len(node.records)
    node.hear("n1", wire.Push((peer.write(FILL).raw,)))
    assert (len(node.records), folded(node)) == (written + 1, before)
    node.core.fold()
    assert folded(node) == before + 1


def test_who_asks_is_told_what_was_not_folded_yet() -> None:
    node, peer = looked_at()
    node.hear("n1", wire.Push((peer.write(FILL).raw,)))
    assert [row["fills"] for row in node.query("positions")] == [1]
    node.stands()


def test_a_node_that_nobody_asked_folds_nothing() -> None:
    node = Victim()
    node.hear("n1", wire.Push((Hand("n1", node.genesis).write(Account(name="A"), SPOT).raw,)))
    node.core.fold()
    assert node.core.replica.folded is None
