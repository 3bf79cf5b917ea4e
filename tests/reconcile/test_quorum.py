"""The committee: who votes, what is enough, and whose turn it is."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.errors import BadInput
from reconcile.quorum import MAX_WEIGHT, Committee, Validator, committee_of
from tests.crdtledger.worlds import genesis
from tests.reconcile.agreement_simulation import committee_of_weights, identity_of

FOUR = committee_of_weights((1, 1, 1, 1))

weights = st.lists(st.integers(1, 9), min_size=1, max_size=9).map(tuple)


@pytest.mark.parametrize(("total", "least"), [(1, 1), (2, 2), (3, 3), (4, 3), (6, 5), (7, 5), (10, 7)])
def test_a_quorum_is_strictly_more_than_two_thirds(total: int, least: int) -> None:
    committee = committee_of_weights((1,) * total)
    assert next(weight for weight in range(total + 1) if committee.is_quorum(weight)) == least
    assert not committee.is_quorum(least - 1)


@given(weights)
def test_two_quorums_share_an_honest_validator_and_a_witness_set_has_one(weights: tuple[int, ...]) -> None:
    committee = committee_of_weights(weights)
    faulty = committee.tolerated
    assert 3 * faulty < committee.total <= 3 * (faulty + 1)
    quorum = next(weight for weight in range(committee.total + 1) if committee.is_quorum(weight))
    assert 2 * quorum - committee.total > faulty
    assert committee.is_quorum(committee.total - faulty)  # the honest alone are enough
    assert committee.has_honest(faulty + 1)
    assert not committee.has_honest(faulty)


@given(st.integers(1, 10**9), st.integers(0, 10**6))
def test_everybody_proposes_once_in_as_many_rounds_as_there_are_validators(height: int, round: int) -> None:
    assert {FOUR.proposer(height, round + place) for place in range(4)} == set(range(4))
    assert FOUR.proposer(height + 1, round) == FOUR.proposer(height, round + 1)


KEY = identity_of(0).public_key


@pytest.mark.parametrize(
    ("why", "cluster", "members"),
    [
        ("0 validators: nobody votes", FOUR.cluster, ()),
        ("2 validators: a key stands in it twice", FOUR.cluster, (Validator("a", KEY), Validator("b", KEY))),
        ("1 validators: a key has not 32 bytes", FOUR.cluster, (Validator("a", b"short"),)),
        ("1 validators: a weight is outside 1..4294967296", FOUR.cluster, (Validator("a", KEY, 0),)),
        ("1 validators: a weight is outside 1..4294967296", FOUR.cluster, (Validator("a", KEY, MAX_WEIGHT + 1),)),
        ("1 validators: the cluster's hash has 31 bytes, not 32", FOUR.cluster[1:], (Validator("a", KEY),)),
    ],
)
def test_a_committee_that_cannot_agree_soundly_is_refused(
    why: str, cluster: bytes, members: tuple[Validator, ...]
) -> None:
    with pytest.raises(BadInput) as refusal:
        Committee(cluster, members)
    assert str(refusal.value) == f"committee: {why}"


def test_one_vote_may_weigh_as_much_as_a_weight_may() -> None:
    committee = Committee(FOUR.cluster, (Validator("a", KEY, MAX_WEIGHT), Validator("b", identity_of(1).public_key)))
    assert committee.total == MAX_WEIGHT + 1
    assert Validator("a", KEY).weight == 1


def test_the_validators_of_a_genesis_vote_in_its_order_and_nobody_else_does() -> None:
    founded = genesis(4)
    watcher = msgspec.structs.replace(founded.nodes[1], roles=("edge",))
    founded = msgspec.structs.replace(founded, nodes=(founded.nodes[0], watcher, *founded.nodes[2:]))
    committee = committee_of(founded)
    assert committee.cluster == founded.hash
    assert [(one.name, one.weight) for one in committee.validators] == [("n0", 1), ("n2", 1), ("n3", 1)]
    assert committee.places == {founded.nodes[node].public_key: place for place, node in enumerate((0, 2, 3))}
