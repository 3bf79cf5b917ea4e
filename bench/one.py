"""One bench, in whatever process this is: measured, printed, and kept if that is wanted."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from bench.drawing import draw
from bench.measured import Plan, Result, goal_text, machine, table

RESULTS = Path(__file__).parent / "results"


def one(name: str, plan: Plan, keep: bool) -> list[tuple[bool, str]]:
    """Measure, print and keep one bench; its goals."""
    result: Result = importlib.import_module(f"bench.{name}").measure(plan)
    sys.stdout.write(table(result) + "\n")
    sys.stdout.flush()
    if keep:
        RESULTS.mkdir(exist_ok=True)
        body = {
            **result._asdict(),
            "machine": machine(),
            "quick": plan.quick,
            "rows": [row._asdict() for row in result.rows],
            "goals": [{**goal._asdict(), "holds": goal.holds} for goal in result.goals],
            "curves": [curve._asdict() for curve in result.curves],
        }
        (RESULTS / f"{name}.json").write_text(json.dumps(body, indent=2) + "\n")
        (RESULTS / f"{name}.svg").write_text(draw(result, quick=plan.quick))
    return [(goal.holds, f"{name}: {goal_text(goal)}") for goal in result.goals]
