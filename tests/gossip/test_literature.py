"""The simulator against what is published: epidemics whose numbers everybody can look up come out of it as they should.

Demers et al., "Epidemic algorithms for replicated database maintenance" (PODC 1987), table 1 (push, feedback, counter; n = 1000): the
share of nodes that never hear of a rumour, and the updates sent per node. And the rounds that simple epidemics take to reach all of 1000
nodes: push log2 n + ln n + O(1) (Pittel, "On spreading a rumor", 1987), pull and push-pull less (Karp et al., "Randomized rumor
spreading", FOCS 2000).

A mean agrees when it lies within half a unit of the published figure's last place and four standard errors of the sample. All are
samples of one seed: a change of the simulator that shifts them shifts them every time.
"""

from __future__ import annotations

from statistics import mean, stdev

import pytest

from tests.gossip.epidemics import NODES, Epidemic, Mongering, Rule, Spread, spread

SAMPLES = 8
FIRST_ONLY, NEVER_RESET = Mongering(3, together=False), Mongering(3, resets=False)
PUSH, PULL, BOTH = Epidemic(push=True, pull=False), Epidemic(push=False, pull=True), Epidemic(push=True, pull=True)
RULES: list[Rule] = [*(Mongering(k) for k in range(1, 6)), FIRST_ONLY, NEVER_RESET, PUSH, PULL, BOTH]


@pytest.fixture(scope="module")
def spreads() -> dict[Rule, list[Spread]]:
    """Samples of each rule, out of one run."""
    found = spread([rule for rule in RULES for _ in range(SAMPLES)], rounds=60, seed=1987)
    return {rule: found[at * SAMPLES : (at + 1) * SAMPLES] for at, rule in enumerate(RULES)}


def agrees(sample: list[float], published: float, last_place: float) -> bool:
    return abs(mean(sample) - published) <= last_place / 2 + 4 * stdev(sample) / len(sample) ** 0.5


def residue(found: list[Spread]) -> list[float]:
    return [one.missed / NODES for one in found]


def traffic(found: list[Spread]) -> list[float]:
    return [one.sent / NODES for one in found]


@pytest.mark.parametrize(
    ("k", "missed", "missed_place", "sent"),
    [
        (1, 0.18, 0.01, 1.7),
        (2, 0.037, 0.001, 3.3),
        (3, 0.011, 0.001, 4.5),
        (4, 0.0036, 0.0001, 5.6),
        (5, 0.0012, 0.0001, 6.7),
    ],
)
def test_rumour_mongering_leaves_out_and_costs_what_demers_found(
    spreads: dict[Rule, list[Spread]], k: int, missed: float, missed_place: float, sent: float
) -> None:
    found = spreads[Mongering(k)]
    assert agrees(residue(found), missed, missed_place), f"residue {mean(residue(found))}"
    assert agrees(traffic(found), sent, 0.1), f"traffic {mean(traffic(found))}"


@pytest.mark.parametrize("broken", [FIRST_ONLY, NEVER_RESET])
def test_the_rows_do_not_come_out_by_other_rules(spreads: dict[Rule, list[Spread]], broken: Mongering) -> None:
    """What the paper leaves to guess: two that tell one susceptible in the same round were both of use, and of use means to start counting
    anew."""
    assert not agrees(traffic(spreads[broken]), 4.5, 0.1)


@pytest.mark.parametrize(("rule", "rounds"), [(PUSH, 18.0), (PULL, 13.8), (BOTH, 9.2)])
def test_simple_epidemics_reach_everybody_in_the_known_number_of_rounds(
    spreads: dict[Rule, list[Spread]], rule: Epidemic, rounds: float
) -> None:
    found = spreads[rule]
    assert all(one.missed == 0 for one in found)
    assert agrees([float(one.rounds) for one in found], rounds, 0.1), f"rounds {mean(one.rounds for one in found)}"
