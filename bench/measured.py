"""What every bench says alike: medians of runs that alternate, ratios to ours, the goals and whether they hold, the machine.

Figures of different machines, or of one on different days, do not compare; ratios within one run do. So a bench runs its rivals in turn,
round by round, and whoever is slow because the machine is busy is not slow alone.

A bench is a module with ``measure(plan) -> Result``; ``bench.__main__`` lists them. What it computes is checked: a wrong result is
``Wrong``, and the only thing that fails a bench. A goal that is missed is told, not raised.
"""

from __future__ import annotations

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

OURS = "crdtledger"

Run: TypeAlias = Callable[[], float]
"""Does the work once; the seconds that count."""


class Wrong(AssertionError):
    """What was computed is not what it must be."""


class Plan(NamedTuple):
    """How much to measure. ``quick``: small sizes and few rounds, to see that all of it works. ``captures``: a folder with real captures,
    or None."""

    quick: bool = False
    runs: int = 5
    captures: Path | None = None

    def size(self, full: int, quick: int) -> int:
        """One of the two."""
        return quick if self.quick else full


class Row(NamedTuple):
    """``median`` of ``runs``, in the result's ``unit_of_runs``. ``rate``: units a second at the median, 0 where that says nothing.
    ``ratio``: our rate over this one's: above 1, we are faster. ``unit``: of the median, where it is another one. ``ours``: it is of this
    project, though it is not called so."""

    name: str
    runs: tuple[float, ...]
    median: float
    rate: float = 0.0
    ratio: float = 0.0
    unit: str = ""
    ours: bool = False


class Goal(NamedTuple):
    """``measured`` must be ``at`` least, or most, ``bound``; all in ``unit``."""

    what: str
    measured: float
    at: Literal["least", "most"]
    bound: float
    unit: str

    @property
    def holds(self) -> bool:
        """Whether it is reached."""
        return self.measured >= self.bound if self.at == "least" else self.measured <= self.bound


class Curve(NamedTuple):
    """How a cost grows: ``points`` are (size, cost); ``slope`` is the exponent of the power that fits best: 1 is linear."""

    name: str
    across: str
    upwards: str
    points: tuple[tuple[float, float], ...]
    slope: float


class Result(NamedTuple):
    """What one bench says. ``facts``: sizes and settings that the figures hang on."""

    bench: str
    what: str
    unit: str
    rows: Sequence[Row]
    goals: Sequence[Goal] = ()
    facts: Mapping[str, object] = {}
    unit_of_runs: str = "s"
    curves: Sequence[Curve] = ()


def timed(work: Callable[[], object]) -> float:
    """How long ``work`` takes, in seconds of wall time, with the garbage of what came before collected."""
    gc.collect()
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def rounds(entries: Mapping[str, Run], runs: int, units: int) -> list[Row]:
    """Every entry ``runs`` times, in turn. One of them is called ``OURS``."""
    taken: dict[str, list[float]] = {name: [] for name in entries}
    for _ in range(runs):
        for name, run in entries.items():
            taken[name].append(run())
    ours = statistics.median(taken[OURS])
    return [
        Row(name, tuple(times), median, units / median, median / ours)
        for name, times in taken.items()
        for median in (statistics.median(times),)
    ]


def row(rows: Sequence[Row], name: str) -> Row:
    """The row of one entry."""
    return next(each for each in rows if each.name == name)


def machine() -> str:
    """Processor, cores and interpreter."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def table(result: Result) -> str:
    """A result as people read it on a screen."""
    told = ", ".join(f"{name} {value}" for name, value in result.facts.items())
    lines = [result.what, f"  {machine()}" + (f"; {told}" if told else "")]
    if result.rows:
        unit = result.unit_of_runs
        lines.append(f"  {'':34} {'median ' + unit:>12} {'spread':>21} {result.unit + '/s':>14} {'times ours':>11}")
    for each in result.rows:
        spread = f"{figure(min(each.runs))}..{figure(max(each.runs))}"
        rate = f"{each.rate:,.0f}" if each.rate else ""
        ratio = f"{each.ratio:.2f}" if each.ratio else ""
        lines.append(f"  {each.name:34} {figure(each.median):>12} {spread:>21} {rate:>14} {ratio:>11}")
    for curve in result.curves:
        told = ", ".join(f"{x:g}: {figure(y)}" for x, y in curve.points)
        lines.append(f"  {curve.name}: {curve.upwards} by {curve.across} {told}; slope {curve.slope:.2f}")
    lines += [f"  {'holds ' if goal.holds else 'MISSED'} {goal_text(goal)}" for goal in result.goals]
    return "\n".join([*lines, ""])


def goal_text(goal: Goal) -> str:
    """A goal, and what was measured, in words."""
    return f"{goal.what}: {figure(goal.measured)} {goal.unit}, at {goal.at} {figure(goal.bound)}"


def figure(value: float) -> str:
    """A number with three digits that count, or all before the point."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The exponent p of the power law ``cost = c * size**p`` that fits best, by least squares of the logarithms."""
    import numpy as np

    x, y = np.log(np.array(points, np.float64)).T
    return float(np.polyfit(x, y, 1)[0])
