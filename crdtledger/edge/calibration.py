"""Survival held against what became of matches: the rows that ``matches`` tells, added up. Pure.

A tentative match counts once its maker's home has answered it: *survived* if it stands whole, as the survival that it was given says
(docs/explanation/survival.md). What waits is censored: counted apart, and in no score.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

PPM: Final = 1_000_000
BINS: Final = 5


class Bin(msgspec.Struct, frozen=True):
    """Matches whose survival lay from ``low`` up to ``high``, in percent. ``predicted``, ``survived``: means, as parts of 1."""

    low: int
    high: int
    matches: int
    predicted: float
    survived: float


class Calibration(msgspec.Struct, frozen=True):
    """What a node's matches came to. ``tentative`` were answered, ``waiting`` not; ``survived`` whole, ``trimmed``, ``voided``: of those
    answered. ``predicted``: how many were to survive by the survivals that they were given; ``brier``: the mean squared error."""

    matches: int
    firm: int
    waiting: int
    tentative: int
    survived: int
    trimmed: int
    voided: int
    predicted: float
    brier: float
    bins: tuple[Bin, ...]

    def __str__(self) -> str:
        """In words."""
        if not self.matches:
            return "no matches in this period: there is nothing to calibrate"
        told = (
            f"{self.matches} matches: {self.firm} firm, {self.tentative} tentative and answered, {self.waiting} waiting"
        )
        if not self.tentative:
            return told
        fate = f"{self.survived} survived whole where {self.predicted:.1f} were promised (Brier score {self.brier:.3f})"
        return f"{told}; of the answered {fate}, {self.trimmed} trimmed, {self.voided} voided"


def calibrate(rows: Iterable[Mapping[str, Any]]) -> Calibration:
    """Add up rows of ``matches``."""
    firm = waiting = trimmed = voided = 0
    answered: list[tuple[float, bool]] = []
    for row in rows:
        whole = row["stands"] == row["qty"]
        if not row["survival"]:
            firm += 1
        elif row["status"] == "tentative":
            waiting += 1
        else:
            answered.append((row["survival"] / PPM, whole))
            none = not row["stands"].strip("0.")
            voided += none
            trimmed += not whole and not none
    count = len(answered)
    bins = [[one for one in answered if number <= one[0] * BINS < number + 1] for number in range(BINS)]
    return Calibration(
        matches=firm + waiting + count,
        firm=firm,
        waiting=waiting,
        tentative=count,
        survived=sum(whole for _, whole in answered),
        trimmed=trimmed,
        voided=voided,
        predicted=round(sum(said for said, _ in answered), 3),
        brier=round(sum((said - whole) ** 2 for said, whole in answered) / count, 4) if count else 0.0,
        bins=tuple(_bin(number, each) for number, each in enumerate(bins) if each),
    )


def _bin(number: int, answered: list[tuple[float, bool]]) -> Bin:
    count, width = len(answered), 100 // BINS
    predicted, survived = sum(said for said, _ in answered) / count, sum(whole for _, whole in answered) / count
    return Bin(number * width, (number + 1) * width, count, round(predicted, 4), round(survived, 4))
