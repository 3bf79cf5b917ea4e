"""What goes into the agreement core and what comes out of it: plain data, nothing else.

The core (``reconcile.tendermint``) is a state machine, ``step(event, now_us) -> list[Effect]``. It reads no clock, draws
nothing, touches no socket and no file. Whoever drives it does three things for it:

- *The journal before the wire.* ``PersistVote`` numbers what must survive a power cut; ``Broadcast``, ``Answer`` and ``Decided`` name
  the number they depend on (``after``; 0 for none). They are held back until everything up to it is on disk.
- *Judging values.* ``ValidateWanted`` is answered by ``Validated``, when it is known and not before: while bodies are missing
  there is no answer, the core prevotes nil at its timeout, and an answer that comes later still counts.
- *Repair.* Every second or so ``RepairDue``: the core broadcasts a summary of what it holds, and whoever holds more answers. So loss
  of any frame is healed by its holders, and no frame is ever sent on a timer of its own.

Heights start when the driver says so (``StartHeight``), once the decision before is durable and settled: that sets the pace.
Times are integer microseconds.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from .evidence import Evidence
from .votes import Bundle, Message, Proposal, Vote

TimeoutKind: TypeAlias = Literal["propose", "prevote", "precommit"]


class StartHeight(msgspec.Struct, frozen=True):
    """Everything below ``height`` is decided, durable and settled here; take part in ``height``. May jump ahead."""

    height: int


class Received(msgspec.Struct, frozen=True):
    """A frame came from ``peer`` (a node's name, authenticated by the transport). Its bytes are not trusted."""

    peer: str
    frame: bytes


class Proposed(msgspec.Struct, frozen=True):
    """The answer to ``ProposeWanted``: a value that settles here. Late answers are ignored."""

    height: int
    round: int
    value: bytes


class Validated(msgspec.Struct, frozen=True):
    """The answer to ``ValidateWanted``: whether the value holds, judged by this node itself."""

    height: int
    value_id: bytes
    ok: bool


class TimedOut(msgspec.Struct, frozen=True):
    """What ``ScheduleTimeout`` asked for is due. Stale ones are ignored."""

    kind: TimeoutKind
    height: int
    round: int


class RepairDue(msgspec.Struct, frozen=True):
    """It is time to tell the others what is held here, so that they can send what is not."""


class PersistVote(msgspec.Struct, frozen=True):
    """Write ``record`` durably under ``position`` (rising by 1). After a restart all records go back to the core, in order."""

    position: int
    record: bytes


class Broadcast(msgspec.Struct, frozen=True):
    """Send ``message`` to every validator and whoever else listens, once ``after`` is durable."""

    message: Message
    after: int


class Relay(msgspec.Struct, frozen=True):
    """Pass another's signed message on as it came: each is passed on once, contradictions included."""

    message: Vote | Proposal | Bundle


class Answer(msgspec.Struct, frozen=True):
    """Send ``messages`` to ``peer``, who lacks them, once ``after`` is durable."""

    peer: str
    messages: tuple[Message, ...]
    after: int


class ScheduleTimeout(msgspec.Struct, frozen=True):
    """Report ``TimedOut(kind, height, round)`` after ``delay_us``."""

    kind: TimeoutKind
    height: int
    round: int
    delay_us: int


class ProposeWanted(msgspec.Struct, frozen=True):
    """It is this validator's turn and no earlier value is to be proposed again: answer with ``Proposed``."""

    height: int
    round: int


class ValidateWanted(msgspec.Struct, frozen=True):
    """Judge ``value``: does it extend the last checkpoint, settle, and give the roots that it names? Answer with ``Validated``."""

    height: int
    value_id: bytes
    value: bytes


class Decided(msgspec.Struct, frozen=True):
    """``value`` is this height's, for ever. ``precommits``: a quorum for it in ``round``, by voter."""

    height: int
    round: int
    value_id: bytes
    value: bytes
    precommits: tuple[Vote, ...]
    after: int


class EvidenceFound(msgspec.Struct, frozen=True):
    """A validator contradicted itself. One piece per voter, offence and height."""

    evidence: Evidence


class DecisionWanted(msgspec.Struct, frozen=True):
    """``peer`` stands at ``height``, whose decision the core no longer holds: serve it certified checkpoints from there on."""

    peer: str
    height: int


class Disputed(msgspec.Struct, frozen=True):
    """A quorum precommitted a value that this node judged wrong: a bug, or more than a third at fault. It stops here; call a person."""

    height: int
    round: int
    value_id: bytes


class Refused(msgspec.Struct, frozen=True):
    """A frame from ``peer`` was not taken: ``what`` it was, ``where`` it fails, ``why``. Count it against the peer."""

    peer: str
    what: str
    where: str
    why: str


Event: TypeAlias = StartHeight | Received | Proposed | Validated | TimedOut | RepairDue
Effect: TypeAlias = (
    PersistVote
    | Broadcast
    | Relay
    | Answer
    | ScheduleTimeout
    | ProposeWanted
    | ValidateWanted
    | Decided
    | EvidenceFound
    | DecisionWanted
    | Disputed
    | Refused
)

MAX_DELAY_US: Final = 3_600 * 1_000_000


class Timeouts(msgspec.Struct, frozen=True):
    """How long to wait in round 0, and how much longer in each round after it. Longer bridges slower networks, and lets a faulty
    proposer cost more. Delays stop growing at an hour."""

    propose_us: int = 3_000_000
    prevote_us: int = 1_000_000
    precommit_us: int = 1_000_000
    growth_us: int = 500_000

    def delay_us(self, kind: TimeoutKind, round: int) -> int:
        """The delay of ``kind`` in ``round``."""
        base = {"propose": self.propose_us, "prevote": self.prevote_us, "precommit": self.precommit_us}[kind]
        return min(base + round * self.growth_us, MAX_DELAY_US)
