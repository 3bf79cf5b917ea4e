"""At which rate the orders of one home in one instrument end, by their age: an actuarial life table with two causes.

Ages fall into bands, four to an octave. A band counts the time that orders spent in it, and how many ended in it by a cancel, or by
being consumed whole by others. The rate of a cause is its count over the time; a few invented orders of a stated rate (``PRIOR``) stand for
what has not been seen. All counts halve every ``half_life_us``.

Source: the occurrence/exposure rate of demography, which is the maximum-likelihood rate of a piecewise exponential lifetime.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final, NamedTuple

_PER_OCTAVE: Final = 4
_FIRST_US: Final = 1_024
_STARTS: Final = (0, *(round(_FIRST_US * 2 ** (step / _PER_OCTAVE)) for step in range(25 * _PER_OCTAVE)))
"""Where bands begin, in microseconds of age: the last one at about nine hours."""
BANDS: Final = len(_STARTS)

PRIOR_WEIGHT: Final = 0.05
"""Invented ends per band, per cause."""
PRIOR_RATE: Final = 1e-6
"""Their rate, per microsecond: one a second."""

_STEPS: Final = 8  # decay is applied eight times per half-life


class Hazard(NamedTuple):
    """Expected ends within a stretch of age: by cancel, and by being consumed."""

    cancel: float
    consume: float


def band(age_us: int) -> int:
    """The band of an age."""
    return bisect_right(_STARTS, age_us) - 1


class LifeTable:
    """See the module."""

    __slots__ = ("_cancels", "_consumes", "_decayed_us", "_half_life_us", "_time")

    def __init__(self, half_life_us: int) -> None:
        self._half_life_us = half_life_us
        self._time = [0.0] * BANDS
        self._cancels = [0.0] * BANDS
        self._consumes = [0.0] * BANDS
        self._decayed_us: int | None = None

    def lived(self, age_us: int, cause: str, now_us: int) -> None:
        """An order ended at ``age_us``: by ``"cancel"``, by ``"consume"``, or by us, which counts for its time alone."""
        self._decay(now_us)
        last = band(age_us)
        for number in range(last):
            self._time[number] += _STARTS[number + 1] - _STARTS[number]
        self._time[last] += age_us - _STARTS[last]
        if cause == "cancel":
            self._cancels[last] += 1.0
        elif cause == "consume":
            self._consumes[last] += 1.0

    def hazard(self, age_us: int, stretch_us: float) -> Hazard:
        """What to expect of an order between ``age_us`` and ``stretch_us`` later."""
        cancel = consume = 0.0
        number, position, left = band(age_us), float(age_us), stretch_us
        while left > 0.0:
            until = left if number == BANDS - 1 else min(left, max(0.0, _STARTS[number + 1] - position))
            weight = PRIOR_WEIGHT / PRIOR_RATE + self._time[number]
            cancel += until * (PRIOR_WEIGHT + self._cancels[number]) / weight
            consume += until * (PRIOR_WEIGHT + self._consumes[number]) / weight
            left -= until
            position += until
            number += 1
            if number == BANDS:
                break
        return Hazard(cancel, consume)

    def _decay(self, now_us: int) -> None:
        if self._decayed_us is None:
            self._decayed_us = now_us
        step_us = self._half_life_us // _STEPS
        steps = (now_us - self._decayed_us) // step_us
        if steps <= 0:
            return
        factor = 0.5 ** min(1_000.0, steps / _STEPS)
        for counts in (self._time, self._cancels, self._consumes):
            counts[:] = [count * factor for count in counts]
        self._decayed_us += steps * step_us
