"""What peers are told of the frontier held here, and when: a little in every heads round, everything to whoever needs it.

Nobody gets much out of us by asking little, often: everything is told at most four times in a heads interval; what is asked for sooner
is *owed*, and told with the next heads. Evidence that a peer does not report goes with both.
"""

from __future__ import annotations

from collections.abc import Sequence

from gossip import heads as frontiers
from gossip import wire
from gossip.effects import Send
from gossip.forks import Forks
from gossip.peers import Peer
from gossip.replica import Replica


class Telling:
    """One engine's side of it. ``interval_us``: of the heads; ``complete_every``: see ``config.Config``."""

    def __init__(self, replica: Replica, forks: Forks, interval_us: int, complete_every: int) -> None:
        self._own = frontiers.OwnFrontier(replica)
        self._forks = forks
        self._interval_us = interval_us
        self._complete_every = complete_every
        self._round = 0
        self._digest = b""
        self._news: list[bytes] = []

    def begin(self) -> None:
        """Begin a heads round: what is new since the last one is put into frames, once for all peers."""
        self._round += 1
        self._digest = self._own.digest()
        self._news = [wire.encode(message) for message in self._own.news()]

    def turn(self, peer: Peer, now_us: int) -> list[Send]:
        """What an open peer is told in this round."""
        differs = peer.picture.claimed != self._digest
        if peer.owed or (differs and self._round % self._complete_every == 0):
            return self.everything(peer, now_us)
        peer.told_digest = self._digest
        return [*(peer.frame(frame) for frame in self._news), *self.evidence(peer)]

    def everything(self, peer: Peer, now_us: int) -> list[Send]:
        """The whole frontier, now."""
        peer.owed = False
        peer.told_all_us = now_us
        return [*self._tell(peer, self._own.everything()), *self.evidence(peer)]

    def everything_or_owe(self, peer: Peer, now_us: int) -> list[Send]:
        """The whole frontier, now or with the next heads."""
        told_us = peer.told_all_us
        if told_us is None or now_us - told_us >= self._interval_us // 4:
            return self.everything(peer, now_us)
        peer.owed = True
        return []

    def ask(self, peer: Peer) -> list[Send]:
        """Ask for everything, by saying again what ``peer`` was told last."""
        if not peer.told_digest:
            return []
        return self._tell(peer, frontiers.messages(peer.told_digest, {}, complete=False, asks=True))

    def evidence(self, peer: Peer) -> list[Send]:
        """What is due of the evidence that ``peer`` does not report."""
        return self._forks.offer(peer, self._round)

    @staticmethod
    def _tell(peer: Peer, messages: Sequence[wire.Heads]) -> list[Send]:
        peer.told_digest = messages[-1].digest
        return [peer.send(message) for message in messages]
