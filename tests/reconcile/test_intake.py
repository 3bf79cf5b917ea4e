"""What others say is taken for three heights, passed on once, and answered where it shows that its sender is behind."""

from __future__ import annotations

import pytest

from reconcile.agreement import Answer, DecisionWanted, Effect, EvidenceFound, Refused, Relay
from reconcile.evidence import Offence
from reconcile.intake import ANSWER_INTERVAL_US, KEPT_DECISIONS, Intake
from reconcile.votes import NIL, NO_ROUND, Bundle, Kind, Message, Proposal, Summary, SummaryRow, Vote, encode, value_id
from tests.reconcile.agreement_simulation import committee_of_weights
from tests.reconcile.transcript import signed

FOUR = committee_of_weights((1, 1, 1, 1))
A, B = value_id(b"A"), value_id(b"B")
NOON_US = 43_200_000_000


def vote(voter: int, height: int, id: bytes = A, kind: Kind = Kind.PREVOTE, round: int = 0) -> Vote:
    return signed(FOUR, (kind, height, round, id, NO_ROUND, voter))


def decision(height: int) -> Bundle:
    return Bundle(tuple(vote(voter, height, A, Kind.PRECOMMIT) for voter in (0, 1, 2)), b"A")


class Mail:
    """An intake at ``height``, and what it does about messages from others, at noon and later."""

    def __init__(self, height: int) -> None:
        self.intake = Intake(FOUR)
        self.now_us = NOON_US
        self.intake.start(height)

    def takes(self, message: Message, peer: str = "node-4", position: int = 7) -> list[Effect]:
        return self.intake.receive(peer, encode(message), position, self.now_us)


def test_votes_of_the_height_before_this_one_and_the_next_are_taken_and_no_others() -> None:
    mail = Mail(5)
    for height in (4, 5, 6):
        assert mail.takes(vote(0, height)) == [Relay(vote(0, height))]
        assert mail.takes(vote(0, height)) == []
    assert mail.takes(vote(0, 3)) == []
    assert mail.takes(vote(0, 7)) == []
    assert mail.intake.keeper.size() == 1


def test_what_was_said_stays_known_while_its_height_is_near() -> None:
    mail = Mail(5)
    mail.takes(vote(0, 6))
    mail.intake.start(6)
    assert mail.intake.keeper.of(0).prevotes.votes.keys() == {0}
    mail.intake.start(7)
    relay, charged = mail.takes(vote(0, 6, B))
    assert relay == Relay(vote(0, 6, B))
    assert isinstance(charged, EvidenceFound)
    assert charged.evidence.offence is Offence.DOUBLE_VOTE
    mail.intake.start(8)
    assert mail.takes(vote(1, 6)) == []


def test_who_asks_about_a_decided_height_gets_the_decision_and_not_again_at_once() -> None:
    mail = Mail(5)
    mail.intake.decided(decision(5))
    mail.intake.start(6)
    answer = [Answer("node-4", (decision(5),), 7)]
    assert mail.takes(Summary(5, 0)) == answer
    assert mail.takes(Summary(5, 0)) == []
    assert mail.takes(Summary(5, 0), peer="node-3") == [Answer("node-3", (decision(5),), 7)]
    mail.now_us += ANSWER_INTERVAL_US - 1
    assert mail.takes(Summary(5, 0)) == []
    mail.now_us += 1
    assert mail.takes(Summary(5, 0)) == answer


def test_the_next_height_is_answered_at_once_and_an_earlier_one_is_not() -> None:
    mail = Mail(5)
    for height in (5, 6):
        mail.intake.decided(decision(height))
        mail.intake.start(height + 1)
    assert mail.takes(Summary(5, 0)) == [Answer("node-4", (decision(5),), 7)]
    assert mail.takes(Summary(6, 0)) == [Answer("node-4", (decision(6),), 7)]
    assert mail.takes(Summary(5, 0)) == []


def test_who_has_the_decision_is_not_sent_it() -> None:
    mail = Mail(5)
    mail.intake.decided(decision(5))
    mail.intake.start(6)
    rows = (SummaryRow(0, (), b"", b"", (), (B,)), SummaryRow(1, (), b"", b"", (), (A,)))
    assert mail.takes(Summary(5, 1, rows)) == []
    assert mail.takes(Summary(5, 1, rows[:1])) == [Answer("node-4", (decision(5),), 7)]


def test_a_decision_is_kept_for_some_heights_and_then_the_driver_is_asked_for_its_checkpoint() -> None:
    mail = Mail(5)
    mail.intake.decided(decision(5))
    mail.intake.start(5 + KEPT_DECISIONS)
    assert mail.takes(Summary(5, 0)) == [Answer("node-4", (decision(5),), 7)]
    mail.intake.start(6 + KEPT_DECISIONS)
    mail.now_us += ANSWER_INTERVAL_US
    assert mail.takes(Summary(5, 0)) == [DecisionWanted("node-4", 5)]
    assert mail.takes(Summary(5, 0)) == []


def test_who_is_ahead_is_not_answered_and_who_is_here_gets_what_it_lacks() -> None:
    mail = Mail(5)
    mail.takes(vote(0, 5))
    assert mail.takes(Summary(6, 0)) == []
    assert mail.takes(Summary(5, 0)) == [Answer("node-4", (vote(0, 5),), 7)]
    heard = SummaryRow(0, (), b"\x01", b"", (), ())
    assert mail.takes(Summary(5, 0, (heard,)), peer="node-3") == []


@pytest.mark.parametrize(("peer", "answered"), [("node-4", True), ("node-3", False)])
def test_a_vote_for_a_decided_height_is_answered_where_it_comes_from_its_own_writer(peer: str, answered: bool) -> None:
    mail = Mail(5)
    mail.intake.decided(decision(5))
    mail.intake.start(6)
    mine = vote(3, 5, NIL)
    more = [Answer(peer, (decision(5),), 7)] if answered else []
    assert mail.takes(mine, peer=peer) == [Relay(mine), *more]
    assert mail.takes(vote(3, 6, NIL), peer=peer) == [Relay(vote(3, 6, NIL))]


def test_a_vote_by_nobody_is_refused_and_not_answered() -> None:
    mail = Mail(5)
    mail.intake.decided(decision(5))
    mail.intake.start(6)
    nobody = vote(3, 5)
    for stranger in (4, 60):
        forged = Vote(nobody.kind, 5, 0, A, NO_ROUND, stranger, nobody.signature)
        (refused,) = mail.takes(forged)
        assert isinstance(refused, Refused)
        assert (refused.peer, refused.what, refused.where) == ("node-4", "vote", "height 5")


def test_a_proposal_comes_with_its_value_and_nothing_else_comes_dressed_as_one() -> None:
    mail = Mail(5)
    turn = FOUR.proposer(5, 0)
    bare = vote(turn, 5, A, Kind.PROPOSAL)
    wrong: list[tuple[Message, str, str]] = [
        (bare, "vote", "a proposal without its value"),
        (Proposal(vote(turn, 5), b"A"), "proposal", "a vote dressed as a proposal"),
        (Proposal(bare, b"B"), "proposal", "its value is not the one it names"),
        (
            Proposal(vote((turn + 1) % 4, 5, A, Kind.PROPOSAL), b"A"),
            "proposal",
            f"voter {(turn + 1) % 4} does not propose at 5/0",
        ),
        (Bundle(decision(5).votes[:2]), "bundle", "its voters are too few"),
    ]
    for message, what, why in wrong:
        assert mail.takes(message) == [Refused("node-4", what, "height 5", why)]
    assert mail.takes(Proposal(bare, b"A")) == [Relay(Proposal(bare, b"A"))]
    assert mail.takes(decision(5)) == [Relay(decision(5))]
