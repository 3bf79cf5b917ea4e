"""How long four validators take over a height when each of them holds a million cells.

    python -m bench million

As ``certified``, which holds a tenth of that. The opening alone, a million cells settled by each of four nodes, takes minutes on two
cores, so there are three rounds at most.
"""

from __future__ import annotations

from bench.certified import measured
from bench.measured import Plan, Result

ROUNDS = 3


def measure(plan: Plan) -> Result:
    """Measure four nodes."""
    return measured(plan._replace(runs=min(plan.runs, plan.size(ROUNDS, 1))), "million", plan.size(1_000, 10))
