"""One bench, in whatever process this is: measured, told, and kept if that is wanted."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.drawing import draw
from bench.measured import Plan, Result, goal_text, machine, table

RESULTS = Path(__file__).parent / "results"


class Told(NamedTuple):
    """What a bench says: its ``table``, its ``goals`` and whether they hold, and what was ``left_out``."""

    table: str
    goals: Sequence[tuple[bool, str]] = ()
    left_out: Sequence[str] = ()


def one(name: str, plan: Plan, keep: bool) -> Told:
    """Measure one bench, and keep it. A quick one has no goals."""
    result: Result = importlib.import_module(f"bench.{name}").measure(plan)
    if plan.quick:
        result = result._replace(goals=())
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
    return Told(
        table(result),
        [(goal.holds, f"{name}: {goal_text(goal)}") for goal in result.goals],
        [f"{name}: {what}" for what in result.left_out],
    )
