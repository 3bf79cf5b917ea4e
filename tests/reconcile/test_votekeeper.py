"""The vote keeper: what counts, what is kept, what contradicts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.errors import BadInput
from reconcile.evidence import Offence
from reconcile.quorum import Committee, Validator
from reconcile.votekeeper import PAST_ROUNDS, ROUND_WINDOW, STATEMENTS_PER_SLOT, VoteKeeper
from reconcile.votes import NIL, NO_ROUND, Bundle, Kind, Proposal, Vote, bundle_fault, value_id
from tests.reconcile.agreement_simulation import committee_of_weights, identity_of
from tests.reconcile.transcript import signed

FOUR = committee_of_weights((1, 1, 1, 1))
A, B, C = value_id(b"A"), value_id(b"B"), value_id(b"C")

weights = st.lists(st.integers(1, 9), min_size=1, max_size=9).map(tuple)


def vote(voter: int, round: int, id: bytes, kind: Kind = Kind.PREVOTE, vr: int = NO_ROUND) -> Vote:
    return signed(FOUR, (kind, 1, round, id, vr, voter))


def keeper_with(votes: Iterable[Vote]) -> VoteKeeper:
    keeper = VoteKeeper(FOUR, 1)
    for one in votes:
        keeper.add(one)
    return keeper


# -- quorums


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


@pytest.mark.parametrize(
    "members",
    [
        (),
        (Validator("a", identity_of(0).public_key), Validator("b", identity_of(0).public_key)),
        (Validator("a", b"short"),),
        (Validator("a", identity_of(0).public_key, 0),),
    ],
)
def test_a_committee_that_cannot_agree_soundly_is_refused(members: tuple[Validator, ...]) -> None:
    with pytest.raises(BadInput):
        Committee(FOUR.cluster, members)


# -- counting

statements = st.tuples(
    st.integers(0, 3), st.integers(0, 2), st.sampled_from([NIL, A, B]), st.sampled_from([Kind.PREVOTE, Kind.PRECOMMIT])
)


@given(st.lists(statements, max_size=40))
def test_counts_are_those_of_a_plain_model(said: list[tuple[int, int, bytes, Kind]]) -> None:
    keeper = VoteKeeper(FOUR, 1)
    model: dict[tuple[int, Kind, int], list[bytes]] = {}
    for voter, round, id, kind in said:
        slot = model.setdefault((round, kind, voter), [])
        new = id not in slot and len(slot) < STATEMENTS_PER_SLOT
        slot.extend([id] * new)
        assert keeper.add(vote(voter, round, id, kind)).new == new
    for round, kind in itertools.product(range(3), (Kind.PREVOTE, Kind.PRECOMMIT)):
        tally = keeper.of(round).tally(kind)
        heard = [model.get((round, kind, voter), []) for voter in range(4)]
        assert tally.any_quorum == (sum(1 for ids in heard if ids) >= 3)
        for id in (NIL, A, B):
            assert tally.has_quorum(id) == (sum(1 for ids in heard if id in ids) >= 3)
            if tally.has_quorum(id):
                assert not bundle_fault(Bundle(tally.quorum(id)), FOUR)


@given(st.permutations([(0, A), (1, A), (2, A), (3, NIL), (3, A)]))
def test_the_order_of_arrival_changes_no_count(order: list[tuple[int, bytes]]) -> None:
    tally = keeper_with(vote(voter, 0, id) for voter, id in order).of(0).prevotes
    assert tally.quorum_ids() == (A,)
    assert [one.voter for one in tally.quorum(A)] == [0, 1, 2, 3]


def test_one_voter_counts_once_towards_a_later_round_whatever_it_says_there() -> None:
    keeper = keeper_with([vote(1, 4, NIL), vote(1, 4, A, Kind.PRECOMMIT), vote(1, 4, B)])
    assert keeper.reached(0) is None
    keeper.add(vote(2, 4, NIL, Kind.PRECOMMIT))
    assert keeper.reached(0) == 4
    assert keeper.reached(4) is None


# -- contradictions


def test_a_second_statement_is_kept_and_reported_and_a_third_is_neither() -> None:
    keeper = keeper_with([vote(1, 0, A)])
    again = keeper.add(vote(1, 0, A))
    second = keeper.add(vote(1, 0, NIL))
    third = keeper.add(vote(1, 0, B))
    assert not again.new
    assert not again.evidence
    assert [one.offence for one in second.evidence] == [Offence.DOUBLE_VOTE]
    assert not third.new
    assert not third.evidence


def test_one_value_with_two_vr_is_a_contradiction() -> None:
    keeper = keeper_with([vote(1, 3, A, vr=0)])
    assert keeper.add(vote(1, 3, A, vr=1)).evidence
    assert not keeper.of(3).prevotes.has_quorum(A)


def test_a_contradiction_is_seen_across_what_came_from_far_ahead() -> None:
    far = ROUND_WINDOW + 5
    keeper = keeper_with([vote(1, far, A)])
    keeper.add(vote(1, 1, A, Kind.PRECOMMIT))
    found = keeper.move_to(far)
    assert not found  # the same value: nothing forgotten
    keeper = keeper_with([vote(1, far, B), vote(1, 1, A, Kind.PRECOMMIT)])
    assert [one.offence for one in keeper.move_to(far)] == [Offence.AMNESIA]


# -- bounds


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 10**6), st.sampled_from([NIL, A, B, C])), max_size=80))
def test_a_flood_of_rounds_keeps_no_more_than_the_window(said: list[tuple[int, int, bytes]]) -> None:
    keeper = keeper_with(vote(voter, round, id) for voter, round, id in said)
    assert keeper.size() <= 4 * (1 + STATEMENTS_PER_SLOT * (ROUND_WINDOW + 1))
    assert all(round <= ROUND_WINDOW for round in keeper.rounds())


def test_a_voter_far_ahead_is_remembered_by_its_furthest_word_only() -> None:
    keeper = keeper_with(vote(1, round, NIL) for round in range(100, 200))
    assert keeper.size() == 1
    keeper.add(vote(2, 199, NIL))
    assert keeper.reached(0) == 199


def test_of_rounds_long_past_quorums_for_values_stay_and_nothing_else() -> None:
    polka = [vote(voter, 0, A) for voter in (0, 1, 2)]
    nils = [vote(voter, 1, NIL) for voter in (0, 1, 2)]
    keeper = keeper_with([*polka, *nils, vote(3, 0, B)])
    keeper.adopt(Bundle(tuple(polka), b"A"))
    for round in range(1, PAST_ROUNDS + 3):
        keeper.move_to(round)
    assert keeper.rounds() == [0]
    assert keeper.polka(0, A)
    assert keeper.values == {A: b"A"}
    assert keeper.size() == 0
    assert not keeper.add(vote(3, 0, C)).new


# -- bundles


def test_a_quorum_handed_over_whole_counts_though_a_voter_used_up_its_slot() -> None:
    """Voter 3 says nil and B here, and A elsewhere: vote by vote nobody here could ever see the polka for A."""
    keeper = keeper_with([vote(3, 0, NIL), vote(3, 0, B), vote(0, 0, A), vote(1, 0, A)])
    assert not keeper.add(vote(3, 0, A)).new
    assert not keeper.polka(0, A)
    bundle = Bundle((vote(0, 0, A), vote(1, 0, A), vote(3, 0, A)), b"A")
    assert not bundle_fault(bundle, FOUR)
    assert keeper.adopt(bundle).new
    assert keeper.polka(0, A)
    assert keeper.values[A] == b"A"
    assert not keeper.adopt(bundle).new


def test_a_bundle_must_be_a_quorum_of_one_thing() -> None:
    good = [vote(voter, 0, A) for voter in range(3)]
    assert not bundle_fault(Bundle(tuple(good), b"A"), FOUR)
    bad = {
        "two voters": Bundle(tuple(good[:2])),
        "a voter twice": Bundle((good[0], good[1], good[1])),
        "out of order": Bundle((good[1], good[0], good[2])),
        "another value": Bundle((*good[:2], vote(2, 0, B))),
        "another round": Bundle((*good[:2], vote(2, 1, A))),
        "another kind": Bundle((*good[:2], vote(2, 0, A, Kind.PRECOMMIT))),
        "another's bytes": Bundle(tuple(good), b"B"),
        "a proposal": Bundle((signed(FOUR, (Kind.PROPOSAL, 1, 0, A, NO_ROUND, 1)),)),
        "a forged vote": Bundle((*good[:2], Vote(Kind.PREVOTE, 1, 0, A, NO_ROUND, 3, good[2].signature))),
    }
    assert {name for name, bundle in bad.items() if not bundle_fault(bundle, FOUR)} == set()


def test_a_value_is_known_from_any_proposal_and_forgotten_when_nothing_refers_to_it() -> None:
    keeper = VoteKeeper(FOUR, 1)
    keeper.add(Proposal(signed(FOUR, (Kind.PROPOSAL, 1, 0, A, NO_ROUND, 1)), b"A"))
    assert keeper.values == {A: b"A"}
    keeper.move_to(PAST_ROUNDS + 1)
    assert keeper.values == {}
