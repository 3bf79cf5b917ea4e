"""A member gone bad, and what it can do to a node: be refused, counted, shown, and wait. Never stop it, blind it or bend its figures.

The first half drives a core by hand, so every frame is exactly the one that is meant; the second half uses real sockets
and a real process, with a genesis member's own keys.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from crdtledger.edge import api
from crdtledger.edge.core import ClientRequest, Completeness, NodeCore, Setup
from crdtledger.edge.epochs import LaneTell
from crdtledger.ledger import batch as batches
from crdtledger.ledger.batch import FIRST_PREV, Batch, Lane
from crdtledger.ledger.clock import MAX_TIMESTAMP
from crdtledger.ledger.drafting import draft_facts
from crdtledger.ledger.facts import Account, Fact, Instrument
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.reference import instrument_digest
from gossip import wire
from gossip.effects import Connected, Durable, Effect, Notify, Persist, Received, Reply, Send, TimerFired
from gossip.protocol import HEADS_TIMER
from tests.edge.cluster import found, identity

NAMES = ("n0", "n1", "n2", "n3")
SECOND = 1_000_000
VIEWS = (
    "positions",
    "collateral",
    "instruments",
    "accounts",
    "marks",
    "breaks",
    "frontier",
    "status",
    "members",
    "digest",
)
SPOT = Instrument(
    name="BTCUSDT", type="spot", base="BTC", quote="USDT", settlement="USDT", price_decimals=2, qty_decimals=8
)
_encode = msgspec.msgpack.Encoder().encode


class Hand:
    """Writes lanes of a member with its real key, past every check."""

    def __init__(self, name: str, genesis: Genesis, epoch: int = 1, nonce: bytes = bytes(8)) -> None:
        self.genesis, self.identity = genesis, identity(name)
        self.lane = Lane(genesis.member(name).id, epoch, nonce)
        self.seq, self.head = 0, FIRST_PREV

    def write(self, *facts: Fact, clock: int = 1 << 16) -> Batch:
        """The next batch of the lane."""
        digests = {SPOT.name: instrument_digest(SPOT)}
        digests |= {fact.name: instrument_digest(fact) for fact in facts if isinstance(fact, Instrument)}
        members = {member.name: at for at, member in enumerate(self.genesis.nodes)}
        (body,) = draft_facts(facts, digests.__getitem__, members.__getitem__)
        sealed = batches.seal(
            self.identity, self.genesis, self.lane, self.seq + 1, self.head, clock, (0, self.genesis.hash), (), body
        )
        self.seq, self.head = sealed.seq, sealed.hash
        return sealed


class Victim:
    """The core of ``n0``, its disk and its clients, with every peer greeted. Whatever it persists is durable at once."""

    def __init__(self, completeness: Completeness = "fresh", records: Sequence[bytes] = ()) -> None:
        self.genesis = found(NAMES)
        self.records = list(records)
        self.now_us = 1_700_000_000 * SECOND
        setup = Setup(self.genesis, identity("n0"), "n0", random.Random(1).randbytes, completeness, documents=False)
        self.core = NodeCore(setup, self.records)
        self.sent: list[Send] = []
        self.notes: list[Notify] = []
        self.replies: dict[Any, bytes] = {}
        self._requests = 0
        self._do(self.core.start(self.now_us))
        for name in NAMES[1:]:
            self.step(Connected(name))
            self.hear(name, wire.Hello(1, 1, self.genesis.hash, 0, 7))

    def step(self, event: Any, after_us: int = 1_000) -> None:
        """One event, a little later than the one before."""
        self.now_us += after_us
        self._do(self.core.step(event, self.now_us))

    def hear(self, peer: str, *messages: wire.Message, after_us: int = 1_000) -> None:
        """Frames from a peer."""
        for message in messages:
            self.step(Received(peer, wire.encode(message)), after_us)

    def round(self) -> None:
        """A second later: the heads go out."""
        self.step(TimerFired(HEADS_TIMER), SECOND)

    def ask(self, request: api.Request | bytes) -> Any:
        """What a client is answered. Raises what the node refuses with."""
        self._requests += 1
        body = request if isinstance(request, bytes) else api.encode_request(request)
        self.step(ClientRequest(self._requests, body))
        return api.decode_answer(self.replies[self._requests])

    def query(self, view: Any) -> Any:
        """A view."""
        return self.ask(api.Query(view))

    def stands(self) -> None:
        """It answers every question and holds to its invariants."""
        for view in VIEWS:
            self.query(view)
        self.core.check_invariants()

    def _do(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Persist):
                self.records += effect.records
                self._do(self.core.step(Durable(effect.position), self.now_us))
            elif isinstance(effect, Send):
                self.sent.append(effect)
            elif isinstance(effect, Reply):
                self.replies[effect.request] = effect.body
            elif isinstance(effect, Notify):
                self.notes.append(effect)


def test_heads_that_claim_the_impossible_do_not_silence_status() -> None:
    """Seqs near 2**63 of lanes that do not exist: their sum does not fit what an answer can carry."""
    victim = Victim()
    rows = tuple(wire.LaneHead(bytes([7, at]) * 11, 2**63 - 1, bytes(32)) for at in range(5))
    victim.hear("n1", wire.Heads(bytes(32), rows, True))
    victim.stands()
    assert victim.query("members")[1]["ahead"] > 0


def test_a_clock_at_the_end_of_time_does_not_stop_an_honest_node_even_after_a_restart() -> None:
    victim = Victim()
    bad = Hand("n1", victim.genesis)
    victim.hear("n1", wire.Push((bad.write(Account(name="A"), SPOT, clock=MAX_TIMESTAMP).raw,)))
    victim.ask(api.Record([{"kind": "account", "name": "B"}]))
    again = Victim("complete", victim.records)
    assert [row["account"] for row in again.query("accounts")] == ["A", "B"]
    again.ask(api.Record([{"kind": "account", "name": "C"}]))
    own = max(
        batch.header.clock for batch in again.core.replica.batches() if batch.lane.node == again.genesis.nodes[0].id
    )
    assert own >> 16 <= (again.now_us // 1000) + 60_000


@pytest.mark.parametrize("completeness", ["fresh", "restored"])
def test_a_tale_about_a_lane_that_is_none_does_not_stop_a_node(completeness: Completeness) -> None:
    victim = Victim(completeness)
    node = victim.genesis.nodes[0].id
    for lane in (node, node + b"x", node + bytes(14), node + b"\xff" * 200):
        tell = LaneTell(victim.core.epochs.state.epoch, ((lane, 5), (b"", -3)))
        victim.hear("n1", wire.App("epoch", _encode(tell)))
        victim.hear("n1", wire.App("epoch", _encode(LaneTell(victim.core.epochs.state.epoch, ((lane, 2**63),)))))
    victim.stands()
