"""The vote keeper: what counts, what is kept, what contradicts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.evidence import Offence
from reconcile.votekeeper import MAX_QUORUMS, PAST_ROUNDS, ROUND_WINDOW, STATEMENTS_PER_SLOT, VoteKeeper
from reconcile.votes import NIL, NO_ROUND, Bundle, Kind, Proposal, SummaryRow, Vote, bundle_fault, value_id
from tests.reconcile.agreement_simulation import committee_of_weights
from tests.reconcile.transcript import signed

FOUR = committee_of_weights((1, 1, 1, 1))
A, B, C = value_id(b"A"), value_id(b"B"), value_id(b"C")


def vote(voter: int, round: int, id: bytes, kind: Kind = Kind.PREVOTE, vr: int = NO_ROUND) -> Vote:
    return signed(FOUR, (kind, 1, round, id, vr, voter))


def keeper_with(votes: Iterable[Vote]) -> VoteKeeper:
    keeper = VoteKeeper(FOUR, 1)
    for one in votes:
        keeper.add(one)
    return keeper


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


# -- what is held, and told


def proposal(round: int, value: bytes, voter: int | None = None, vr: int = NO_ROUND) -> Proposal:
    place = FOUR.proposer(1, round) if voter is None else voter
    return Proposal(signed(FOUR, (Kind.PROPOSAL, 1, round, value_id(value), vr, place)), value)


def polka(round: int, id: bytes, value: bytes = b"", kind: Kind = Kind.PREVOTE) -> Bundle:
    return Bundle(tuple(vote(voter, round, id, kind) for voter in (0, 1, 2)), value)


def test_what_is_kept_is_counted_vote_by_vote_near_and_far() -> None:
    keeper = keeper_with([vote(1, 0, A), vote(1, 0, NIL), vote(2, 1, A, Kind.PRECOMMIT), vote(3, ROUND_WINDOW + 1, A)])
    keeper.add(proposal(2, b"A"))
    assert keeper.size() == 5
    assert keeper.rounds() == [0, 1, 2]


@pytest.mark.parametrize(
    "message",
    [vote(1, 3, A), vote(1, 3, NIL, Kind.PRECOMMIT), vote(1, ROUND_WINDOW + 1, A), proposal(2, b"A"), polka(1, A, b"A"),
     polka(1, NIL), polka(ROUND_WINDOW + 1, A, b"A", Kind.PRECOMMIT)],
)  # fmt: skip
def test_what_was_taken_is_held_and_no_news_again_and_nothing_like_it_is_held(
    message: Vote | Proposal | Bundle,
) -> None:
    keeper = keeper_with([vote(3, 1, A), vote(3, 3, A), vote(3, 3, A, Kind.PRECOMMIT)])
    assert not keeper.holds(message)
    take = keeper.adopt if isinstance(message, Bundle) else keeper.add
    assert take(message).new  # type: ignore[arg-type]
    assert keeper.holds(message)
    assert not take(message).new  # type: ignore[arg-type]
    assert not keeper.holds(vote(0, 3, A))
    assert not keeper.holds(vote(1, 3, B))
    assert not keeper.holds(vote(1, 4, A))
    assert not keeper.holds(proposal(2, b"B"))
    assert not keeper.holds(polka(1, B))


def test_a_quorum_is_news_and_then_its_value_is_and_then_nothing_is() -> None:
    keeper = VoteKeeper(FOUR, 1)
    assert keeper.adopt(polka(0, A)).new
    assert not keeper.holds(polka(0, A, b"A"))
    assert keeper.holds(polka(0, A))
    assert not keeper.adopt(polka(0, A)).new
    assert keeper.values == {}
    assert keeper.adopt(polka(0, A, b"A")).new
    assert not keeper.adopt(polka(0, A, b"A")).new
    assert keeper.values == {A: b"A"}
    assert keeper.of(0).prevotes.quorum(A) == polka(0, A).votes


def test_an_old_polka_and_a_far_commit_are_kept_whole_and_a_far_polka_vote_by_vote() -> None:
    keeper = VoteKeeper(FOUR, 1)
    keeper.move_to(PAST_ROUNDS + 5)
    assert keeper.adopt(polka(2, A, b"A")).new  # it can still unlock somebody
    assert keeper.polka(2, A)
    assert not keeper.polka(2, B)
    assert not keeper.polka(3, A)
    far = PAST_ROUNDS + 5 + ROUND_WINDOW + 1
    assert keeper.adopt(polka(far, B)).new
    assert not keeper.adopt(polka(far, B)).new
    assert not keeper.polka(far, B)
    assert keeper.reached(PAST_ROUNDS + 5) == far
    assert keeper.adopt(polka(far, B, b"B", Kind.PRECOMMIT)).new
    assert keeper.commits() == [(far, B)]
    keeper.adopt(polka(3, NIL, kind=Kind.PRECOMMIT))
    assert keeper.commits() == [(far, B)]  # nil is nothing to decide


def test_quorums_handed_over_whole_are_bounded_a_round_and_heard_together() -> None:
    keeper = keeper_with([vote(voter, 0, id) for voter in range(4) for id in (NIL, C)])
    for id in (A, B):
        assert keeper.adopt(polka(0, id)).new  # everybody is a liar here, so ids beyond the slots come
    assert MAX_QUORUMS == 2
    assert not keeper.adopt(polka(0, value_id(b"D"))).new
    assert keeper.of(0).prevotes.quorum_ids() == tuple(sorted((NIL, A, B, C)))


def test_voters_of_a_whole_quorum_and_of_single_votes_make_anything_from_a_quorum_once_each() -> None:
    weighty = committee_of_weights((3, 2, 2, 3))
    keeper = VoteKeeper(weighty, 1)
    assert not keeper.of(0).prevotes.any_quorum
    keeper.adopt(Bundle(tuple(signed(weighty, (Kind.PREVOTE, 1, 0, A, NO_ROUND, voter)) for voter in (0, 1, 2))))
    assert keeper.of(0).prevotes.any_quorum
    assert not keeper.of(0).precommits.any_quorum


def test_in_a_committee_of_one_its_word_is_a_quorum() -> None:
    alone = committee_of_weights((1,))
    keeper = VoteKeeper(alone, 1)
    word = signed(alone, (Kind.PRECOMMIT, 1, 0, A, NO_ROUND, 0))
    assert keeper.adopt(Bundle((word,), b"A")).new
    assert keeper.commits() == [(0, A)]
    assert keeper.holds(Bundle((word,), b"A"))


def test_a_summary_says_who_is_heard_and_of_quorums_those_whose_value_is_known_too() -> None:
    keeper = keeper_with([vote(0, 0, A), vote(2, 0, NIL), vote(3, 0, NIL, Kind.PRECOMMIT)])
    keeper.add(proposal(0, b"A"))
    for one in (polka(0, A), polka(0, B), polka(0, A, kind=Kind.PRECOMMIT), polka(0, C, kind=Kind.PRECOMMIT)):
        keeper.adopt(one)
    row = keeper.of(0).summary(0, keeper.values)
    assert row == SummaryRow(0, (A,), bytes([0b0111]), bytes([0b1111]), (A,), (A,))
    assert keeper.of(7).summary(7, keeper.values) == SummaryRow(7, (), b"", b"", (), ())
    assert keeper.of(0).voters() == {0, 1, 2, 3}


def test_the_latest_round_that_honest_voters_reached_counts_whatever_they_said_there() -> None:
    keeper = keeper_with(
        [vote(1, 5, A), vote(2, 5, NIL, Kind.PRECOMMIT), vote(1, 9, A), vote(2, ROUND_WINDOW + 3, NIL)]
    )
    assert keeper.reached(0) == 5
    keeper.add(proposal(9, b"B", voter=2))
    assert keeper.reached(0) == 9
    assert keeper.reached(8) == 9
    assert keeper.reached(9) is None
    keeper.add(vote(3, ROUND_WINDOW + 3, A))
    assert keeper.reached(9) == ROUND_WINDOW + 3


def test_a_far_word_that_comes_near_is_kept_as_if_it_came_now_but_a_proposal_is_asked_for_again() -> None:
    far = ROUND_WINDOW + 1
    keeper = keeper_with([vote(1, far, A), vote(2, far + 1, A)])
    keeper.add(proposal(far, b"B", voter=3))
    assert keeper.values == {}
    keeper.move_to(1)
    assert keeper.of(far).voters() == {1}
    assert keeper.size() == 2
    assert keeper.add(proposal(far, b"B", voter=3)).new
    keeper.move_to(0)  # nobody goes back
    assert keeper.add(vote(0, far, B)).new
    assert keeper.of(far).voters() == {0, 1, 3}


def test_values_are_kept_while_a_proposal_a_polka_or_anybodys_precommit_names_them() -> None:
    keeper = keeper_with([vote(1, ROUND_WINDOW, C, Kind.PRECOMMIT)])
    for round, value in ((0, b"A"), (1, b"B"), (2, b"C"), (ROUND_WINDOW, b"D")):
        keeper.add(proposal(round, value))
    keeper.adopt(polka(0, A))
    assert set(keeper.values) == {A, B, C, value_id(b"D")}
    keeper.move_to(PAST_ROUNDS + 3)
    assert set(keeper.values) == {A, C, value_id(b"D")}
    assert keeper.rounds() == [0, ROUND_WINDOW]
    assert keeper.of(0).proposals == ()


def test_an_old_commit_can_still_decide_so_its_value_stays() -> None:
    keeper = VoteKeeper(FOUR, 1)
    keeper.add(proposal(1, b"B"))
    keeper.adopt(polka(1, B, kind=Kind.PRECOMMIT))
    keeper.move_to(PAST_ROUNDS + 5)
    assert keeper.commits() == [(1, B)]
    assert keeper.values == {B: b"B"}


def test_the_round_at_the_edge_of_the_past_is_kept_and_the_one_before_it_is_not() -> None:
    keeper = keeper_with([vote(1, 0, A), vote(1, 1, A)])
    keeper.move_to(PAST_ROUNDS)
    assert keeper.rounds() == [0, 1]
    assert keeper.add(vote(2, 0, A)).new
    keeper.move_to(PAST_ROUNDS + 1)
    assert keeper.rounds() == [1]
    assert not keeper.add(vote(3, 0, A)).new


def test_a_slot_takes_two_proposals_and_no_third() -> None:
    keeper = VoteKeeper(FOUR, 1)
    assert [keeper.add(proposal(0, value)).new for value in (b"A", b"A", b"B", b"C")] == [True, False, True, False]
    assert keeper.values == {A: b"A", B: b"B"}
    assert len(keeper.of(0).proposals) == STATEMENTS_PER_SLOT


def test_each_offence_of_each_voter_is_charged_once() -> None:
    keeper = keeper_with([vote(1, 0, A), vote(2, 0, A), vote(1, 1, A)])
    assert len(keeper.add(vote(1, 0, B)).evidence) == 1
    assert keeper.add(vote(1, 1, B)).evidence == ()
    assert len(keeper.add(vote(2, 0, B)).evidence) == 1
    bundle = Bundle((vote(0, 2, A), vote(1, 2, A), vote(3, 2, A)))
    keeper.add(vote(3, 2, B))
    assert [one.first.voter for one in keeper.adopt(bundle).evidence] == [3]
