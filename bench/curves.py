"""Curves of costs and their goals, as they are measured: what a size costs, at sizes some times apart, and how steeply that grows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import median

from bench.measured import Curve, Goal, Plan, slope

HELD = 0.3
"""For a cost that ought not to depend on what is merely held: larger tables are slower memory."""
LINEAR = None
"""Nothing worse than n log n, which over the sizes of a curve has a slope of its own."""


class Growth:
    """Curves and their goals, as they are measured."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rounds = min(plan.runs, plan.size(3, 1))
        self.curves: list[Curve] = []
        self.goals: list[Goal] = []

    def add(
        self, what: str, across: str, points: Iterable[tuple[int, Callable[[], float]]], most: float | None
    ) -> None:
        """Measure ``what`` at sizes ``across``; its slope is to be at ``most`` that."""
        found = tuple((float(size), median(run() for _ in range(self.rounds))) for size, run in points)
        self.put(what, across, "s", found, most)

    def put(
        self, what: str, across: str, upwards: str, points: Sequence[tuple[float, float]], most: float | None
    ) -> None:
        """A curve that is measured, and its goal."""
        self.told(what, across, upwards, points)
        bound = slope([(size, size * math.log(size)) for size, _ in points]) if most is None else most
        self.goals.append(Goal(f"slope of {what} by {across}", self.curves[-1].slope, "most", bound, "of 1"))

    def told(self, what: str, across: str, upwards: str, points: Sequence[tuple[float, float]]) -> None:
        """A curve without a goal."""
        self.curves.append(Curve(what, across, upwards, tuple(points), slope(points)))
