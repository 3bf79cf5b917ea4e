"""Agreement on one value per height: Algorithm 1 of "The latest gossip on BFT consensus" (arXiv 1807.04938).

``Tendermint.step(event, now_us)`` takes one event and answers with effects (``reconcile.agreement``). Each rule below names the lines
of Algorithm 1 that it is. After every event all rules are tried, again and again until none applies, so votes that came before their
proposal, or for a later step, are never overlooked.

Where this differs from the paper, and why:

- Thresholds are weights: "2f+1" is a quorum, "f+1" is a set that cannot be all faulty (``reconcile.quorum``).
- getValue and valid are asked of the driver and answered later, or never. So the proposer, too, schedules timeoutPropose (L21), and a
  rule that needs valid(v) waits for it while others go on.
- A value is known by its id: L36 and L49 need its bytes, from whichever proposal or bundle, not the proposal of that very round.
- A prevote says the round it rests on (``vr``, see ``reconcile.votes``).
- After a decision (L49) the core rests until the driver starts the next height. It keeps votes of the height before and of the next.
- A validator signs no second statement for a slot, whatever the rules say: it looks first at what it has signed, which is
  what was persisted. One that lost its memory follows without a voice below ``votes_from``.

Others' messages are passed on once each, self-contradictions included (two per slot): an honest node may depend on having seen what
another saw. What nobody answers for is how long a height takes: agreement holds always, progress once messages arrive in time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import IntEnum

from crdtledger.ledger.identity import Identity

from .agreement import (
    Broadcast,
    Decided,
    Disputed,
    Effect,
    Event,
    EvidenceFound,
    PersistVote,
    Proposed,
    ProposeWanted,
    Received,
    RepairDue,
    ScheduleTimeout,
    StartHeight,
    TimedOut,
    TimeoutKind,
    Timeouts,
    Validated,
    ValidateWanted,
)
from .evidence import Evidence
from .intake import Intake
from .quorum import Committee
from .repair import summarise
from .votejournal import VoteRecord, encode_record, read_records
from .votekeeper import VoteKeeper
from .votes import NIL, NO_ROUND, Bundle, Kind, Summary, Vote, sign, value_id


class Step(IntEnum):
    """Where in its round a validator stands. ``DECIDED`` (and before the first height): nowhere."""

    PROPOSE = 0
    PREVOTE = 1
    PRECOMMIT = 2
    DECIDED = 3


class Tendermint:
    """One validator, or one who follows without a voice.

    ``identity``: the key that signs; None, or a key that is not in the committee, follows only. ``records``: what ``PersistVote``
    ever asked to write and was written, in order; BadInput if they do not hold. ``votes_from``: the first height at which it may sign
    anything. ``position``: the last position that was persisted.
    """

    def __init__(
        self,
        committee: Committee,
        identity: Identity | None = None,
        *,
        timeouts: Timeouts | None = None,
        records: Iterable[bytes] = (),
        votes_from: int = 1,
        position: int = 0,
    ) -> None:
        self.committee = committee
        self.height = 0
        self.round = 0
        self.step_now = Step.DECIDED
        self.locked_id = NIL
        self.locked_round = NO_ROUND
        self.valid_value: bytes | None = None
        self.valid_round = NO_ROUND
        self._identity = identity
        self._me = committee.places.get(identity.public_key) if identity else None
        self._timeouts = timeouts or Timeouts()
        self._votes_from = votes_from
        self._position = position
        self._signed: dict[tuple[int, int, Kind], VoteRecord] = {}
        for record in read_records(records, committee, self._me):
            vote = record.vote
            self._signed[vote.height, vote.round, vote.kind] = record
        self._intake = Intake(committee)
        self._verdicts: dict[bytes, bool | None] = {}
        self._once: set[tuple[str, int]] = set()
        self._effects: list[Effect] = []

    def step(self, event: Event, now_us: int) -> list[Effect]:
        """What must be done about ``event``, in this order."""
        self._effects = []
        match event:
            case StartHeight(height):
                self._start_height(height)
            case Received(peer, frame):
                if self.height:
                    self._effects += self._intake.receive(peer, frame, self._position, now_us)
            case Proposed(height, round, value):
                self._proposed(height, round, value)
            case Validated(height, id, ok):
                if height == self.height:
                    self._verdicts[id] = ok
            case TimedOut(kind, height, round):
                self._timed_out(kind, height, round)
            case RepairDue():
                if self.height:
                    self._effects.append(Broadcast(self.summary(), 0))
        self._apply_rules()
        return self._effects

    def summary(self) -> Summary:
        """Where this node stands and what it holds."""
        return summarise(self._keeper, self.round)

    # -- heights and rounds ----------------------------------------------------------------------------------

    def _start_height(self, height: int) -> None:
        if height <= self.height:
            return
        self.height = height
        self._intake.start(height)
        self._signed = {slot: record for slot, record in self._signed.items() if slot[0] >= height}
        self._verdicts, self._once = {}, set()
        self.locked_id, self.locked_round = NIL, NO_ROUND
        self.valid_value, self.valid_round = None, NO_ROUND
        own = [record for slot, record in sorted(self._signed.items()) if slot[0] == height]
        if own:
            self._resume(own)
        else:
            self._start_round(0)

    def _resume(self, own: list[VoteRecord]) -> None:
        """Stand again where the votes that were persisted leave off, and say them again.

        The valid value falls back to the locked one: its polka was persisted, so the others can be shown it. One whose polka is
        lost would be proposed in vain for ever.
        """
        for record in own:
            vote = record.vote
            if vote.kind is Kind.PROPOSAL or record.locks:
                self._verdicts[vote.value_id] = True
            if record.locks:
                self.locked_id, self.locked_round = vote.value_id, vote.round
                self.valid_value, self.valid_round = record.value, vote.round
            self._effects.append(Broadcast(record.message, self._position))
        last = own[-1].vote
        self.round, self.step_now = last.round, Step(last.kind)
        self._note(self._keeper.move_to(self.round))
        for record in own:
            self._keeper.add(record.message)
            if record.locks:
                self._note(self._keeper.adopt(Bundle(record.polka, record.value)).evidence)
        if self.step_now is Step.PROPOSE:
            self._schedule("propose")

    def _start_round(self, round: int) -> None:
        """L11-L21."""
        self.round, self.step_now = round, Step.PROPOSE
        self._note(self._keeper.move_to(round))
        if self.committee.proposer(self.height, round) == self._me and self._may_sign:
            if self.valid_value is not None:  # L15-L16
                self._propose(self.valid_value, self.valid_round)
            else:  # L18
                self._effects.append(ProposeWanted(self.height, round))
        self._schedule("propose")  # L21

    def _proposed(self, height: int, round: int, value: bytes) -> None:
        turn = self.committee.proposer(height, round) == self._me
        if (height, round, self.step_now) == (self.height, self.round, Step.PROPOSE) and turn and self._may_sign:
            self._verdicts[value_id(value)] = True
            self._propose(value, NO_ROUND)

    def _propose(self, value: bytes, vr: int) -> None:
        """L19."""
        self._sign(Kind.PROPOSAL, value_id(value), vr, value)

    def _timed_out(self, kind: TimeoutKind, height: int, round: int) -> None:
        if (height, round) != (self.height, self.round):
            return
        if kind == "propose" and self.step_now is Step.PROPOSE:  # L57-L60
            self._prevote(NIL, NO_ROUND)
        elif kind == "prevote" and self.step_now is Step.PREVOTE:  # L61-L64
            self._precommit(NIL)
        elif kind == "precommit" and self.step_now is not Step.DECIDED:  # L65-L67
            self._start_round(round + 1)

    # -- Algorithm 1, its rules ------------------------------------------------------------------------------

    def _apply_rules(self) -> None:
        rules: tuple[Callable[[], bool], ...] = (
            self._decide,
            self._skip,
            self._prevote_fresh,
            self._prevote_again,
            self._await_prevotes,
            self._lock,
            self._precommit_nil,
            self._await_precommits,
        )
        while self.step_now is not Step.DECIDED and any(rule() for rule in rules):
            pass

    def _prevote_fresh(self) -> bool:
        """L22-L27: a proposal that rests on no earlier round."""
        if self.step_now is not Step.PROPOSE:
            return False
        for proposal in self._keeper.of(self.round).proposals:
            if proposal.vr != NO_ROUND:
                continue
            ok = self._verdict(proposal.value_id)
            if ok is None:
                continue
            id = proposal.value_id
            self._prevote(id if ok and (self.locked_round == NO_ROUND or self.locked_id == id) else NIL, NO_ROUND)
            return True
        return False

    def _prevote_again(self) -> bool:
        """L28-L33: a proposal that rests on a polka of an earlier round."""
        if self.step_now is not Step.PROPOSE:
            return False
        for proposal in self._keeper.of(self.round).proposals:
            id, vr = proposal.value_id, proposal.vr
            if vr == NO_ROUND or not self._keeper.polka(vr, id):
                continue
            ok = self._verdict(id)
            if ok is None:
                continue
            self._prevote(id if ok and (self.locked_round <= vr or self.locked_id == id) else NIL, vr)
            return True
        return False

    def _await_prevotes(self) -> bool:
        """L34-L35."""
        if self.step_now is not Step.PREVOTE or not self._keeper.of(self.round).prevotes.any_quorum:
            return False
        return self._first_time("L34") and self._schedule("prevote")

    def _lock(self) -> bool:
        """L36-L43: a polka for a value of this round; lock it if there is still time, remember it in any case."""
        if self.step_now is Step.PROPOSE or ("L36", self.round) in self._once:
            return False
        for id in self._keeper.of(self.round).prevotes.quorum_ids():
            if id == NIL or not self._verdict(id):
                continue
            self._first_time("L36")
            value = self._keeper.values[id]
            self.valid_value, self.valid_round = value, self.round  # L42-L43
            if self.step_now is Step.PREVOTE:  # L37-L41
                self.locked_id, self.locked_round = id, self.round
                self._precommit(id, value, self._keeper.of(self.round).prevotes.quorum(id))
            return True
        return False

    def _precommit_nil(self) -> bool:
        """L44-L46."""
        if self.step_now is not Step.PREVOTE or not self._keeper.polka(self.round, NIL):
            return False
        self._precommit(NIL)
        return True

    def _await_precommits(self) -> bool:
        """L47-L48."""
        if not self._keeper.of(self.round).precommits.any_quorum:
            return False
        return self._first_time("L47") and self._schedule("precommit")

    def _decide(self) -> bool:
        """L49-L54: a quorum of precommits for a value, of any round."""
        for round, id in self._keeper.commits():
            ok = self._verdict(id)
            if ok is False and self._first_time("disputed"):
                self._effects.append(Disputed(self.height, round, id))
            if not ok:
                continue
            value = self._keeper.values[id]
            precommits = self._keeper.of(round).precommits.quorum(id)
            self.step_now = Step.DECIDED
            self._intake.decided(Bundle(precommits, value))
            self._effects.append(Decided(self.height, round, id, value, precommits, self._position))
            return True
        return False

    def _skip(self) -> bool:
        """L55-L56: some honest validator is in a later round."""
        later = self._keeper.reached(self.round)
        if later is None:
            return False
        self._start_round(later)
        return True

    def _prevote(self, id: bytes, vr: int) -> None:
        """Prevote ``id``, resting on the polka of ``vr`` or of the own lock, whichever is later."""
        self.step_now = Step.PREVOTE
        if id != NIL and id == self.locked_id:
            vr = max(vr, self.locked_round)
        self._sign(Kind.PREVOTE, id, vr if id != NIL else NO_ROUND)

    def _precommit(self, id: bytes, value: bytes = b"", polka: tuple[Vote, ...] = ()) -> None:
        self.step_now = Step.PRECOMMIT
        self._sign(Kind.PRECOMMIT, id, NO_ROUND, value, polka)

    # -- signing ---------------------------------------------------------------------------------------------

    @property
    def _may_sign(self) -> bool:
        return self._me is not None and self.height >= self._votes_from

    def _sign(self, kind: Kind, id: bytes, vr: int, value: bytes = b"", polka: tuple[Vote, ...] = ()) -> None:
        """Fill a slot, once: persist, then send, and hear oneself."""
        slot = (self.height, self.round, kind)
        if not self._may_sign or slot in self._signed:
            return
        assert self._identity is not None
        assert self._me is not None
        vote = sign(self._identity, self.committee, (kind, self.height, self.round, id, vr, self._me))
        record = VoteRecord(vote, value, polka)
        self._signed[slot] = record
        self._position += 1
        self._effects.append(PersistVote(self._position, encode_record(record)))
        self._effects.append(Broadcast(record.message, self._position))
        self._keeper.add(record.message)

    # -- small change ----------------------------------------------------------------------------------------

    @property
    def _keeper(self) -> VoteKeeper:
        return self._intake.keeper

    def _verdict(self, id: bytes) -> bool | None:
        """valid(v), asked for when first needed; None while it is not known."""
        if id in self._verdicts:
            return self._verdicts[id] if id in self._keeper.values else None
        value = self._keeper.values.get(id)
        if value is not None:
            self._verdicts[id] = None
            self._effects.append(ValidateWanted(self.height, id, value))
        return None

    def _schedule(self, kind: TimeoutKind) -> bool:
        delay_us = self._timeouts.delay_us(kind, self.round)
        self._effects.append(ScheduleTimeout(kind, self.height, self.round, delay_us))
        return True

    def _first_time(self, rule: str) -> bool:
        """Whether ``rule`` has not applied in this round before."""
        before = (rule, self.round) in self._once
        self._once.add((rule, self.round))
        return not before

    def _note(self, found: Iterable[Evidence]) -> None:
        self._effects.extend(EvidenceFound(evidence) for evidence in found)
