"""The shelf: settled batches that a replica keeps for a while, to serve them to peers that are a few heights behind.

Bounded by heights and by bytes; the oldest heights go first. It has no part in any figure: two replicas with equal frontier
and base are equal whatever their shelves hold.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from crdtledger.ledger.batch import Batch

SHELF_HEIGHTS = 64
SHELF_BYTES = 64 * 1024 * 1024


class Shelf:
    """Per lane an unbroken run of settled batches that ends at the cut. ``bytes`` is what it holds."""

    def __init__(self, heights_max: int = SHELF_HEIGHTS, bytes_max: int = SHELF_BYTES) -> None:
        self._heights_max, self._bytes_max = heights_max, bytes_max
        self._lanes: dict[bytes, deque[Batch]] = {}
        self._heights: deque[dict[bytes, int]] = deque()  # how many batches of each lane came with a height
        self.bytes = 0

    def emptied(self) -> Shelf:
        """One with the same bounds that holds nothing."""
        return Shelf(self._heights_max, self._bytes_max)

    def __len__(self) -> int:
        return sum(len(batches) for batches in self._lanes.values())

    def add(self, settled: Mapping[bytes, Sequence[Batch]]) -> None:
        """Put away what one height settled: per lane the batches that follow those already here."""
        for lane, batches in settled.items():
            self._lanes.setdefault(lane, deque()).extend(batches)
            self.bytes += sum(len(batch.raw) for batch in batches)
        self._heights.append({lane: len(batches) for lane, batches in settled.items()})
        self._trim()

    def add_older(self, settled: Mapping[bytes, Sequence[Batch]]) -> None:
        """Put away, as one height before all others, what of each lane precedes the oldest batch here."""
        for lane, batches in settled.items():
            self._lanes.setdefault(lane, deque()).extendleft(reversed(batches))
            self.bytes += sum(len(batch.raw) for batch in batches)
        self._heights.appendleft({lane: len(batches) for lane, batches in settled.items()})
        self._trim()

    def _trim(self) -> None:
        while self._heights and (len(self._heights) > self._heights_max or self.bytes > self._bytes_max):
            self._forget(self._heights.popleft())

    def _forget(self, counts: Mapping[bytes, int]) -> None:
        for lane, count in counts.items():
            held = self._lanes[lane]
            for _ in range(count):
                self.bytes -= len(held.popleft().raw)
            if not held:
                del self._lanes[lane]

    def at(self, lane: bytes, seq: int) -> Batch | None:
        """The settled batch at a place, if it is still here."""
        held = self._lanes.get(lane)
        if not held or not held[0].seq <= seq <= held[-1].seq:
            return None
        return held[seq - held[0].seq]

    def oldest(self, lane: bytes) -> Batch | None:
        """The first batch of a lane that is still here."""
        held = self._lanes.get(lane)
        return held[0] if held else None
