"""Epochs of one node: which lane it writes, and when a new epoch may spend what its predecessors held.

A node that restarts after a crash goes on in its lane: its journal is complete, because nothing left the node before it
was durable. A node that cannot prove that (a restored disk, a lost journal, a peer that holds more of its lane than it
does) opens a *new epoch*: a new lane, so that it can never write a second history of the old one. The new lane records
at once, but may not spend: rights of the old lane may have been spent in batches that the node has lost. It is unlocked
when every other member has told which of the node's old lanes it holds up to where, and the node holds all of that; its
first act is then a *claim*: a batch whose deps name the old lanes' heads and so take over what they left.

A node that goes on in its lane is *quiet* at first: what clients ask for it records, but nothing of its own accord, until every other
member has told that it holds no more of the lane, or ``QUIET_US`` have passed. So a machine that was rolled back without its files
showing it (a snapshot of a running VM) has the time to hear of it before it writes a second history by itself.

What this cannot see, and nothing at this place can: such a machine whose peers are all out of reach.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import msgspec

from crdtledger.ledger.batch import LANE_BYTES, NONCE_BYTES, Dep, Lane, parse_lane
from crdtledger.ledger.replica import Replica

EPOCH_RECORD = b"epoch"
"""What the journal's records of epochs are called."""

QUIET_US = 3_000_000
"""So long a node that was started again waits to be told what others hold of its lane. Who is down is not waited for longer; and who
lies about it keeps nobody from working."""

MAX_LANES_TOLD = 4_096
"""Whoever claims to hold more of a node's lanes was not heard: leaving some out could miss a spend."""


class EpochState(msgspec.Struct, frozen=True, array_like=True):
    """What a node remembers in its journal about its epoch. ``locked``: why it may not spend, empty when it may."""

    epoch: int
    nonce: bytes
    locked: str = ""


class LaneAsk(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Which lanes of mine do you hold, up to where? ``epoch`` is the asker's current one."""

    epoch: int


class LaneTell(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The answer: (lane, seq) of every lane of the asker's that is held here."""

    epoch: int
    lanes: tuple[tuple[bytes, int], ...]


class Epochs:
    """The epochs of the node with id ``node``. ``others``: the names of all other members."""

    def __init__(self, node: bytes, others: Collection[str], replica: Replica, draw: Callable[[int], bytes]) -> None:
        self._node = node
        self._others = sorted(others)
        self._replica = replica
        self._draw = draw
        self._told: dict[str, dict[bytes, int]] = {}
        self._resumed = False  # in a lane of which others may hold more
        self._ticked_us = 0
        self.state = EpochState(0, b"")

    @property
    def lane(self) -> Lane:
        """The lane that this node writes now."""
        return Lane(self._node, self.state.epoch, self.state.nonce)

    def resume(self, state: EpochState) -> None:
        """Go on in the epoch that the journal names."""
        self.state = state
        self._resumed = True

    @property
    def quiet(self) -> bool:
        """Whether a peer may still hold more of the present lane than is here, as far as was told since the start."""
        if not self._resumed:
            return False
        lane = self.lane.key
        held = self._replica.head(lane).seq
        return any(name not in self._told or self._told[name].get(lane, 0) > held for name in self._others)

    def silent(self) -> bool:
        """Whether nothing is to be recorded that no client asked for."""
        return bool(self.state.locked) or self.quiet

    def tick(self, now_us: int) -> None:
        """Time passes: ``QUIET_US`` after the first tick, nobody is waited for any longer."""
        self._ticked_us = self._ticked_us or now_us
        if now_us - self._ticked_us >= QUIET_US:
            self._resumed = False

    def open(self, reason: str) -> EpochState:
        """A new epoch above every one known. ``reason`` is empty for the very first, which is not locked."""
        known = [parse_lane(lane).epoch for lane in self._replica.frontier() if lane.startswith(self._node)]
        epoch = max([self.state.epoch, *known]) + 1
        locked = (
            f"epoch {epoch} was opened because {reason}; it may not spend before all other nodes were heard"
            if reason
            else ""
        )
        self._told.clear()
        self._resumed = False
        self.state = EpochState(epoch, self._draw(NONCE_BYTES), locked)
        return self.state

    def to_ask(self) -> list[str]:
        """Members that have not told what they hold of this node's lanes, or told of more than is here: an old disk may
        have been put back there meanwhile, and what it held may be nowhere any more. Nobody, once it speaks and spends."""
        if not self.silent():
            return []
        return [name for name in self._others if name not in self._told or self._lacking(name)]

    def _lacking(self, peer: str) -> list[tuple[bytes, int, int]]:
        """(lane, seq that ``peer`` told of, seq held here) wherever the peer holds more. Of the present lane, too: then the disk was
        put back since, and a claim would clash with what that lane holds; what the peer holds will come, and end this epoch."""
        found = []
        for lane, seq in sorted(self._told[peer].items()):
            head = self._replica.head(lane)
            if not head.fork_seq and head.seq < seq:
                found.append((lane, seq, head.seq))
        return found

    def told(self, peer: str, tell: LaneTell) -> None:
        """``peer`` told what it holds. Answers to an earlier epoch's question do not count."""
        if peer in self._others and self.silent() and tell.epoch == self.state.epoch:
            mine = [(lane, seq) for lane, seq in tell.lanes if len(lane) == LANE_BYTES and lane.startswith(self._node)]
            if len(mine) <= MAX_LANES_TOLD:
                self._told[peer] = dict(mine)

    def tell(self, node: bytes, ask: LaneAsk) -> LaneTell:
        """What this replica holds of another node's lanes."""
        lanes = [
            (lane, self._replica.head(lane).seq) for lane in sorted(self._replica.frontier()) if lane.startswith(node)
        ]
        return LaneTell(ask.epoch, tuple(lanes))

    def missing(self) -> list[str]:
        """What still keeps a locked epoch from spending, in words."""
        if not self.state.locked:
            return []
        waiting = [f"{name} has not been heard" for name in self._others if name not in self._told]
        return waiting + [
            f"{name} holds epoch {parse_lane(lane).epoch} up to {seq}, this node up to {held}"
            for name in sorted(self._told)
            for lane, seq, held in self._lacking(name)
        ]

    def inheritance(self) -> Sequence[Dep] | None:
        """The deps of the claim that unlocks this epoch; None while something is missing. What is settled is the node's in any
        epoch and needs no claim."""
        if not self.state.locked or self.missing():
            return None
        settled = self._replica.state.lanes
        heads = {lane: self._replica.head(lane) for lane in self._replica.lanes_of(self._node) if lane != self.lane.key}
        return [
            Dep(lane, head.seq, head.hash)
            for lane, head in sorted(heads.items())
            if lane not in settled or head.seq > settled[lane].seq
        ]

    def unlock(self) -> EpochState:
        """All is known: from here on this epoch may spend."""
        self.state = EpochState(self.state.epoch, self.state.nonce)
        return self.state
