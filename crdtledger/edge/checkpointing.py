"""Checkpoints at one node: agreement, certificates and catch-up, driven from inside the node core. Sans I/O.

- *Judging.* A value is judged once its batches are here, and prevoted once they are durable here: so what a quorum locked, a quorum
  can serve.
- *A decision* is journaled, the replica rebased, the log cosigned; then cosignatures make the certificate, which is journaled and
  handed to the store of checkpoints. Nothing that leaves names a height before the height is durable.
- *Pace.* The next height begins an interval after the last one was settled here, and only while something is unsettled here, or
  others vote. An idle ledger makes no heights.
- *Catch-up.* A node that is behind, and every node that is no validator, follows certified heights in order and settles each itself.
- *Disagreement.* A certified or decided height that does not settle here as it says means a bug, or more than a third at fault. This
  node then settles nothing more, says so loudly, and goes on recording.

Not here: votes (``voting``), what a height comes to (``settling``, ``judging``), cosignatures and certificates (``certificatedesk``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

from crdtledger.edge import certificatedesk, voting
from crdtledger.edge import checkpointmessages as messages
from crdtledger.edge import checkpointrecords as records
from crdtledger.edge.abstaining import UNKNOWN, VOTES_FROM_RECORD, votes_from_record
from crdtledger.edge.adapter import GossipReplica
from crdtledger.edge.certificatedesk import TIMINGS, CertificateDesk, say
from crdtledger.edge.checkpointrecords import Snapshot
from crdtledger.edge.effects import Output
from crdtledger.edge.heightbook import SettledHeight
from crdtledger.edge.journaling import Journaling
from crdtledger.edge.judging import Judging
from crdtledger.edge.jumping import Jumping
from crdtledger.edge.landing import land
from crdtledger.edge.offences import EVIDENCE_RECORD, Offences
from crdtledger.edge.settledmatches import SettledMatches
from crdtledger.edge.settling import Settled, Settling
from crdtledger.edge.setup import Setup
from crdtledger.edge.voting import TIMEOUTS, Question, Voting
from crdtledger.errors import BadInput
from crdtledger.ledger.batch import Batch
from crdtledger.ledger.journalrecord import KIND_CHECKPOINT, KIND_META, KIND_VOTE, JournalRecord
from crdtledger.ledger.outcome import Missing
from crdtledger.ledger.replica import Replica
from gossip.effects import Notify, StartTimer
from gossip.protocol import AppReceived, GossipEngine
from reconcile.adjustments import encode_adjustments
from reconcile.agreement import (
    Decided,
    DecisionWanted,
    Disputed,
    Event,
    EvidenceFound,
    Proposed,
    ProposeWanted,
    RepairDue,
    StartHeight,
    Validated,
    ValidateWanted,
)
from reconcile.checkpoint import decode_checkpoint
from reconcile.quorum import committee_of
from reconcile.salts import Salts
from reconcile.votes import value_id

CHANNELS: Final = (certificatedesk.CHANNEL, voting.CHANNEL)
TICK: Final = "checkpoint"
TICK_US: Final = 1_000_000
SOON_US: Final = 50_000  # after the start
PACE: Final = "checkpoint.pace"
BODIES: Final = "checkpoint.bodies"
BODIES_US: Final = 100_000
TIMERS: Final = {TICK, PACE, BODIES, *TIMEOUTS}

Known: TypeAlias = records.Decided | records.Adopted
"""How the next height is known for good."""


class Timing(NamedTuple):
    """When this node began to vote on a height (0: it did not) and when the height was settled here."""

    begun_us: int
    settled_us: int


class Checkpointer:
    """One node's part in checkpoints. ``absorb`` has whatever came in put into ``journaling`` at once."""

    def __init__(
        self,
        setup: Setup,
        salts: Salts,
        replica: Replica,
        gossiped: GossipReplica,
        engine: GossipEngine,
        journaling: Journaling,
        absorb: Callable[[], None],
        snapshot: Snapshot | None,
        hash_salt: int,
    ) -> None:
        genesis = setup.genesis
        committee = committee_of(genesis)
        self._draw = setup.draw
        self._replica = replica
        self._gossiped = gossiped
        self._engine = engine
        self._journaling = journaling
        self._absorb = absorb
        self._interval_us = genesis.policies.checkpoint_interval_ms * 1000
        start = decode_checkpoint(snapshot.value).record if snapshot else None
        self._settling = Settling(genesis, salts, replica, gossiped, start, hash_salt)
        self._judging = Judging(self._settling, replica, gossiped, journaling, absorb)
        self._jumping = Jumping(setup, salts, engine, journaling, hash_salt)
        self.desk = CertificateDesk(
            setup, replica, engine, journaling, snapshot, self._settling.commitments, self._jumping
        )
        votes = (committee, setup.name, setup.identity, setup.timeouts, journaling, engine)
        is_validator = "validator" in genesis.member(setup.name).roles
        self.voting = Voting(*votes) if is_validator else None
        self.stopped = ""
        self.offences = Offences(committee, journaling)
        self.matches = SettledMatches()
        self.timings: dict[int, Timing] = {}
        self.jumped: frozenset[bytes] | None = None
        """Set by a jump, for the core to take: lanes that are settled beyond what was held of them."""
        self._out: list[Output] = []
        self._turn: tuple[int, int] | None = None  # (height, round) in which this node is to propose
        self._wanted: dict[bytes, bytes] = {}  # values to be judged for the agreement core, by their ids
        self._decision: Known | None = None  # of the next height
        self._decisions: dict[int, records.Decided] = {}  # of heights that wait for their certificate, for those behind
        self._others_at = 0
        self._begun_us = self._settled_us = self._settled_at = 0

    @property
    def height(self) -> int:
        """The height that is settled here."""
        return self._settling.height

    # -- start ----------------------------------------------------------------------------------------------

    def replay(self, record: JournalRecord) -> None:
        """A record of checkpoints or votes, in the order of the journal. Raises BadInput when it does not hold."""
        if record.kind == KIND_CHECKPOINT:
            self._settle_again(record)
        elif record.kind == KIND_VOTE and self.voting:
            self.voting.remembered(record)
        elif record.kind == KIND_META and record.hash == VOTES_FROM_RECORD and self.voting:
            self.voting.abstaining.votes_from = int.from_bytes(record.body, "big")
        elif record.kind == KIND_META and record.hash == EVIDENCE_RECORD:
            self.offences.remembered(record.body)

    def _settle_again(self, record: JournalRecord) -> None:
        """A height that was settled here must come to the same again."""
        body = records.read_checkpoint(record)
        if isinstance(body, records.Certificate):
            self._out += self.desk.replayed(record.seq, body.certificate)
        elif record.seq > self.height:
            outcome = self._settling.judge(body.value)
            if not isinstance(outcome, Settled):
                raise BadInput(what=f"checkpoint {record.seq}", where="journal", why=f"settles not again: {outcome}")
            self._move(outcome, body, 0)

    def start(self, now_us: int, restored: bool) -> list[Output]:
        """Everything is replayed. ``restored``: votes may be lost."""
        if self.voting:
            if restored:
                self._journaling.put(votes_from_record(UNKNOWN))
            if restored or self.voting.abstaining.votes_from == UNKNOWN:
                self.voting.abstaining.begin(self._draw(8))
            self.voting.begin(self.height)
        self._out.append(StartTimer(TICK, SOON_US))
        return self._done(now_us)

    # -- events ---------------------------------------------------------------------------------------------

    def received(self, app: AppReceived, now_us: int) -> list[Output]:
        """A message on one of the channels. Raises msgspec's errors for bytes that are none."""
        if app.channel == certificatedesk.CHANNEL:
            self._heard(app.peer, messages.decode_checkpoint_message(app.body), now_us)
        elif self.voting and not self.stopped:
            event = self.voting.received(app.peer, app.body)
            if event is not None:
                if not self.voting.is_open and self.voting.height_of(app.body) == self.height + 1:
                    self._others_at = self.height + 1
                    self._pace(now_us)
                self._step(now_us, event)
        return self._done(now_us)

    def timer(self, key: str, now_us: int) -> list[Output]:
        """One of ``TIMERS`` is due."""
        if key == TICK:
            self._tick(now_us)
        elif key == BODIES:
            self._look_again(now_us)
        elif key in TIMEOUTS and self.voting:
            self._step(now_us, self.voting.timed_out(key))
        return self._done(now_us)

    def durable(self, now_us: int) -> list[Output]:
        """More of the journal is on disk."""
        for id in list(self._wanted):
            self._step(now_us, *self._verdict(id))
        return self._done(now_us)

    def arrived(self, batches: Sequence[Batch], now_us: int) -> list[Output]:
        """Batches were applied."""
        if self._judging.waits_for(batches):
            self._look_again(now_us)
        return self._done(now_us)

    def _done(self, now_us: int) -> list[Output]:
        """Go on with whatever can go on; what there is to do."""
        if not self.stopped:
            self._jump(now_us)
        if not self.stopped:
            self._follow(now_us)
            self._step(now_us, *self._proposal())
            self._pace(now_us)
        out, self._out = self._out, []
        return out + (self.voting.take() if self.voting else [])

    def _tick(self, now_us: int) -> None:
        self._out.append(StartTimer(TICK, TICK_US))
        for peer in self._engine.peers:
            self._out += self.desk.stand(peer)
        self._out += self.desk.remind() + self.desk.fill(now_us)
        if not self.stopped:
            self._out += self.desk.look_ahead(now_us)
        if self.voting:
            question = self.voting.abstaining.question
            for peer in self._engine.peers if question else ():
                self._out += say(self._engine, peer, messages.WorkingAsk(question))
            if self.voting.is_open:
                self._step(now_us, RepairDue())
        self._look_again(now_us)

    def _heard(self, peer: str, message: messages.CheckpointMessage, now_us: int) -> None:
        match message:
            case messages.WorkingAsk(nonce):
                told = messages.WorkingTell(nonce, self.height + 1)
                self._out += say(self._engine, peer, told, self._journaling.needed)
            case messages.WorkingTell():
                if self.voting and self.voting.abstaining.told(peer, message):
                    self._journaling.put(votes_from_record(self.voting.abstaining.votes_from))
                    self.voting.begin(self.height)
            case _:
                self._out += self.desk.heard(peer, message, bool(self.stopped), now_us)

    def check_invariants(self) -> None:
        """Assert what must hold at every moment (docs/explanation/guarantees.md)."""
        height, digest = self._replica.base
        log = self.desk.certifying.log
        assert log.size == self.height == height, "the log has a leaf for every height"
        assert not height or log.leaf_hash_at(height - 1) == digest, "the base is what the log's last leaf names"
        record, commitments = self._settling.record, self._settling.commitments
        assert record is None or record.state_root == commitments.state_root, (
            "the state has the root that was agreed on"
        )
        assert self.desk.book.certified <= height, "what is certified is settled here"

    # -- agreement ------------------------------------------------------------------------------------------

    def _step(self, now_us: int, *events: Event) -> None:
        """Let the agreement core take these steps, and those that follow from what it asks."""
        queue = deque(events)
        while queue and self.voting and not self.stopped:
            for question in self.voting.step(queue.popleft(), now_us):
                queue.extend(self._answer(question, now_us))

    def _answer(self, question: Question, now_us: int) -> Sequence[Event]:
        match question:
            case ProposeWanted(height, round):
                self._turn = (height, round)
                return self._proposal()
            case ValidateWanted(height, id, value) if height == self.height + 1:
                self._wanted[id] = value
                return self._verdict(id)
            case Decided(height, _, _, value, precommits):
                if height == self.height + 1:
                    self._decision = records.Decided(value, precommits, now_us)
                elif decode_checkpoint(value).digest != self._replica.bases.get(height):
                    self._stop(f"height {height} was decided twice, and not alike")
            case EvidenceFound(evidence):
                self._out += self.offences.found(evidence)
            case DecisionWanted(peer, height):
                served = self.desk.serve(peer, height, now_us)
                self._out += served
                decision = self._decisions.get(height)
                if self.voting and decision and not served:
                    self.voting.tell(peer, decision.precommits, decision.value)
            case Disputed(height, round, _):
                self._stop(f"a quorum decided in round {round} of height {height} what does not hold here")
        return ()

    def _proposal(self) -> Sequence[Event]:
        """The value that it is this node's turn to propose, as soon as there is something to settle."""
        turn, self._turn = self._turn, None
        if turn is None or turn[0] != self.height + 1:
            return ()
        settled = self._settling.propose()
        if settled is None:
            self._turn = turn
            return ()
        self._judging.proposed(value_id(settled.value), settled)
        return [Proposed(*turn, settled.value)]

    def _verdict(self, id: bytes) -> Sequence[Event]:
        """The verdict on a value that the agreement core asked about, if it is known and may be told."""
        outcome = self._judge(id, self._wanted[id])
        if isinstance(outcome, Missing) or (isinstance(outcome, Settled) and not self._judging.is_durable(id)):
            return ()
        del self._wanted[id]
        if isinstance(outcome, str):
            self._out.append(Notify("checkpoint.refused", {"height": self.height + 1, "why": outcome}))
        return [Validated(self.height + 1, id, ok=isinstance(outcome, Settled))]

    def _judge(self, id: bytes, value: bytes) -> Settled | Missing | str:
        waited = self._judging.waits
        outcome = self._judging.judge(id, value)
        if self._judging.waits and not waited:
            self._out.append(StartTimer(BODIES, BODIES_US))
        return outcome

    def _look_again(self, now_us: int) -> None:
        """For what is missing: judge what can be judged by now, and ask for the rest."""
        if self._judging.waits:
            self._judging.look_again()
            for id in list(self._wanted):
                self._step(now_us, *self._verdict(id))
            if not self.stopped:
                self._follow(now_us)
            self._out += self._judging.ask(self._engine, now_us)

    def _pace(self, now_us: int) -> None:
        """Begin the next height, if it is time and there is reason to."""
        following = self.height + 1
        if self.stopped or not self.voting or self.voting.height >= following:
            return
        if self._journaling.durable < self._settled_at or self.desk.following.next(following):
            return
        if self._others_at < following and not self._settling.news():
            return
        wait_us = self._settled_us + self._interval_us - now_us
        if wait_us > 0:
            self._out.append(StartTimer(PACE, wait_us))
            return
        self._begun_us = now_us
        self._step(now_us, StartHeight(following))

    def _stop(self, why: str) -> None:
        self.stopped = why
        self._out.append(Notify("checkpoint.stopped", {"height": self.height, "why": why}))

    # -- settling -------------------------------------------------------------------------------------------

    def _follow(self, now_us: int) -> None:
        """Settle what is decided or certified, as far as it goes; then ask for more."""
        if self._jumping.installing:
            return
        while known := self._decision or self.desk.next_certified(self.height + 1, now_us, self._out):
            id = value_id(known.value)
            outcome = self._judge(id, known.value)
            if isinstance(outcome, str):
                self._stop(f"height {self.height + 1} is decided, and does not hold here: {outcome}")
                return
            if isinstance(outcome, Missing):
                self._jumping.stuck(self.height + 1, now_us)
                break
            if not self._judging.is_durable(id):
                break
            self._adopt(outcome, known, now_us)
        peer = self.desk.following.ask(self.height + 1, now_us)
        if peer:
            self._out += say(self._engine, peer, messages.CertifiedAsk(self.height + 1))

    def _adopt(self, settled: Settled, known: Known, now_us: int) -> None:
        """The next height is settled, for good: journal it, move there, put this node's name to it."""
        height = settled.checkpoint.height
        self._settled_at = self._journaling.put(records.checkpoint_record(height, settled.checkpoint.digest, known))
        self._settled_us = now_us
        self._move(settled, known, self._settled_at)
        self._absorb()
        self.timings[height], self._begun_us = Timing(self._begun_us, now_us), 0
        self.timings.pop(height - TIMINGS, None)
        self._out.append(Notify("checkpoint.settled", {"height": height, "adjusted": settled.settlement.causes}))
        if isinstance(known, records.Adopted):
            self._out += self.desk.certified(height, known.certificate, now_us)
        else:
            self._out += self.desk.announce(height, now_us)

    def _jump(self, now_us: int) -> None:
        """Stand on a state that came from a peer and is durable by now. What was signed of heights that are passed by stays signed;
        nothing is signed of them any more."""
        if self._jumping.disputed:
            self._stop(self._jumping.disputed)
            return
        ready = self._jumping.ready(now_us)
        if ready is None:
            return
        self._absorb()
        self.jumped, told = land(ready, self._gossiped, self._settling, self.desk)
        self._decisions.clear()
        self._begin_next()
        self._settled_at, self._settled_us, self._begun_us = ready.position, now_us, 0
        self._absorb()
        self._out += told

    def _begin_next(self) -> None:
        """Nothing that was said of the next height counts any more: it is another one."""
        self._turn = self._decision = None
        self._wanted.clear()
        self._judging.moved()

    def _move(self, settled: Settled, known: Known, position: int) -> None:
        """Stand on the next height."""
        checkpoint, value, settlement, commitments = settled
        self.matches.settling(self._replica, settlement, checkpoint.height)
        self._gossiped.rebase(checkpoint.height, checkpoint.digest, settlement.state)
        self._settling.adopt(settled)
        adjustments = encode_adjustments(settlement.adjustments)
        kept = SettledHeight(checkpoint, value, settlement.state, commitments, adjustments, known.decided_us, position)
        self.desk.settled(kept, settlement.causes)
        certified = self.desk.book.certified
        self._decisions = {height: one for height, one in self._decisions.items() if height > certified}
        if isinstance(known, records.Decided):
            self._decisions[checkpoint.height] = known
        self._begin_next()
