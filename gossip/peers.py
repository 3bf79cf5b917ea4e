"""What an engine remembers about one peer, and the figures that an operator may ask for.

A ``Peer`` is the engine's own, changed in place; ``PeerStatus`` is the frozen copy that leaves it. A peer is
*open* when a link to it is up and it has greeted us with a ``Hello`` that we can work with: nothing but a
``Hello`` is taken from, or sent to, a peer that has not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from gossip import wire
from gossip.effects import Notify, Send
from gossip.heads import Picture
from gossip.meters import TokenBucket
from gossip.replica import Head


class PeerLimits(msgspec.Struct, frozen=True):
    """What one peer may cost. Rates are per second, ``burst``s what may come at once.

    ``batches``: taken to the replica, each of which checks a signature. ``refusals``: frames or batches
    that were refused; beyond it the peer is muted for ``mute_us``. ``lanes``: the most that its picture may
    hold. ``heads``: one for each ``Heads``, and one more for every 256 lanes in its picture, because each
    makes the picture's digest anew. ``apps``: messages for the engine's owner. ``forks``: each makes the
    owner look at everything again. ``notes``: what the peer alone makes us say in the log (a new
    incarnation, its refusals of ours). What goes beyond these four is dropped and counted; whatever of it
    matters is told again.
    """

    batches_per_s: int = 5_000
    batches_burst: int = 10_000
    refusals_per_s: int = 10
    refusals_burst: int = 100
    mute_us: int = 5_000_000
    lanes: int = 65_536
    heads_per_s: int = 256
    heads_burst: int = 2_048
    apps_per_s: int = 200
    apps_burst: int = 1_000
    forks_per_s: int = 1
    forks_burst: int = 64
    notes_per_s: int = 1
    notes_burst: int = 20


SILENT_US: Final = 5_000_000
"""A peer that says nothing for longer was silent: heads go round every second, and a few may be lost."""
MAX_SILENCES: Final = 64


class Silence(NamedTuple):
    """A spell in which nothing was heard of a peer: from the last word before it to the first one after it."""

    from_us: int
    to_us: int


class PeerStatus(msgspec.Struct, frozen=True):
    """One peer, for operators. ``last_heard_us``: 0 for never. ``silences``: the last ``MAX_SILENCES`` that
    are over, oldest first. ``heads``: lane -> head as it last said.

    ``lag``: batches that we hold and it does not, as far as it said; ``ahead``: the other way round.
    ``batches`` were taken from it, ``copies`` of them were here already. ``version`` is the newest that both
    speak, ``capabilities`` the bits that both have.
    ``refusal``: why its ``Hello`` was refused, or empty.
    """

    name: str
    connected: bool
    greeted: bool
    refusal: str
    version: int
    capabilities: int
    last_heard_us: int
    silences: tuple[Silence, ...]
    heads: Mapping[bytes, Head]
    lag: int
    ahead: int
    batches: int
    copies: int
    refusals: int
    over_rate: int
    early: int
    late: int
    bytes_in: int
    bytes_out: int


class _Offer(msgspec.Struct):
    """When a piece of evidence is sent again to a peer that does not report it, in heads rounds."""

    at_round: int
    gap: int


class Peer:
    """One peer, as its engine knows it."""

    def __init__(self, name: str, limits: PeerLimits) -> None:
        self.name = name
        self.connected = False
        self.nonce = 0  # of its incarnation; 0 until it greeted
        self.knows_us = False  # it said that it holds our Hello
        self.refusal = ""
        self.picture = Picture(limits.lanes)
        self.asked = False  # for everything, in this heads round
        self.owed = False  # everything, in the next heads round
        self.told_all_us: int | None = None
        self.told_digest = b""
        self.version = self.capabilities = 0  # what both speak, and what both can do
        self.hello_us: int | None = None
        self.offers: dict[bytes, _Offer] = {}
        self.muted_until_us = 0
        self.last_heard_us = 0
        self.silences: deque[Silence] = deque(maxlen=MAX_SILENCES)
        self.known = 0  # batches that were here already
        self.batches = self.refusals = self.over_rate = self.early = self.late = 0
        self.bytes_in = self.bytes_out = 0
        self._limits = limits
        self._batches = TokenBucket(limits.batches_per_s, limits.batches_burst)
        self._refusals = TokenBucket(limits.refusals_per_s, limits.refusals_burst)
        self._heads = TokenBucket(limits.heads_per_s, limits.heads_burst)
        self._apps = TokenBucket(limits.apps_per_s, limits.apps_burst)
        self._forks = TokenBucket(limits.forks_per_s, limits.forks_burst)
        self._notes = TokenBucket(limits.notes_per_s, limits.notes_burst)

    @property
    def greeted(self) -> bool:
        return self.nonce != 0

    @property
    def open(self) -> bool:
        return self.connected and self.nonce != 0

    def heard(self, now_us: int) -> None:
        """It said something that can be read. If it was silent before, the spell is remembered."""
        if self.last_heard_us and now_us - self.last_heard_us > SILENT_US:
            self.silences.append(Silence(self.last_heard_us, now_us))
        self.last_heard_us = now_us

    def greet(self, nonce: int) -> None:
        """It is a new incarnation: what it said before is void."""
        self.nonce = nonce
        self.refusal = ""
        self.picture = Picture(self._limits.lanes)
        self.asked = self.owed = False
        self.told_digest = b""
        self.offers.clear()

    def send(self, message: wire.Message, after: int = 0) -> Send:
        """``message`` to it, once ``after`` is durable."""
        return self.frame(wire.encode(message), after)

    def frame(self, frame: bytes, after: int = 0) -> Send:
        """An encoded message to it: of one that goes to many."""
        self.bytes_out += len(frame)
        return Send(self.name, frame, after)

    def hello_due(self, every_us: int, now_us: int) -> bool:
        """Whether it may be greeted once more."""
        return self.connected and (self.hello_us is None or now_us - self.hello_us >= every_us)

    def may_take(self, now_us: int) -> bool:
        """Whether one more batch may be taken from it now; it counts if so, and counts as over the rate if
        not.
        """
        if self._batches.take(1, now_us):
            self.batches += 1
            return True
        self.over_rate += 1
        return False

    def may_tell_heads(self, now_us: int) -> bool:
        """Whether one more ``Heads`` may be taken from it now; counted either way, like the three below."""
        return self._metered(self._heads, 1 + len(self.picture) // 256, now_us)

    def may_say(self, now_us: int) -> bool:
        """Whether one more message for the engine's owner may be taken."""
        return self._metered(self._apps, 1, now_us)

    def may_be_noted(self, now_us: int) -> bool:
        """Whether what it sent may be worth a line in the log."""
        return self._metered(self._notes, 1, now_us)

    def may_prove(self, now_us: int) -> bool:
        """Whether evidence may be taken from it: as long as it has not proved too much of late."""
        if self._forks.ready_us(1, now_us) <= now_us:
            return True
        self.over_rate += 1
        return False

    def proved(self, now_us: int) -> bool:
        """Count a fork that it proved; False when those were too many."""
        return self._metered(self._forks, 1, now_us)

    def _metered(self, bucket: TokenBucket, tokens: int, now_us: int) -> bool:
        taken = bucket.take(tokens, now_us)
        self.over_rate += not taken
        return taken

    def takes_again_us(self, now_us: int) -> int:
        """When a hundredth of a burst may be taken again: worth asking for."""
        return self._batches.ready_us(max(1, self._limits.batches_burst // 100), now_us)

    def refuse(self, reason: str, now_us: int, topic: str = "gossip.refused") -> Notify:
        """Count one refusal, for the log. When there were too many, it is muted from now on, for a while."""
        self.refusals += 1
        fields: dict[str, Any] = {"peer": self.name, "reason": reason}
        if self._refusals.take(1, now_us):
            return Notify(topic, fields)
        self.muted_until_us = now_us + self._limits.mute_us
        return Notify("gossip.muted", {**fields, "for_us": self._limits.mute_us})

    def may_offer(self, piece: bytes, heads_round: int) -> bool:
        """Whether evidence ``piece`` is due to be sent to it: at once, then after 1, 2, 4 ... rounds
        without effect.
        """
        if piece in self.picture.evidence:
            self.offers.pop(piece, None)
            return False
        offer = self.offers.get(piece)
        if offer is None:
            self.offers[piece] = _Offer(heads_round + 1, 1)
            return True
        if offer.at_round > heads_round:
            return False
        offer.gap = min(offer.gap * 2, 64)
        offer.at_round = heads_round + offer.gap
        return True

    def status(self, ours: Mapping[bytes, Head]) -> PeerStatus:
        """A copy for operators. ``ours``: the heads that we hold."""
        theirs = self.picture.heads
        lag = sum(max(0, head.seq - _seq(theirs, lane)) for lane, head in ours.items())
        ahead = sum(max(0, head.seq - _seq(ours, lane)) for lane, head in theirs.items())
        lag, ahead = min(lag, wire.MAX_COUNT), min(ahead, wire.MAX_COUNT)
        return PeerStatus(
            name=self.name,
            connected=self.connected,
            greeted=self.greeted,
            refusal=self.refusal,
            version=self.version,
            capabilities=self.capabilities,
            last_heard_us=self.last_heard_us,
            silences=tuple(self.silences),
            heads=theirs,
            lag=lag,
            ahead=ahead,
            batches=self.batches,
            copies=self.known,
            refusals=self.refusals,
            over_rate=self.over_rate,
            early=self.early,
            late=self.late,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
        )


def _seq(heads: Mapping[bytes, Head], lane: bytes) -> int:
    head = heads.get(lane)
    return head.seq if head is not None else 0
