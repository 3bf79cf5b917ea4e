"""A node that breaks its word on purpose: two batches for one place of its own lane. For drills only; pure.

Both branches are well-formed, signed and follow the lane's head; each says nothing but how far an import has come that nobody runs,
so no fact of anybody is lost with them. Every reachable peer is shown one, half of them the one and half the other. The node
itself keeps neither. From then on it is as guilty as any node that forks: the evidence is made by the peers, travels
everywhere, ends the lane before the two, and stays. The caller opens a new epoch at once, so that the node can go on recording.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from crdtledger.edge.api import Fork
from crdtledger.errors import BadInput
from crdtledger.ledger.batch import Batch, lane_text, seal
from crdtledger.ledger.body import Cursor, WireBody
from gossip import wire
from gossip.effects import Send

if TYPE_CHECKING:
    from crdtledger.edge.core import NodeCore
    from crdtledger.ledger.recorder import Recorder

SOURCE = "fork drill"


class Drilled(msgspec.Struct, frozen=True):
    """What is to be sent, and what the operator is told: ``lane``, ``seq``, and the ``branches``, each with who is shown it."""

    sends: tuple[Send, ...]
    answer: dict[str, Any]


def branches(recorder: Recorder, now_us: int) -> tuple[Batch, Batch]:
    """Two batches that cannot both be honest: both come next in the recorder's lane. Neither is admitted anywhere."""
    replica, lane = recorder.replica, recorder.lane
    head = replica.head(lane.key)
    clock = recorder.clock.tick(now_us)
    one, other = (
        seal(
            recorder.identity,
            recorder.genesis,
            lane,
            head.seq + 1,
            head.hash,
            clock,
            replica.base,
            (),
            WireBody([], [], [], [], [], [], [Cursor(SOURCE, branch, 0)]),
        )
        for branch in (1, 2)
    )
    return one, other


def fork(core: NodeCore, request: Fork, now_us: int) -> Drilled:
    """Fork the lane that ``core`` writes. BadInput when another node is meant, or no peer is there to be lied to."""
    where = "drill fork"
    if request.node != core.name:
        raise BadInput(what=f"node {request.node!r}", where=where, why=f"this is {core.name}")
    peers = sorted(name for name, peer in core.engine.peers.items() if peer.connected and peer.greeted)
    if not peers:
        raise BadInput(what=core.name, where=where, why="no other node is connected, so nobody would see the fork")
    both = branches(core.recorder, now_us)
    # A single peer is shown both: one after the other is a fork too.
    sides = [peers, peers] if len(peers) == 1 else [peers[::2], peers[1::2]]
    sends = tuple(
        Send(peer, wire.encode(wire.Push((branch.raw,))), core.position)
        for branch, side in zip(both, sides, strict=True)
        for peer in side
    )
    told = [{"hash": branch.hash.hex(), "peers": side} for branch, side in zip(both, sides, strict=True)]
    lane = lane_text(core.recorder.lane.key, core.genesis)
    return Drilled(sends, {"lane": lane, "seq": both[0].seq, "branches": told})
