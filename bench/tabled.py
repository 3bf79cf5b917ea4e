"""The tables of docs/performance.md, made of what full runs kept: every goal, what each run measured, and whether it held in all of them;
and who was measured beside.

    python -m bench.tabled docs/performance/runs/*

A run is a folder with the JSON files that ``python -m bench --keep`` writes. The document has between its two marks what this prints, and a
test holds it to that: no figure of the tables was typed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.__main__ import BENCHES
from bench.measured import figure

BEGINS, ENDS = "<!-- bench.tabled -->", "<!-- end -->"
GOALS = "| bench | what | measured | goal | |\n|---|---|---|---|---|"
BESIDE = "| bench | beside ours | takes so many times as long |\n|---|---|---|"


def tabled(runs: Sequence[Path]) -> str:
    """The tables of these runs, in the order of the benches. What a run lacks is told of the others alone."""
    names = {path.stem for run in runs for path in run.glob("*.json")}
    goals, beside = [GOALS], [BESIDE]
    for name in (name for name in BENCHES if name in names):
        told = [json.loads(kept.read_text()) for run in runs if (kept := run / f"{name}.json").exists()]
        goals += _goals(name, told)
        beside += _beside(name, told)
    return "\n".join([*goals, "", *beside])


def _goals(bench: str, told: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A line for each goal of one bench."""
    for goals in zip(*(result["goals"] for result in told), strict=True):
        first = goals[0]
        if len({(goal["what"], goal["unit"], goal["at"]) for goal in goals}) > 1:
            raise ValueError(f"{bench}: these runs were not measured by the same bench: {first['what']!r}")
        measured = "; ".join(figure(goal["measured"]) for goal in goals)
        held = sum(goal["holds"] for goal in goals)
        verdict = "holds" if held == len(goals) else f"holds in {held} of {len(goals)}" if held else "missed"
        bounds = "; ".join(dict.fromkeys(figure(goal["bound"]) for goal in goals))  # some are measured beside
        yield f"| {bench} | {first['what']} | {measured} {first['unit']} | at {first['at']} {bounds} | {verdict} |"


def _beside(bench: str, told: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A line for everything that one bench measured beside ours."""
    for rows in zip(*(result["rows"] for result in told), strict=True):
        if any(row["ratio"] not in (0, 1) for row in rows):  # 1: it is ours
            yield f"| {bench} | {rows[0]['name']} | {'; '.join(figure(row['ratio']) for row in rows)} |"


if __name__ == "__main__":
    sys.stdout.write(tabled([Path(name) for name in sorted(sys.argv[1:])]) + "\n")
