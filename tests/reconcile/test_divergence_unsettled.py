"""What keeps a figure from being settled: only who is needed for a quorum can, and whoever is silent without being needed is not blamed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from reconcile.divergence.causes import Found, Holder, Rules, Touch
from reconcile.divergence.unsettled import unsettled
from reconcile.quorum import Committee, Validator

S = 1_000_000
NOW = 1_000_000 * S
FACT = Touch("n1/1.aa", 7, "n1", NOW - 60 * S)


def committee(weights: Sequence[int]) -> Committee:
    """Validators n1, n2, ... of these weights."""
    members = (
        Validator(f"n{n}", hashlib.sha256(bytes([n])).digest(), weight) for n, weight in enumerate(weights, start=1)
    )
    return Committee(hashlib.sha256(b"cluster").digest(), tuple(members))


def found(
    weights: Sequence[int],
    silent: Sequence[str] = (),
    lacking: Sequence[str] = (),
    more: Sequence[str] = (),
    touch: Touch = FACT,
) -> Found:
    """As n1 sees it. ``more``: nodes that vote on nothing."""
    names = [*(f"n{n}" for n in range(1, len(weights) + 1)), *more]
    heads: Mapping[str, Mapping[str, int]] = {name: {FACT.lane: 6 if name in lacking else 7} for name in names}
    heard = {name: None if name == "n1" else NOW - (60 if name in silent else 1) * S for name in names}
    holders = [Holder(name, heads[name], heard[name]) for name in names]
    return unsettled([touch], 4, holders, committee(weights), "running", NOW, Rules())


def test_silent_nodes_that_are_not_needed_hold_nothing_up() -> None:
    one = found([1, 1, 1, 1], silent=["n4"])
    assert (one.cause.value, one.status, one.root) == ("IN_FLIGHT", "break", "checkpoint")
    assert "enough validators are heard" in one.why
    assert found([1, 1, 1], silent=["w"], more=["w"]).cause.value == "IN_FLIGHT", "it votes on nothing"


def test_silent_nodes_without_whom_there_is_no_quorum_are_named() -> None:
    two = found([1, 1, 1, 1], silent=["n3", "n4", "w"], more=["w"])
    assert (two.cause.value, two.root) == ("PARTITIONED", "partition")
    assert "without n3, n4 the" in two.why
    assert two.missing == ("n1/1.aa#7 at checkpoint 4",)


def test_validators_that_are_heard_and_lack_the_batch_are_named_with_it() -> None:
    one = found([1, 1, 1], silent=[], lacking=["n2"])
    assert (one.cause.value, one.status, one.missing) == ("MISSING_BATCH", "break", ("n1/1.aa#7 at n2",))
    assert found([1, 1, 1, 1], lacking=["n2"]).cause.value == "IN_FLIGHT", "three of four hold it"
    assert found([1, 1, 1, 1], silent=["n4"], lacking=["n2"]).cause.value == "MISSING_BATCH"


def test_within_its_grace_nothing_is_held_up_by_anybody() -> None:
    young = Touch(FACT.lane, FACT.seq, FACT.node, NOW - S)
    one = found([1, 1, 1], silent=["n2", "n3"], lacking=["n2"], touch=young)
    assert (one.cause.value, one.status) == ("IN_FLIGHT", "in grace")


@given(st.lists(st.integers(1, 9), min_size=2, max_size=6), st.data())
def test_a_partition_is_the_cause_exactly_when_a_quorum_needs_the_silent(
    weights: list[int], data: st.DataObject
) -> None:
    others = [f"n{n}" for n in range(2, len(weights) + 1)]
    silent = data.draw(st.lists(st.sampled_from(others), unique=True))
    left = sum(weight for n, weight in enumerate(weights, start=1) if f"n{n}" not in silent)
    assert (found(weights, silent).cause.value == "PARTITIONED") == (3 * left <= 2 * sum(weights))
