"""The machine that users subclass: with what is theirs it finds what is theirs, and a cluster that is right passes."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from crdtledger.edge.core import NodeCore
from crdtledger.edge.simulate import writing
from crdtledger.edge.simulate.writing import Json
from crdtledger.testing.drawing import pick
from crdtledger.testing.machine import ClusterMachine, budget
from crdtledger.testing.opened import Opening
from crdtledger.testing.story import steps_of, story_of

FUND = 1_000
PLACES = ("paris", "tokyo")


class Treasury(ClusterMachine):
    """A user's own: other nodes, other facts, fees, and what must be true of them."""

    nodes = PLACES
    purse = ("FUND", "USDT")
    seen: ClassVar[Counter[str]] = Counter()

    def facts(self) -> st.SearchStrategy[Json]:
        return st.builds(writing.withdrawal, st.just(""), st.just("FUND"), st.just("USDT"), pick((1, 300)))

    def opening(self) -> Opening:
        names = [writing.account("FUND"), writing.account("FEES")]
        grant = writing.grant("share", "FUND", "USDT", FUND // 2, "tokyo")
        return [("paris", [*names, writing.deposit("all", "FUND", "USDT", FUND)]), ("paris", [grant])]

    @rule(place=pick(PLACES), amount=pick((1, 50)))
    def pay_a_fee(self, place: str, amount: int) -> None:
        self.seen["pay_a_fee"] += 1
        self.begin_step(f"{place} pays a fee of {amount}")
        self.record(place, writing.transfer(f"fee {len(self.story)}", "FUND", "USDT", amount, "FEES"))
        self.wait(3_000)

    def check_node(self, name: str, core: NodeCore) -> None:
        self.seen["check_node"] += 1
        for row in core.replica.view.collateral_rows():
            assert row.held + row.withdrawn == row.deposited

    def check_agreement(self) -> None:
        self.seen["check_agreement"] += 1
        fees = {name: self.fees(name) for name in PLACES}
        assert fees["paris"] == fees["tokyo"], fees

    @invariant()
    def no_more_is_paid_than_there_is(self) -> None:
        self.seen["invariant"] += 1
        assert all(self.fees(name) <= FUND for name in self.cluster.sim.up())

    def fees(self, name: str) -> int:
        """What ``name`` knows to have been paid as fees."""
        entries = self.watch.disks[name]
        terms = [said.said[2] for entry in entries for said in entry.statements if said.said[0] == "transfer"]
        return sum(term[2] for term in terms)


def test_a_user_says_what_is_recorded_and_what_must_hold() -> None:
    run_state_machine_as_test(Treasury, settings=budget(derandomize=True, database=None, max_examples=20))
    assert Treasury.seen["check_node"] > 100
    assert Treasury.seen["check_agreement"] >= 20
    assert Treasury.seen["pay_a_fee"] > 5
    assert Treasury.seen["invariant"] > 100


def test_what_breaks_a_users_own_invariant_is_told_in_the_users_own_words() -> None:
    class Thrifty(Treasury):
        @invariant()
        def fees_stay_low(self) -> None:
            assert all(self.fees(name) < 100 for name in self.cluster.sim.up()), "too much is paid in fees"

    with pytest.raises(AssertionError) as caught:
        run_state_machine_as_test(Thrifty, settings=budget(derandomize=True, database=None, max_examples=1_000))
    story = story_of(caught.value)
    steps = steps_of(story)
    assert len(steps) < 10, story
    assert sum("pays a fee of 50: acknowledged" in step for step in steps) == 2, story
    assert "pays a fee of 50: acknowledged" in steps[-1], story
    assert "broken: too much is paid in fees" in story


def test_everything_that_can_go_wrong_is_a_rule() -> None:
    rules = {one.function.__name__ for one in ClusterMachine.setup_state().rules}
    faults = {
        "partition",
        "heal",
        "deliver",
        "drop",
        "duplicate",
        "crash",
        "restart",
        "jump_clock",
        "back_up",
        "restore",
    }
    assert faults | {"record_fact"} <= rules


@pytest.mark.parametrize(("agrees", "examples"), [(False, 30), (True, 10)])
def test_a_cluster_that_is_right_passes_and_plays_again_byte_for_byte(agrees: bool, examples: int) -> None:
    class Replayed(ClusterMachine):
        agreement = agrees
        ends: ClassVar[Counter[str]] = Counter()

        def finish(self) -> None:
            super().finish()
            if self.seed % 4 == 0:
                digest = self.cluster.sim.trace.digest()
                assert self.replayed().sim.trace.digest() == digest
                self.ends["replayed"] += 1
            self.ends["settled"] += bool(self.watch.digests)

    run_state_machine_as_test(Replayed, settings=budget(derandomize=True, database=None, max_examples=examples))
    assert Replayed.ends["replayed"]
    assert bool(Replayed.ends["settled"]) is agrees


def test_with_fewer_than_four_validators_no_disk_is_lost() -> None:
    class Small(ClusterMachine):
        agreement = True
        nodes = ("n0", "n1", "n2")

    assert ClusterMachine.nodes == Small.nodes
    assert len(type("Agreeing", (ClusterMachine,), {"agreement": True}).nodes) == 4
    run_state_machine_as_test(Small, settings=budget(derandomize=True, database=None, max_examples=5))
