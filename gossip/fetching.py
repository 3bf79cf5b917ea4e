"""What an engine asks its peers for, and when: what they told of is compared with what is here, and the difference fetched.

A head beyond ours is *claimed*, and catch-up asks for it; a head that is not the one that stands here is *suspected*, and looked at. In
an overlay what is beyond us may be on its way along the tree: it is doubted for a while before anybody is asked, and asking grafts.

Whom to ask first, how much and how often is catch-up's to say (``gossip.catchup``); how long to wait for the tree is the tree's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gossip.catchup import Catchup
from gossip.effects import Send, StartTimer
from gossip.peers import Peer
from gossip.replica import Head, Replica
from gossip.tree import Tree

CATCHUP_TIMER: Final = "gossip.catchup"


class Fetching:
    """One engine's side of it. ``peers``: the engine's own, by name."""

    def __init__(self, replica: Replica, catchup: Catchup, tree: Tree | None, peers: Mapping[str, Peer]) -> None:
        self._replica = replica
        self._catchup = catchup
        self._tree = tree
        self._peers = peers
        self._wake_us: int | None = None

    def compare(self, peer: Peer, heads: Mapping[bytes, Head], now_us: int, *, patient: bool = False) -> None:
        """What ``peer`` holds beyond us is to be fetched; what it holds instead of ours is to be looked at. ``patient``: what is
        beyond us may be on its way through the tree.
        """
        beyond: dict[bytes, Head] = {}
        ours = self._replica.heads()
        for lane, head in heads.items():
            if ours.get(lane) == head:
                continue
            if head.seq > self._replica.admitted(lane):
                beyond[lane] = head
            elif head.hash and self._replica.hash_at(lane, head.seq) not in (None, head.hash):
                self._catchup.suspect(peer.name, lane, head)
        if patient and beyond and self._tree:
            beyond = dict(self._tree.doubt(peer.name, beyond, now_us))
        for lane, head in beyond.items():
            self._catchup.claim(peer.name, lane, head)

    def plan(self, now_us: int) -> list[Send | StartTimer]:
        """The requests that are due, and the timer for the next ones."""
        out: list[Send | StartTimer] = []
        for name, heads in self._tree.overdue(now_us) if self._tree else ():
            if self._peers[name].open:
                self.compare(self._peers[name], heads, now_us)
        for name, want in self._catchup.plan(now_us, self._replica.admitted):
            peer = self._peers[name]
            if peer.connected:
                if self._tree:
                    self._tree.grafted(name)
                out.append(peer.send(want))
        wakes = [self._catchup.wake_us, self._tree.wake_us if self._tree else None]
        wake_us = min((wake for wake in wakes if wake is not None), default=None)
        if wake_us is not None and (self._wake_us is None or wake_us < self._wake_us):
            self._wake_us = wake_us
            out.append(StartTimer(CATCHUP_TIMER, max(1, wake_us - now_us)))
        return out

    def woken(self) -> None:
        """The timer fired."""
        self._wake_us = None
