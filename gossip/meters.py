"""Bounds on what a peer may cost: a token bucket, in whole tokens and microseconds.

A bucket holds ``burst`` tokens when full and gains ``per_s`` tokens a second. It is kept in millionths of a
token so that no time passes unpaid and no float drifts between two runs of one seed.
"""

from __future__ import annotations

from typing import Final

_MICRO: Final = 1_000_000


class TokenBucket:
    """Takes are refused, never queued. Time is what the caller says; going back counts as standing still."""

    def __init__(self, per_s: int, burst: int) -> None:
        self._per_s = per_s
        self._full = burst * _MICRO
        self._level = self._full
        self._at_us = 0

    def take(self, tokens: int, now_us: int) -> bool:
        """Take ``tokens`` if they are there; False, and nothing taken, if not."""
        self._fill(now_us)
        if self._level < tokens * _MICRO:
            return False
        self._level -= tokens * _MICRO
        return True

    def ready_us(self, tokens: int, now_us: int) -> int:
        """When ``tokens`` will be there if nobody takes any before (at most ``burst`` are ever waited
        for).
        """
        self._fill(now_us)
        short = min(tokens * _MICRO, self._full) - self._level
        return now_us if short <= 0 else now_us - (-short // self._per_s)

    def _fill(self, now_us: int) -> None:
        if now_us > self._at_us:
            self._level = min(self._full, self._level + (now_us - self._at_us) * self._per_s)
            self._at_us = now_us
