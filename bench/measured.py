"""What every bench says alike: medians of runs that alternate, ratios to ours, the machine, a table and a JSON file.

Figures of different machines, or of one on different days, do not compare; ratios within one run do. So a bench runs its rivals in turn,
round by round, and whoever is slow because the machine is busy is not slow alone.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

RESULTS = Path(__file__).parent / "results"
OURS = "crdtledger"

Run: TypeAlias = Callable[[], float]
"""Does the work once; the seconds that count."""


class Row(NamedTuple):
    """``median_s`` of ``runs_s``. ``rate``: units a second at the median. ``ratio``: our rate over this one: above 1, we are faster."""

    name: str
    runs_s: tuple[float, ...]
    median_s: float
    rate: float
    ratio: float


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


def publish(bench: str, what: str, unit: str, rows: list[Row], facts: Mapping[str, object], keep: bool) -> None:
    """Print the table, and with ``keep`` write ``results/<bench>.json``."""
    told = ", ".join(f"{name} {value}" for name, value in facts.items())
    sys.stdout.write(f"{what}\n{machine()}; {told}\n")
    sys.stdout.write(f"{'':28} {'median s':>10} {'spread s':>17} {unit + '/s':>14} {'times ours':>11}\n")
    for row in rows:
        spread = f"{min(row.runs_s):.3f}..{max(row.runs_s):.3f}"
        sys.stdout.write(f"{row.name:28} {row.median_s:>10.3f} {spread:>17} {row.rate:>14,.0f} {row.ratio:>11.2f}\n")
    if keep:
        RESULTS.mkdir(exist_ok=True)
        body = {"bench": bench, "what": what, "machine": machine(), **facts, "rows": [row._asdict() for row in rows]}
        (RESULTS / f"{bench}.json").write_text(json.dumps(body, indent=2) + "\n")
