"""Hybrid logical clock: one u64 that never goes back and stays close to wall time.

Kulkarni et al., "Logical Physical Clocks and Consistent Snapshots" (2014), section 3, packed: the upper 48 bits are
milliseconds since the Unix epoch, the lower 16 a counter for events within one millisecond. It orders batches for
display and breaks ties between provisional views; it decides nothing about money.

A remote clock that runs ahead is merged only up to ``MAX_DRIFT_MS`` beyond local time, so one wrong machine cannot
drag the cluster's clocks into the future. Clocks are never a reason to refuse a batch.
"""

from __future__ import annotations

MAX_DRIFT_MS = 60_000
COUNTER_BITS = 16
COUNTER_MASK = (1 << COUNTER_BITS) - 1
MAX_TIMESTAMP = (1 << 63) - 1  # so that a timestamp fits a signed 64-bit column


class HybridClock:
    """One node's clock. ``last`` is the newest timestamp given out or merged."""

    __slots__ = ("last",)

    def __init__(self, last: int = 0) -> None:
        self.last = last

    def tick(self, now_us: int) -> int:
        """A timestamp above every earlier one, at wall time if the clock is not ahead of it."""
        wall = (now_us // 1000) << COUNTER_BITS
        self.last = wall if wall > self.last else self.last + 1
        return self.last

    def observe(self, remote: int, now_us: int) -> None:
        """Merge a timestamp seen on a batch, clamped to ``MAX_DRIFT_MS`` ahead of ``now_us``."""
        ceiling = ((now_us // 1000 + MAX_DRIFT_MS) << COUNTER_BITS) | COUNTER_MASK
        self.last = max(self.last, min(remote, ceiling))
