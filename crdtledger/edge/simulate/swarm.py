"""Scenarios drawn at random: a swarm of them finds what one well-meant mixture of everything never does.

Every kind of fault and of request is left out with probability 1/2: what is always there hides what only its absence lets happen (a
cluster that is healed every few seconds never grows a long branch). After Groce, Zhang, Eide, Chen and Regehr, "Swarm testing" (ISSTA
2012).
"""

from __future__ import annotations

from random import Random

import msgspec

from crdtledger.edge.simulate.liars import LIES
from crdtledger.edge.simulate.scenario import TRADING, Nemesis, Scenario, Workload
from gossip.network import Faults


def draw_scenario(seed: int, seconds: int) -> Scenario:
    """The scenario of the swarm for ``seed``: the same one every time."""
    draw = Random(f"{seed} swarm")

    def perhaps(*values: int) -> int:
        """0 half the time."""
        return draw.choice(values) if draw.random() < 0.5 else 0

    nodes = draw.choice((2, 3, 3, 4, 4, 4, 4, 4, 4, 5, 7))
    agreement = draw.random() < 0.8
    liars = (nodes - 1) // 3 if agreement and draw.random() < 0.3 else 0
    faults = Faults(
        latency_min_us=200,
        latency_mean_us=draw.choice((500, 5_000, 80_000)),
        loss_ppm=perhaps(1_000, 20_000, 150_000),
        duplicate_ppm=perhaps(1_000, 100_000),
        reorder=draw.random() < 0.5,
        sync_us=draw.choice((500, 2_000, 100_000)),
        torn=draw.random() < 0.5,
        trace_lines=200,
    )
    kinds = [kind for kind in Workload.__struct_fields__[1:] if kind not in TRADING]
    weights = {kind: perhaps(1, 2, 8) for kind in kinds}
    if not any(weights.values()):
        weights["fills"] = 1
    pause_ms = draw.choice((500, 2_000, 4_000, 8_000))
    means = {kind: perhaps(10, 30, 100) for kind in Nemesis.__struct_fields__ if kind not in ("heal_s", "down_s")}
    if liars or (agreement and nodes < 4):
        means["restore_s"] = (
            0  # a validator whose disk is lost is a fault: beside a liar, or among three, it is one too many
        )
    nemesis = Nemesis(**means, heal_s=draw.choice((3, 10, 60)), down_s=draw.choice((1, 5, 30)))
    drawn = Scenario(
        nodes=nodes,
        seconds=seconds,
        agreement=agreement,
        checkpoint_ms=draw.choice((3_000, 10_000, 20_000, 20_000, 60_000)),
        prunes=agreement and draw.random() < 0.5,
        shelf_heights=draw.choice((1, 4, 16)),
        liars=tuple(draw.choice(LIES) for _ in range(liars)),
        faults=faults,
        nemesis=nemesis,
    )
    busy = perhaps(1, 3)  # a trade takes all of them: nobody answers what nobody asks
    weights |= {kind: busy * getattr(Workload(), kind) for kind in TRADING}
    jumps = Random(f"{seed} jumps")  # of its own, so that a seed's other options stay what they were
    jump_heights = jumps.choice((2, 4, 16)) if agreement and jumps.random() < 0.5 else 0
    workload = Workload(pause_ms=pause_ms, **weights)
    return msgspec.structs.replace(drawn, workload=workload, jump_heights=jump_heights)


def with_trace(scenario: Scenario, lines: int) -> Scenario:
    """The same scenario, of which the last ``lines`` lines of the trace are kept. That changes no run."""
    return msgspec.structs.replace(scenario, faults=msgspec.structs.replace(scenario.faults, trace_lines=lines))
