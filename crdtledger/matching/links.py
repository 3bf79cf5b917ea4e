"""How long things take between two nodes, measured from what arrives: samples of delays, silence, and what silence means.

A link keeps the newest samples of four times: from a fact's record at the peer until it is seen here (with the difference of the two
clocks in it), between two signs of life, from a match of ours until its answer is here, and how long past silences were that ended.

A silence longer than a live link ever has is taken for a partition. A partition is a delay with an open end: of one that has lasted for
``s`` nothing says that it ends soon, and by the copy principle (Gott, Nature 363, 1993; the memoryless prior over scales) it lasts for
more than another ``x`` with probability s / (s + x). So what is expected of it grows with it, and nothing is ever stuck."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Final, TypeVar

from crdtledger.matching.staleness import PeerAge

SAMPLES: Final = 64
"""As many of each time are kept."""
QUANTILES: Final = (0.125, 0.375, 0.625, 0.875)
"""A distribution is handed on as these four quantiles, equally likely each."""

RATE_US: Final = 10_000_000
"""Facts are counted with a weight that falls by a factor e in this time."""

_PRIOR_US: Final = 50_000
LIVELY: Final = 2
"""A silence longer than this many times the longest usual gap is a partition's."""
_STRANGE: Final = 8
"""So many such silences in a row are no partitions: the peer has become quieter."""
_COPIES: Final = 2
"""What is expected without experience weighs as much as this many times four past partitions."""


Number = TypeVar("Number", int, float)


class Delays:
    """The newest samples of one time, in microseconds."""

    __slots__ = ("_new", "_quantiles", "_samples")

    def __init__(self) -> None:
        self._samples: deque[int] = deque(maxlen=SAMPLES)
        self._new = 0
        self._quantiles: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self._samples)

    def add(self, us: int) -> None:
        """One more sample. What was worked out is kept until an eighth of the samples are new."""
        self._samples.append(us)
        self._new += 1
        if len(self._samples) < SAMPLES or self._new >= SAMPLES // 8:
            self._quantiles, self._new = None, 0

    def quantiles(self) -> tuple[int, ...]:
        """The samples at ``QUANTILES``; a prior while there are none."""
        if self._quantiles is None:
            ordered = sorted(self._samples)
            self._quantiles = tuple(at(ordered, q) for q in QUANTILES) if ordered else (_PRIOR_US,) * len(QUANTILES)
        return self._quantiles

    def ordered(self) -> list[int]:
        """The samples, rising."""
        return sorted(self._samples)


def at(ordered: Sequence[Number], quantile: float) -> Number:
    """The sample at a quantile of rising samples."""
    return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))]


class Link:
    """What is known of the way to and from one peer."""

    __slots__ = (
        "_counted_us",
        "_facts",
        "_longest_gap",
        "_strange",
        "_whole_us",
        "arrival",
        "heard_us",
        "outages",
        "round_trip",
        "upto_us",
    )

    def __init__(self) -> None:
        self.upto_us = 0
        self.heard_us = 0
        self.arrival = Delays()
        self.round_trip = Delays()
        self.outages: deque[int] = deque(maxlen=SAMPLES)
        self._longest_gap = 0.0
        self._strange = 0
        self._whole_us = 0  # when the last partition ended
        self._facts = 0.0
        self._counted_us = 0

    def recorded(self, now_us: int) -> None:
        """One more fact of the peer is here."""
        self._facts = self._facts_at(now_us) + 1.0
        self._counted_us = now_us

    def _facts_at(self, now_us: int) -> float:
        return self._facts * math.exp(-max(0, now_us - self._counted_us) / RATE_US)

    def peer_age(self, now_us: int) -> PeerAge:
        """What ``staleness.fresh`` must know of the peer. A peer that is cut off is taken to go on recording as it did when last heard."""
        live = self.silence(now_us) <= LIVELY
        rate = self._facts_at(now_us if live else self.heard_us) / RATE_US
        return PeerAge(self.age_us(now_us), self.arrival.ordered() if live else (), rate)

    def heard(self, upto_us: int, now_us: int) -> None:
        """All that the peer recorded up to ``upto_us`` by its clock is here."""
        if self.heard_us:
            gap = now_us - self.heard_us
            usual = self._longest_gap
            if not usual or gap <= usual * LIVELY:
                self._longest_gap = max(float(gap), usual * 0.999)
                self._strange = 0
            else:
                self.outages.append(gap)
                self._whole_us = now_us
                self._strange += 1
                if self._strange == _STRANGE:
                    self._longest_gap, self._strange = float(gap), 0
        self.heard_us = max(self.heard_us, now_us)
        if upto_us > self.upto_us:
            self.upto_us = upto_us
            if upto_us > self._whole_us:
                self.arrival.add(now_us - upto_us)

    def answered(self, asked_us: int, now_us: int) -> None:
        """A match of ours was answered. What a partition held up says nothing of a link that is whole."""
        if asked_us > self._whole_us:
            self.round_trip.add(now_us - asked_us)

    def age_us(self, now_us: int) -> int:
        """How old the newest is that we know of the peer, clocks taken as they are."""
        return max(0, now_us - self.upto_us)

    def silence(self, now_us: int) -> float:
        """The present silence in longest usual gaps: above 1 it is unusual."""
        return (now_us - self.heard_us) / (self._longest_gap or _PRIOR_US)

    def reach_us(self, now_us: int) -> tuple[float, ...]:
        """How long until the peer sees what is written here now, at ``QUANTILES``.

        Half a round trip, or an arrival's delay before the first. In a partition what is left of it comes on top.
        """
        known = self.round_trip if len(self.round_trip) else self.arrival
        share = 0.5 if len(self.round_trip) else 1.0
        usual = [max(0.0, share * us) for us in known.quantiles()]
        silence_us = now_us - self.heard_us
        if self.silence(now_us) <= LIVELY:
            return tuple(usual)
        left = [float(us - silence_us) for us in self.outages if us > silence_us]
        left += [silence_us * q / (1.0 - q) for q in QUANTILES] * _COPIES
        left.sort()
        return tuple(us + at(left, q) for us, q in zip(usual, QUANTILES, strict=True))
