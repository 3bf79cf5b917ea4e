"""Who gets a batch pushed at once, and who only hears of it: a broadcast tree that grows out of the overlay and heals itself.

Where all are linked to all, a recorder pushes to everybody and nothing is passed on: one hop, no tree. In an overlay (``gossip.overlay``)
a batch has to be passed on, and passing it to every neighbour would bring it to everybody as often as there are neighbours. So each
neighbour is *eager* (gets payloads) or *lazy* (hears of them with the next heads).

Rules.

* A neighbour whose link comes up is eager if it is one of ``branches``, those of a spanning tree that all members compute alike
  (``gossip.overlay``). Without one all are, and the first batches flood: a tree remains of that, too, but when many record at once their
  floods prune each other's branches, and the heads have to mend it.
* Whoever gets a push of which nothing is new to it makes the sender lazy and says so (``wire.Prune``); the sender does the same. What
  remains of the flood is a tree, and a batch then comes to each node about once. One tree serves all recorders.
* The heads, which go to all neighbours, are the digests of the lazy links. Who lacks for longer than ``graft_us`` what a neighbour told
  of asks that neighbour for it, and by the question both make each other eager again: the tree grows over the gap.
* A batch is passed on once, when the replica applied it and it is durable here, to eager neighbours that did not send it and are not
  known to hold it. What nobody signed, what is a duplicate, what waits, is never passed on: nobody can make this node multiply
  anything but new batches of members.
* Nothing here is relied on: who is left out hears it from the heads.

Bounds: ``pending`` names of batches to be passed on (the oldest are dropped beyond it), ``lanes`` doubts per neighbour, a few digests
of frames per neighbour (a network that repeats a frame proves no second path).

Source: Leitao, Pereira and Rodrigues, "Epidemic Broadcast Trees" (SRDS 2007), sections 3.3 to 3.5. Different here: the lazy announcements
are the anti-entropy's own, grafting is its request for a range, and there is no optimisation of the tree for path length.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from hashlib import sha256

import msgspec

from gossip.replica import BatchName, Head

_FRAMES_KNOWN = 8


class TreeLimits(msgspec.Struct, frozen=True):
    """``graft_us``: how long a batch that a neighbour told of may be on its way through the tree before that neighbour is asked for it.
    ``pending``: names of batches that are to be passed on; ``lanes``: told by one neighbour and not here yet."""

    graft_us: int = 250_000
    pending: int = 65_536
    lanes: int = 65_536


class _Doubt(msgspec.Struct):
    due_us: int
    peer: str
    lanes: dict[bytes, Head]


class Tree:
    """One node's edges of the tree. It sends nothing: it says to whom, and what."""

    def __init__(self, limits: TreeLimits, branches: Collection[str]) -> None:
        self._limits = limits
        self._branches = frozenset(branches)
        self._eager: dict[str, None] = {}  # in the order in which they became so
        self._pending: dict[BatchName, str] = {}  # applied, not yet passed on -> who sent it
        self._doubts: deque[_Doubt] = deque()
        self._doubted: dict[str, int] = {}
        self._frames: dict[str, deque[bytes]] = {}

    @property
    def eager(self) -> list[str]:
        """The neighbours that get payloads."""
        return list(self._eager)

    # Links ----------------------------------------------------------------------------------------------

    def joined(self, peer: str) -> None:
        """The link to ``peer`` is up, and it has greeted us."""
        if peer in self._branches:
            self._eager[peer] = None

    def left(self, peer: str) -> None:
        """The link is gone."""
        self._eager.pop(peer, None)
        self._frames.pop(peer, None)

    def grafted(self, peer: str) -> None:
        """``peer`` asks us for something, or is asked: between the two a branch is missing."""
        self._eager[peer] = None

    def pruned(self, peer: str) -> None:
        """``peer`` says that it gets payloads another way."""
        self._eager.pop(peer, None)

    def pushed(self, peer: str, frame: bytes | memoryview, news: int, known: int) -> bool:
        """``peer`` pushed ``frame``: ``news`` batches that were news, and ``known`` that were here already. Whether to tell it to stop."""
        frames = self._frames.setdefault(peer, deque(maxlen=_FRAMES_KNOWN))
        name = sha256(frame).digest()
        repeated = name in frames
        frames.append(name)
        if news:
            self._eager[peer] = None
        if news or not known or repeated:
            return False
        self._eager.pop(peer, None)
        return True

    # Passing on -----------------------------------------------------------------------------------------

    def applied(self, names: Iterable[BatchName], source: str) -> None:
        """The replica took these in, in this order; the first came from ``source``."""
        for name in names:
            self._pending[name] = source
        while len(self._pending) > self._limits.pending:
            del self._pending[next(iter(self._pending))]

    def due(self, durable: Callable[[bytes], int]) -> list[tuple[BatchName, str]]:
        """What is to be passed on now, with its sender: what is durable by now, each once. ``durable``: up to which seq a lane is."""
        due = [(name, source) for name, source in self._pending.items() if name.seq <= durable(name.lane)]
        for name, _ in due:
            del self._pending[name]
        return due

    # Grafting -------------------------------------------------------------------------------------------

    def doubt(self, peer: str, heads: Mapping[bytes, Head], now_us: int) -> Mapping[bytes, Head]:
        """``peer`` told of ``heads`` beyond ours, which may be on their way to us. Returns those that there is no room to wait for."""
        doubted = self._doubted.get(peer, 0)
        if doubted + len(heads) > self._limits.lanes:
            return heads
        self._doubted[peer] = doubted + len(heads)
        self._doubts.append(_Doubt(now_us + self._limits.graft_us, peer, dict(heads)))
        return {}

    def overdue(self, now_us: int) -> list[tuple[str, Mapping[bytes, Head]]]:
        """(neighbour, heads that it told of long enough ago), to be asked for if they are still missing."""
        found: list[tuple[str, Mapping[bytes, Head]]] = []
        while self._doubts and self._doubts[0].due_us <= now_us:
            doubt = self._doubts.popleft()
            self._doubted[doubt.peer] -= len(doubt.lanes)
            found.append((doubt.peer, doubt.lanes))
        return found

    @property
    def wake_us(self) -> int | None:
        """When something will be overdue."""
        return self._doubts[0].due_us if self._doubts else None
