"""Agreement in a bad world: one history whatever happens, progress once it heals.

``AGREEMENT_SEEDS=5000`` runs each family that many times; ``AGREEMENT_FIRST_SEED`` starts elsewhere.
"""

from __future__ import annotations

import contextlib
import os

import pytest

from tests.reconcile.agreement_simulation import (
    LIES,
    Disagreement,
    NoProgress,
    Plan,
    World,
    quick_signatures,  # noqa: F401
)

SEEDS = int(os.environ.get("AGREEMENT_SEEDS", "24"))
FIRST = int(os.environ.get("AGREEMENT_FIRST_SEED", "0"))

pytestmark = [pytest.mark.usefixtures("quick_signatures"), pytest.mark.timeout(0 if SEEDS > 100 else 300)]


def run_all(plan: Plan, seeds: int = SEEDS) -> list[World]:
    """Run ``plan`` under every seed; the first failure names its seed."""
    worlds = []
    for seed in range(FIRST, FIRST + seeds):
        world = World(seed, plan)
        try:
            world.run()
        except AssertionError as fault:
            raise AssertionError(f"seed {seed} of {plan}: {fault}") from fault
        worlds.append(world)
    return worlds


def test_honest_validators_agree_through_loss_cuts_and_crashes() -> None:
    run_all(Plan(crashes=4, cuts=4, loss=0.2))


@pytest.mark.parametrize("lie", LIES)
def test_one_liar_of_four_neither_splits_nor_stops_the_others(lie: str) -> None:
    run_all(Plan(liars=1, lies=(lie,)))


def test_two_liars_of_seven_neither_split_nor_stop_the_others() -> None:
    run_all(Plan(weights=(1,) * 7, liars=2, heal_us=3_000_000), max(3, SEEDS // 4))


def test_weights_count_not_heads() -> None:
    run_all(Plan(weights=(3, 2, 2, 1, 2), liars=1), max(3, SEEDS // 4))


def test_a_restored_validator_without_its_votes_contradicts_nobody_and_votes_again_later() -> None:
    for world in run_all(Plan(restored=True, crashes=0, heights=5)):
        for place in world.forgetful:
            assert world.nodes[place].votes_from > 1


def test_with_more_than_a_third_lying_the_checker_does_find_a_disagreement() -> None:
    """Otherwise it would not find one either where there must be none."""
    plan = Plan(liars=2, lies=("split",), heights=1, crashes=0, cuts=0, heal_us=0, end_us=20_000_000)
    with pytest.raises(Disagreement):
        try_all(range(FIRST, FIRST + 20), plan)


def try_all(seeds: range, plan: Plan) -> None:
    """Runs that may stand still, as they may with so many liars."""
    for seed in seeds:
        with contextlib.suppress(NoProgress):
            World(seed, plan).run()
