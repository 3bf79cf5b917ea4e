"""The agreement core at work in a node: its votes journaled before they leave, its frames on the channel ``vote``, its timeouts.

What concerns nobody else is done here; what it wants to know or has found out (values to propose and to judge, decisions, evidence)
is passed on. Frames go to all other validators; everybody else follows certificates.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

from crdtledger.edge.abstaining import NEVER, Abstaining
from crdtledger.edge.journaling import Journaling
from crdtledger.ledger.identity import Identity
from crdtledger.ledger.journalrecord import KIND_VOTE, JournalRecord
from gossip.effects import StartTimer
from gossip.protocol import GossipEngine, Output
from reconcile.agreement import (
    Answer,
    Broadcast,
    Decided,
    DecisionWanted,
    Disputed,
    Event,
    EvidenceFound,
    PersistVote,
    ProposeWanted,
    Received,
    Refused,
    Relay,
    ScheduleTimeout,
    TimedOut,
    TimeoutKind,
    Timeouts,
    ValidateWanted,
)
from reconcile.quorum import Committee
from reconcile.tendermint import Step, Tendermint
from reconcile.votes import Bundle, Malformed, Message, Proposal, Vote, decode, encode

CHANNEL: Final = "vote"
TIMEOUTS: Final[dict[str, TimeoutKind]] = {
    "vote.propose": "propose",
    "vote.prevote": "prevote",
    "vote.precommit": "precommit",
}
"""Timers: a later timeout of a kind replaces the one before, which would be ignored."""

Question: TypeAlias = ProposeWanted | ValidateWanted | Decided | EvidenceFound | DecisionWanted | Disputed


class Voting:
    """The validator called ``name``."""

    def __init__(
        self,
        committee: Committee,
        name: str,
        identity: Identity,
        timeouts: Timeouts | None,
        journaling: Journaling,
        engine: GossipEngine,
    ) -> None:
        self.names = [validator.name for validator in committee.validators]
        self.others = [other for other in self.names if other != name]
        self.abstaining = Abstaining(committee, self.names.index(name), [*engine.peers])
        self._committee = committee
        self._identity = identity
        self._timeouts = timeouts
        self._journaling = journaling
        self._engine = engine
        self._records: list[tuple[int, bytes]] = []
        self._position = 0  # the journal's, of the last vote
        self._due: dict[TimeoutKind, tuple[int, int]] = {}
        self._out: list[Output] = []
        self._core = Tendermint(committee)

    def remembered(self, record: JournalRecord) -> None:
        """A vote is read from the journal."""
        self._records.append((record.seq, record.body))

    def begin(self, base: int) -> None:
        """Everything is read, and ``base`` is settled: be ready to vote above it. Raises BadInput when the votes do not hold."""
        self._records = [(height, raw) for height, raw in self._records if height > base]
        self._core = Tendermint(
            self._committee,
            self._identity,
            timeouts=self._timeouts,
            records=[raw for _, raw in self._records],
            votes_from=self.abstaining.votes_from or NEVER,
            position=len(self._records),
        )

    @property
    def height(self) -> int:
        """The height that was last begun; 0 before the first."""
        return self._core.height

    @property
    def is_open(self) -> bool:
        """Whether a height is begun and not decided."""
        return self._core.height > 0 and self._core.step_now is not Step.DECIDED

    @property
    def round(self) -> int:
        """The round of that height."""
        return self._core.round

    def take(self) -> list[Output]:
        """What is to be sent and timed, since the last call."""
        out, self._out = self._out, []
        return out

    # -- events ---------------------------------------------------------------------------------------------

    def step(self, event: Event, now_us: int) -> list[Question]:
        """Let the core take a step; what it wants of others."""
        questions: list[Question] = []
        for effect in self._core.step(event, now_us):
            match effect:
                case PersistVote(_, record):
                    self._position = self._journaling.put(JournalRecord(KIND_VOTE, b"", self.height, b"", record))
                case Broadcast(message, after):
                    self._send(self.others, [message], after)
                case Relay(message):
                    self._send(self.others, [message], 0)
                case Answer(peer, answers, after):
                    self._send([peer], answers, after)
                case ScheduleTimeout(kind, height, round, delay_us):
                    self._due[kind] = (height, round)
                    self._out.append(StartTimer(f"vote.{kind}", delay_us))
                case Refused(peer, what, where, why):
                    self._out += self._engine.refuse(peer, f"{what}: {where}: {why}", now_us, "vote.refused")
                case _:
                    questions.append(effect)
        return questions

    def timed_out(self, timer: str) -> TimedOut:
        """The event that ``timer`` stands for."""
        kind = TIMEOUTS[timer]
        return TimedOut(kind, *self._due.get(kind, (0, 0)))

    def received(self, peer: str, frame: bytes) -> Received | None:
        """A frame from ``peer``; None when it is not a validator's."""
        return Received(peer, frame) if peer in self.names else None

    def height_of(self, frame: bytes) -> int:
        """The height that a frame is about; 0 when it is none."""
        message = decode(frame)
        if isinstance(message, Malformed):
            return 0
        if isinstance(message, Bundle):
            return message.votes[0].height
        return message.vote.height if isinstance(message, Proposal) else message.height

    def tell(self, peer: str, precommits: tuple[Vote, ...], value: bytes) -> None:
        """Show ``peer`` a decision that is journaled here, and that the core no longer holds."""
        self._out += self._engine.send_app(peer, CHANNEL, encode(Bundle(precommits, value)), self._journaling.needed)

    def _send(self, peers: Iterable[str], said: Iterable[Message], after: int) -> None:
        frames = [encode(message) for message in said]
        position = self._position if after else 0  # what the core has read again at its start is durable
        for peer in peers:
            for frame in frames:
                self._out += self._engine.send_app(peer, CHANNEL, frame, position)
