"""Bugs that are planted on purpose are found within the kit's budget, and shrunk to a few steps that a person can follow.

Each is one that real ledgers have had. It is planted by patching a core that is about to start, or a module for the length of one test.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis.stateful import run_state_machine_as_test

import gossip.simulation
from crdtledger.edge.core import NodeCore
from crdtledger.errors import InsufficientRights
from crdtledger.ledger import reference
from crdtledger.ledger.batch import Batch
from crdtledger.testing.machine import ClusterMachine, budget
from crdtledger.testing.story import steps_of, story_of
from gossip.disk import Disk

FEW = 10


def story_of_failure(machine: type[ClusterMachine]) -> str:
    """What ``machine`` says when it is run on the budget that every machine has; the same at every run."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - what breaks is the story's to say
        run_state_machine_as_test(machine, settings=budget(derandomize=True, database=None))
    story = story_of(caught.value)
    assert 0 < len(steps_of(story)) < FEW, story or repr(caught.value)
    return story


def test_a_join_that_is_skipped() -> None:
    """A batch that waited for its predecessor is put into its lane, and never reaches the view."""

    class Skips(ClusterMachine):
        def dress(self, name: str, core: NodeCore) -> NodeCore:
            replica = core.replica
            release, apply = replica._release, replica._apply

            def releases(changed: Any) -> Iterator[Batch]:
                replica._apply = replica._lanes.append  # type: ignore[method-assign]
                yield from release(changed)
                replica._apply = apply  # type: ignore[method-assign]

            replica._release = releases  # type: ignore[method-assign]
            return core

    story = story_of_failure(Skips)
    assert "records" in story


def test_a_client_id_that_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node writes on in its old lane although its disk was put back: epochs are not opened, whoever says so."""

    class Reuses(ClusterMachine):
        def dress(self, name: str, core: NodeCore) -> NodeCore:
            opened = core._open_epoch
            core._open_epoch = lambda reason: None if reason else opened(reason)  # type: ignore[method-assign]
            return core

    story = story_of_failure(Reuses)
    assert "backup" in story


def test_a_spend_without_rights() -> None:
    """A node's check of rights knows nothing of what it has granted away."""

    class Overspends(ClusterMachine):
        def dress(self, name: str, core: NodeCore) -> NodeCore:
            check = core.recorder._check_rights

            def lenient(body: Any, binding: Any) -> Any:
                try:
                    return check(body, binding)
                except InsufficientRights as error:
                    if error.requested > error.held_here + sum(error.held_elsewhere.values()):
                        raise
                    return ()

            core.recorder._check_rights = lenient  # type: ignore[method-assign]
            return core

    story = story_of_failure(Overspends)
    assert "withdrawal" in story or "transfer" in story or "grant" in story
    assert "overdraft" in story


class ForgetfulDisk(Disk):
    """Says that it has synced, and has not: what it holds since the last write but one is in a cache."""

    def crash(self, surviving: int) -> None:
        super().crash(0)
        del self._records[-1:]


def test_a_sync_that_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gossip.simulation, "Disk", ForgetfulDisk)
    story = story_of_failure(type("Forgets", (ClusterMachine,), {}))
    assert "crashes" in story
    assert "lost what it had acknowledged" in story


def test_a_rounding_that_differs_by_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """One node rounds a tie up where the others take the even neighbour."""
    at_work: list[str] = []
    rounded = reference._divide_half_even

    def rounds(numerator: Any, denominator: Any) -> Any:
        return (
            (2 * numerator + denominator) // (2 * denominator) if at_work == ["n1"] else rounded(numerator, denominator)
        )

    monkeypatch.setattr(reference, "_divide_half_even", rounds)

    class Rounds(ClusterMachine):
        def dress(self, name: str, core: NodeCore) -> NodeCore:
            step = core.step

            def steps(event: Any, now_us: int) -> Any:
                at_work[:] = [name]
                try:
                    return step(event, now_us)
                finally:
                    at_work.clear()

            core.step = steps  # type: ignore[method-assign]
            return core

    story = story_of_failure(Rounds)
    assert "COIN" in story
