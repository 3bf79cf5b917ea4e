"""How long four validators take over a height when each of them holds a million cells.

    python -m bench million

As ``certified``, which holds a tenth of that. The opening alone, a million cells settled by each of four nodes, takes minutes on two
cores, so it is measured only when it is named.
"""

from __future__ import annotations

from bench.certified import measured
from bench.measured import Plan, Result


def measure(plan: Plan) -> Result:
    """Measure four nodes."""
    return measured(plan, "million", plan.size(1_000, 10))
