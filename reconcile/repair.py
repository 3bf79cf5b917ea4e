"""Which votes of a height another node lacks: what it says it holds against what is held here.

Frames get lost, and nothing is sent again on a timer of its own. Instead a node says now and then what it holds (a summary), and
whoever holds more answers. Quorums go first and whole: they are what unblocks a round, and a voter who signs three different votes for
one slot can otherwise keep two honest nodes from ever seeing the same quorum. Then votes, newest round first.

An answer is bounded (``MAX_ANSWER`` messages, about ``MAX_ANSWER_BYTES``); the next summary fetches the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from .votekeeper import RoundVotes, Tally, VoteKeeper
from .votes import MAX_ROWS, NIL, Bundle, Message, Proposal, Summary, SummaryRow, Vote

MAX_ANSWER: Final = 256
MAX_ANSWER_BYTES: Final = 2 << 20
_VOTE_BYTES: Final = 160


def summarise(keeper: VoteKeeper, round: int) -> Summary:
    """What ``keeper`` holds, the newest rounds if there are too many to tell."""
    rows = tuple(keeper.of(one).summary(one, keeper.values) for one in keeper.rounds()[-MAX_ROWS:])
    return Summary(keeper.height, round, rows)


def missing(keeper: VoteKeeper, summary: Summary) -> tuple[Message, ...]:
    """What the sender of ``summary`` (of the keeper's height) lacks, most useful first."""
    theirs = {row.round: row for row in summary.rows}
    chosen: list[Message] = []
    room = MAX_ANSWER_BYTES
    for message in islice(_lacking(keeper, theirs), MAX_ANSWER):
        room -= _size(message)
        if room < 0 and chosen:
            break
        chosen.append(message)
    return tuple(chosen)


def _lacking(keeper: VoteKeeper, theirs: dict[int, SummaryRow]) -> Iterator[Message]:
    nothing = SummaryRow(0, (), b"", b"", (), ())
    rounds = [(keeper.of(round), theirs.get(round, nothing)) for round in reversed(keeper.rounds())]
    for held, row in rounds:
        yield from _quorums(keeper, held.precommits, row.commits)
    for held, row in rounds:
        yield from _quorums(keeper, held.prevotes, row.polkas)
    for held, row in rounds:
        yield from _proposals(keeper, held, row)
        yield from _votes(held.prevotes, row.prevotes)
        yield from _votes(held.precommits, row.precommits)


def _quorums(keeper: VoteKeeper, tally: Tally, known: tuple[bytes, ...]) -> Iterator[Bundle]:
    for id in tally.quorum_ids():
        if id != NIL and id not in known:
            yield Bundle(tally.quorum(id), keeper.values.get(id, b""))


def _proposals(keeper: VoteKeeper, held: RoundVotes, row: SummaryRow) -> Iterator[Proposal]:
    for vote in held.proposals:
        if vote.value_id not in row.proposals and vote.value_id in keeper.values:
            yield Proposal(vote, keeper.values[vote.value_id])


def _votes(tally: Tally, heard: bytes) -> Iterator[Vote]:
    mask = int.from_bytes(heard, "little")
    for voter in sorted(tally.votes):
        if not mask >> voter & 1:
            yield from tally.votes[voter]


def _size(message: Message) -> int:
    if isinstance(message, Bundle):
        return len(message.votes) * _VOTE_BYTES + len(message.value)
    return _VOTE_BYTES + (len(message.value) if isinstance(message, Proposal) else 0)
