"""The serving side of repair: answering ``Want`` within bounds, or saying no in a way that helps.

An answer is one of three. ``Range``: batches from ``first`` on, as many as fit. ``Busy``: not now, and when.
``Refused``: not here: not held (never had, or pruned), or ``last`` has another hash here (another branch).

At most ``slots`` answers per peer are under way at once. An engine cannot see a frame leave, so an answer
occupies its slot for as long as its bytes take at ``bytes_per_s``; a peer that asks faster is told ``Busy``.
"""

from __future__ import annotations

import msgspec

from gossip import wire
from gossip.replica import Replica


class ServeLimits(msgspec.Struct, frozen=True):
    """``slots`` answers at once per peer, each at most ``chunk_bytes`` of batches, reckoned at
    ``bytes_per_s``.
    """

    slots: int = 3
    chunk_bytes: int = 1024 * 1024
    bytes_per_s: int = 64 * 1024 * 1024


class RangeServer:
    """Answers the range requests of all peers from one replica. It remembers only when slots fall free."""

    def __init__(self, replica: Replica, limits: ServeLimits) -> None:
        self._replica = replica
        self._limits = limits
        self._slots: dict[str, list[int]] = {}  # peer -> when each occupied slot falls free, in us

    def forget(self, peer: str) -> None:
        """``peer`` is gone: its slots fall free."""
        self._slots.pop(peer, None)

    def answer(self, peer: str, want: wire.Want, now_us: int) -> wire.Range | wire.Busy | wire.Refused:
        """The answer to ``want``. Reads durable batches only, as ``Replica.read`` does."""
        occupied = [until for until in self._slots.get(peer, ()) if until > now_us]
        if len(occupied) >= self._limits.slots:
            self._slots[peer] = occupied
            return wire.Busy(want.request, max(1, (min(occupied) - now_us) // 1000 + 1))
        if want.last < want.first:
            return wire.Refused(want.request, f"empty range {want.first}..{want.last}")
        held = self._replica.hash_at(want.lane, want.last)
        if want.head and held is not None and held != want.head:
            return wire.Refused(want.request, f"another branch: seq {want.last} has another hash here")
        room = min(max(want.max_bytes, 1), self._limits.chunk_bytes)
        runs = wire.pack(self._replica.read(want.lane, want.first, want.last, room))
        if not runs:
            return wire.Refused(want.request, f"not held: seq {want.first}")
        batches = runs[0]
        size = sum(map(len, batches))
        occupied.append(now_us + size * 1_000_000 // self._limits.bytes_per_s)
        self._slots[peer] = occupied
        more = want.first + len(batches) <= want.last
        return wire.Range(want.request, want.lane, want.first, batches, more)
