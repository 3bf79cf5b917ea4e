"""Following by certificates: how a node that is behind gets the heights it missed, in order, and serves those behind it.

Once a second everybody says where it stands. Who is behind asks one of those ahead; the answer is a run of (value, certificate),
the oldest that is lacking first. What is asked and answered is bounded; a peer whose answer does not hold is not asked again until
all others were.

It judges nothing: certificates are ``certifying``'s business, settling is ``settling``'s.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from crdtledger.edge.checkpointmessages import MAX_SERVED, MAX_SERVED_BYTES, CertifiedTell, Standing
from crdtledger.edge.setup import Archive

PATIENCE_US: Final = 2_000_000
KEPT: Final = 64
"""Heights that are served from memory; older ones come from the archive."""


class Certified(NamedTuple):
    """A height that ``peer`` says is certified."""

    value: bytes
    certificate: bytes
    peer: str


class Following:
    """What others said of their heights. ``archive(height)`` reads the store of checkpoints."""

    def __init__(self, archive: Archive) -> None:
        self.standings: dict[str, Standing] = {}
        self._archive = archive
        self._queue: dict[int, Certified] = {}
        self._asked: tuple[str, int, int] | None = None  # whom, from which height on, when
        self._failures: dict[str, int] = {}
        self._recent: OrderedDict[int, tuple[bytes, bytes]] = OrderedDict()

    # -- asking ---------------------------------------------------------------------------------------------

    def stands(self, peer: str, standing: Standing) -> None:
        """``peer`` says where it stands."""
        self.standings[peer] = standing

    def gone(self, peer: str) -> None:
        """The link to ``peer`` is gone."""
        self.standings.pop(peer, None)
        if self._asked and self._asked[0] == peer:
            self._asked = None

    def ask(self, first: int, now_us: int) -> str:
        """Whom to ask for the heights from ``first`` on, now; ``""``: nobody, or not yet."""
        if first in self._queue:
            return ""
        if self._asked:
            peer, height, at_us = self._asked
            if height == first and now_us - at_us < PATIENCE_US:
                return ""
            if height == first:
                self.failed(peer)
        ahead = [peer for peer, standing in self.standings.items() if standing.certified >= first]
        if not ahead:
            return ""
        peer = min(ahead, key=lambda name: (self._failures.get(name, 0), name))
        self._asked = (peer, first, now_us)
        return peer

    def told(self, peer: str, tell: CertifiedTell, height: int) -> None:
        """``peer`` answers; ``height`` is settled here already."""
        if self._asked and self._asked[0] == peer:
            self._asked = None
        for at, (value, certificate) in enumerate(tell.checkpoints, tell.first):
            if height < at <= height + MAX_SERVED:
                self._queue.setdefault(at, Certified(value, certificate, peer))

    def next(self, height: int) -> Certified | None:
        """What was told of ``height``. Earlier heights are let go."""
        self._queue = {at: told for at, told in self._queue.items() if at >= height}
        return self._queue.get(height)

    def refuse(self, height: int) -> None:
        """What was told of ``height`` does not hold: nor do we believe the rest of what that peer told."""
        told = self._queue.pop(height)
        self._queue = {at: one for at, one in self._queue.items() if one.peer != told.peer}
        self.failed(told.peer)

    def failed(self, peer: str) -> None:
        """``peer`` did not answer, or not the truth: ask others first."""
        self._failures[peer] = self._failures.get(peer, 0) + 1

    # -- serving --------------------------------------------------------------------------------------------

    def certified(self, height: int, value: bytes, certificate: bytes) -> None:
        """The certificate of ``height`` stands here."""
        self._recent[height] = (value, certificate)
        while len(self._recent) > KEPT:
            self._recent.popitem(last=False)

    def serve(self, first: int) -> CertifiedTell:
        """What is certified from ``first`` on, as much as one answer carries."""
        served: list[tuple[bytes, bytes]] = []
        size = 0
        while len(served) < MAX_SERVED and (pair := self._held(first + len(served))):
            size += len(pair[0]) + len(pair[1])
            if served and size > MAX_SERVED_BYTES:
                break
            served.append(pair)
        return CertifiedTell(first, tuple(served))

    def _held(self, height: int) -> tuple[bytes, bytes] | None:
        if height in self._recent:
            return self._recent[height]
        stored = self._archive(height)
        return (stored.body, stored.certificate) if stored else None
