"""How long the journal keeps settled batches: by bytes, the oldest heights first.

The shelf holds the newest settled batches in memory; the journal holds many more, and serves whoever was away for longer. This only
counts: what may be let go of is read off it when a snapshot prunes the journal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

JOURNAL_BYTES = 256 * 1024 * 1024
"""Settled batches in the journal. A node reads its journal whole when it starts, so this also bounds what a start costs."""

MERGED_BYTES = 1024 * 1024
"""Heights are counted together until they weigh so much: most weigh next to nothing."""


class Retention:
    """What settled batches weigh, in order of height. ``floor``: up to which seq a lane's batches may be let go of."""

    def __init__(self, bytes_max: int = JOURNAL_BYTES) -> None:
        self._bytes_max = bytes_max
        self._heights: deque[tuple[dict[bytes, int], int]] = deque()  # (lane -> its newest seq, bytes)
        self._bytes = 0
        self._floors: dict[bytes, int] = {}

    def settled(self, cuts: Mapping[bytes, int], size: int) -> None:
        """A height settled ``size`` bytes of batches, of each lane of ``cuts`` up to a seq."""
        if self._heights and self._heights[-1][1] < MERGED_BYTES:
            before, so_far = self._heights.pop()
            self._heights.append(({**before, **cuts}, so_far + size))
        else:
            self._heights.append((dict(cuts), size))
        self._bytes += size
        while self._bytes > self._bytes_max and len(self._heights) > 1:
            gone, freed = self._heights.popleft()
            self._floors.update(gone)
            self._bytes -= freed

    def floor(self, lane: bytes) -> int:
        """The last seq of ``lane`` that nobody needs to be served any more; 0 for none."""
        return self._floors.get(lane, 0)
