"""Where a validator stands: what anybody can read of it between two events, and what one without a voice can and cannot do."""

from __future__ import annotations

from reconcile.agreement import (
    Broadcast,
    Decided,
    Effect,
    PersistVote,
    Proposed,
    ProposeWanted,
    Received,
    RepairDue,
    ScheduleTimeout,
    StartHeight,
    TimedOut,
    Validated,
)
from reconcile.tendermint import Step, Tendermint
from reconcile.votes import NIL, NO_ROUND, Bundle, Kind, Message, Proposal, Summary, encode, value_id
from tests.reconcile.agreement_simulation import committee_of_weights, identity_of
from tests.reconcile.transcript import TIMEOUTS, signed

FOUR = committee_of_weights((1, 1, 1, 1))
VALUE = b"value A"
A = value_id(VALUE)


def heard(core: Tendermint, message: Message, peer: str = "node-4") -> list[Effect]:
    return core.step(Received(peer, encode(message)), 0)


def say(core: Tendermint, kind: Kind, id: bytes, *voters: int, round: int = 0) -> list[Effect]:
    return [e for v in voters for e in heard(core, signed(FOUR, (kind, 1, round, id, NO_ROUND, v)))]


def standing(core: Tendermint) -> tuple[int, int, Step, bytes, int, bytes | None, int]:
    return (
        core.height,
        core.round,
        core.step_now,
        core.locked_id,
        core.locked_round,
        core.valid_value,
        core.valid_round,
    )


def test_a_round_is_walked_from_the_proposal_to_the_decision() -> None:
    core = Tendermint(FOUR, identity_of(0), timeouts=TIMEOUTS)
    unlocked = (NIL, NO_ROUND, None, NO_ROUND)
    assert standing(core) == (0, 0, Step.DECIDED, *unlocked)
    core.step(StartHeight(1), 0)
    assert standing(core) == (1, 0, Step.PROPOSE, *unlocked)
    heard(core, Proposal(signed(FOUR, (Kind.PROPOSAL, 1, 0, A, NO_ROUND, 1)), VALUE))
    assert standing(core) == (1, 0, Step.PROPOSE, *unlocked)
    core.step(Validated(1, A, True), 0)
    assert standing(core) == (1, 0, Step.PREVOTE, *unlocked)
    say(core, Kind.PREVOTE, A, 1, 2)
    assert standing(core) == (1, 0, Step.PRECOMMIT, A, 0, VALUE, 0)
    say(core, Kind.PRECOMMIT, NIL, 1, 2, 3)
    core.step(TimedOut("precommit", 1, 0), 0)
    assert standing(core) == (1, 1, Step.PROPOSE, A, 0, VALUE, 0)
    heard(core, Bundle(tuple(signed(FOUR, (Kind.PRECOMMIT, 1, 1, A, NO_ROUND, v)) for v in (1, 2, 3)), VALUE))
    assert standing(core) == (1, 1, Step.DECIDED, A, 0, VALUE, 0)
    core.step(StartHeight(2), 0)
    assert standing(core) == (2, 0, Step.PROPOSE, *unlocked)
    core.step(StartHeight(1), 0)  # nobody goes back
    assert core.height == 2


def test_a_prevote_for_nil_is_followed_by_a_precommit_for_nil() -> None:
    core = Tendermint(FOUR, identity_of(0), timeouts=TIMEOUTS)
    core.step(StartHeight(1), 0)
    core.step(TimedOut("propose", 1, 0), 0)
    assert core.step_now is Step.PREVOTE
    say(core, Kind.PREVOTE, NIL, 1)
    core.step(TimedOut("prevote", 1, 0), 0)
    assert core.step_now is Step.PRECOMMIT
    core.step(TimedOut("prevote", 1, 0), 0)
    assert core.step_now is Step.PRECOMMIT


def test_before_its_first_height_nothing_is_taken_and_nothing_told() -> None:
    core = Tendermint(FOUR, identity_of(0))
    vote = signed(FOUR, (Kind.PREVOTE, 1, 0, A, NO_ROUND, 1))
    for event in (Received("node-2", encode(vote)), RepairDue(), TimedOut("propose", 1, 0), Validated(1, A, True)):
        assert core.step(event, 0) == []


def test_who_has_no_voice_follows_to_the_decision_and_signs_nothing() -> None:
    proposal = Proposal(signed(FOUR, (Kind.PROPOSAL, 1, 0, A, NO_ROUND, 1)), VALUE)
    for core in (Tendermint(FOUR), Tendermint(FOUR, identity_of(9)), Tendermint(FOUR, identity_of(1), votes_from=2)):
        done = core.step(StartHeight(1), 0)  # the third has its turn to propose, and no right to yet
        assert [type(effect) for effect in done] == [ScheduleTimeout]
        done += core.step(Proposed(1, 0, VALUE), 0)
        done += heard(core, proposal)
        done += core.step(Validated(1, A, True), 0)
        done += say(core, Kind.PREVOTE, A, 0, 2, 3)
        done += say(core, Kind.PRECOMMIT, A, 0, 2, 3)
        assert not [effect for effect in done if isinstance(effect, PersistVote | Broadcast | ProposeWanted)]
        assert [(e.value_id, e.value) for e in done if isinstance(e, Decided)] == [(A, VALUE)]


def test_a_summary_depends_on_nothing_that_must_be_durable_first() -> None:
    core = Tendermint(FOUR, identity_of(0), position=5)
    core.step(StartHeight(1), 0)
    assert core.step(RepairDue(), 0) == [Broadcast(Summary(1, 0), 0)]
    persisted, sent, *_ = core.step(TimedOut("propose", 1, 0), 0)
    assert isinstance(persisted, PersistVote)
    assert isinstance(sent, Broadcast)
    assert persisted.position == 6  # positions go on from the last one that was persisted
    assert core.step(RepairDue(), 0) == [Broadcast(core.summary(), 0)]
