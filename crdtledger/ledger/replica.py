"""The replica: base + lanes + frontier. The CRDT whose join is the per-lane prefix union.

``admit`` takes one batch's bytes and answers; it judges form, signature, chain and deps, never meaning, and never raises
for hostile bytes. Lanes are strictly first-in, first-out: a batch whose predecessor or whose deps are missing waits
(bounded), and is applied when they arrive.

A fork (two signed headers for one place in a lane, or a header that denies its lane's signed predecessor) is evidence
against the lane's node. Evidence is monotone: the lane ends before the lowest fork known, everywhere, so replicas with the
same evidence and the same batches agree again. What stood beyond is kept aside, bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from crdtledger.errors import InvalidBatch
from crdtledger.ledger.batch import (
    FIRST_PREV,
    Batch,
    ForkEvidence,
    fork_evidence,
    lane_text,
    open_batch,
    open_evidence,
)
from crdtledger.ledger.frontier import Frontier, LaneHead, frontier_digest
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.identity import digest
from crdtledger.ledger.lane import LaneDocument, rebuild
from crdtledger.ledger.view import Break, View

MAX_PENDING_PER_LANE = 64
MAX_PENDING_BYTES = 16 * 1024 * 1024
MAX_KEPT_ASIDE = 64


class Name(msgspec.Struct, frozen=True, array_like=True):
    """Names one batch. An empty hash means: whichever stands there."""

    lane: bytes
    seq: int
    hash: bytes = b""


class Applied(msgspec.Struct, frozen=True):
    """The batch is in, and so are others that were waiting for it; in the order in which they were applied."""

    batches: tuple[Batch, ...]


class Duplicate(msgspec.Struct, frozen=True):
    """The replica holds this very batch."""


class Settled(msgspec.Struct, frozen=True):
    """The batch is below the base: it is part of a checkpoint already."""


class Pending(msgspec.Struct, frozen=True):
    """The batch is sound but what it stands on is missing. ``kept`` says whether the replica remembers it."""

    missing: tuple[Name, ...]
    kept: bool


class Forked(msgspec.Struct, frozen=True):
    """The batch's lane is forked at or below it; ``new`` says whether this arrival proved it. ``batches``: what had waited
    for something beyond the fork and was applied now."""

    evidence: ForkEvidence
    new: bool
    batches: tuple[Batch, ...] = ()


class Rejected(msgspec.Struct, frozen=True):
    """The bytes do not hold. Nothing was applied."""

    reason: str


Outcome = Applied | Duplicate | Settled | Pending | Forked | Rejected


class _LaneState:
    __slots__ = ("batches", "document", "evidence")

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.document: LaneDocument | None = None
        self.evidence: ForkEvidence | None = None


class Replica:
    """A cluster's batches as one node holds them, and the view over them.

    ``documents``: keep a pycrdt document per lane up to date (``lane_document`` builds one on demand otherwise, which is
    what large simulations want). ``salt``: secret randomness for hash tables.
    """

    def __init__(self, genesis: Genesis, salt: int = 0, documents: bool = True) -> None:
        self.genesis = genesis
        self.base = (0, genesis.hash)
        self._view: View | None = View(genesis, salt)
        self._salt = salt
        self._documents = documents
        self._lanes: dict[bytes, _LaneState] = {}
        self._order: dict[bytes, Batch] = {}  # by hash, in the order in which they were applied
        self._waiting: dict[bytes, dict[int, Batch]] = {}
        self._waiting_bytes = 0
        self._blocked: dict[bytes, set[bytes]] = {}  # lane -> lanes whose next batch waits for it
        self._aside: dict[bytes, Batch] = {}

    @property
    def view(self) -> View:
        """The view of everything held. A fork takes batches out of it, and it is then folded anew, but only when somebody
        looks: a member that forks a thousand lanes of its own costs one folding, not a thousand."""
        if self._view is None:
            self._view = View(self.genesis, self._salt)
            for batch in self._order.values():
                self._view.apply(batch)
        return self._view

    # -- admitting ------------------------------------------------------------------------------------------

    def admit(self, raw: bytes, check_signature: bool = True) -> Outcome:
        """Take in one batch. Any bytes are answered, none raise."""
        try:
            batch = open_batch(raw, self.genesis, check_signature)
        except InvalidBatch as error:
            return Rejected(str(error))
        return self.admit_batch(batch)

    def admit_batch(self, batch: Batch) -> Outcome:
        """Take in a batch that ``open_batch`` or ``seal`` made."""
        outcome = self._place(batch)
        if outcome is None:
            self._apply(batch)
            outcome = Applied((batch, *self._release(batch.key)))
        return outcome

    def _place(self, batch: Batch) -> Outcome | None:
        """Why the batch cannot be applied right now, or None if it can."""
        if batch.header.base != self.base:
            return Rejected(f"header.base: height {batch.header.base[0]} is unknown here, the base is {self.base[0]}")
        lane = self._lanes.get(batch.key)
        held = lane.batches if lane else []
        clash = self._clash(batch, held)
        if lane and lane.evidence and batch.seq >= lane.evidence.seq:
            if clash is not None and clash.seq < lane.evidence.seq:
                return self._fork(clash, batch)
            self._keep_aside(batch)
            return Forked(lane.evidence, new=False)
        if clash is not None:
            return self._fork(clash, batch)
        if batch.seq <= len(held):
            return Duplicate()
        if batch.seq > len(held) + 1:
            return self._wait(batch, (Name(batch.key, len(held) + 1),))
        missing = tuple(self._missing(batch))
        if not missing:
            return None
        outcome = self._wait(batch, missing)
        if outcome.kept:
            self._block(batch, missing)
        return outcome

    def _clash(self, batch: Batch, held: Sequence[Batch]) -> ForkEvidence | None:
        """The lowest fork that this batch proves beside its neighbours, held or waiting: so no two that clash ever wait together."""
        waiting = self._waiting.get(batch.key, {})

        def at(seq: int) -> Batch | None:
            return held[seq - 1] if 1 <= seq <= len(held) else waiting.get(seq)

        before, twin, after = at(batch.seq - 1), at(batch.seq), at(batch.seq + 1)
        proofs = []
        if before is not None and batch.header.prev != before.hash:
            proofs.append(fork_evidence(before, batch))
        if twin is not None and twin.hash != batch.hash:
            proofs.append(fork_evidence(twin, batch))
        if after is not None and after.header.prev != batch.hash:
            proofs.append(fork_evidence(batch, after))
        return min(proofs, key=lambda proof: (proof.seq, proof.raw), default=None)

    def _missing(self, batch: Batch) -> Iterator[Name]:
        for dep in batch.header.deps:
            lane = self._lanes.get(dep.lane)
            if lane and lane.evidence and dep.seq >= lane.evidence.seq:
                # It stands beyond a fork and will never count. What comes before the fork does, and must be here.
                if len(lane.batches) < lane.evidence.seq - 1:
                    yield Name(dep.lane, lane.evidence.seq - 1)
                continue
            if lane is None or len(lane.batches) < dep.seq or lane.batches[dep.seq - 1].hash != dep.hash:
                yield Name(dep.lane, dep.seq, dep.hash)

    def _apply(self, batch: Batch) -> None:
        lane = self._lanes.setdefault(batch.key, _LaneState())
        lane.batches.append(batch)
        self._order[batch.hash] = batch
        if self._documents:
            if lane.document is None:
                lane.document = LaneDocument(batch.key)
            lane.document.append([batch.raw])
        if self._view is not None:
            self._view.apply(batch)

    def _wait(self, batch: Batch, missing: tuple[Name, ...]) -> Pending:
        waiting = self._waiting.setdefault(batch.key, {})
        room = len(waiting) < MAX_PENDING_PER_LANE and self._waiting_bytes + len(batch.raw) <= MAX_PENDING_BYTES
        kept = batch.seq in waiting and waiting[batch.seq].hash == batch.hash
        if room and batch.seq not in waiting:
            waiting[batch.seq] = batch
            self._waiting_bytes += len(batch.raw)
            kept = True
        return Pending(missing, kept)

    def _block(self, batch: Batch, missing: Iterable[Name]) -> None:
        """Remember what the next batch of a lane waits for, so that an arrival looks only at those that wait for it."""
        for name in missing:
            self._blocked.setdefault(name.lane, set()).add(batch.key)

    def _release(self, changed: bytes) -> Iterator[Batch]:
        """Apply whatever was waiting for ``changed`` to move, and what waited for that."""
        moved = [changed]
        while moved:
            grown = moved.pop()
            for lane in sorted({grown, *self._blocked.get(grown, ())}):
                while (batch := self._next_waiting(lane)) is not None:
                    self._apply(batch)
                    if lane not in moved:
                        moved.append(lane)
                    yield batch

    def _next_waiting(self, lane: bytes) -> Batch | None:
        """Take the next batch of a lane out of the waiting room if everything it stands on is here."""
        waiting = self._waiting.get(lane)
        if not waiting:
            return None
        state = self._lanes.get(lane)
        batch = waiting.get(len(state.batches) + 1 if state else 1)
        if batch is None:
            return None
        missing = tuple(self._missing(batch))
        if missing:
            self._block(batch, missing)
            return None
        self._drop_waiting(batch)
        return batch

    def _drop_waiting(self, batch: Batch) -> None:
        waiting = self._waiting[batch.key]
        del waiting[batch.seq]
        self._waiting_bytes -= len(batch.raw)
        if not waiting:
            del self._waiting[batch.key]
        for dep in batch.header.deps:
            blocked = self._blocked.get(dep.lane)
            if blocked is not None:
                blocked.discard(batch.key)
                if not blocked:
                    del self._blocked[dep.lane]

    # -- forks ----------------------------------------------------------------------------------------------

    def admit_evidence(self, raw: bytes) -> Duplicate | Forked | Rejected:
        """Take in evidence from anybody. ``Forked(new=True)`` if it taught something; what waited is then applied."""
        try:
            evidence = open_evidence(raw, self.genesis)
        except InvalidBatch as error:
            return Rejected(str(error))
        known = self._lanes[evidence.lane].evidence if evidence.lane in self._lanes else None
        if known is not None and (known.seq, known.raw) <= (evidence.seq, evidence.raw):
            return Duplicate()
        return Forked(evidence, new=True, batches=self._condemn(evidence))

    def _fork(self, evidence: ForkEvidence, batch: Batch) -> Forked:
        self._keep_aside(batch)
        return Forked(evidence, new=True, batches=self._condemn(evidence))

    def _condemn(self, evidence: ForkEvidence) -> tuple[Batch, ...]:
        """End the lane before the fork, rebuild its document, and let go of the view and of who waited for what lay beyond.

        Of several proofs for one seq everybody ends up with the least, so that frontiers and evidence become equal.
        """
        lane = self._lanes.setdefault(evidence.lane, _LaneState())
        lane.evidence = evidence
        for batch in list(self._waiting.get(evidence.lane, {}).values()):
            if batch.seq >= evidence.seq:
                self._drop_waiting(batch)
        beyond = lane.batches[evidence.seq - 1 :]
        if beyond:
            del lane.batches[evidence.seq - 1 :]
            for batch in beyond:
                del self._order[batch.hash]
                self._keep_aside(batch)
            if self._documents:
                lane.document = rebuild(evidence.lane, (batch.raw for batch in lane.batches))
            self._view = None
        return tuple(self._release(evidence.lane))

    def _keep_aside(self, batch: Batch) -> None:
        self._aside.setdefault(batch.hash, batch)
        while len(self._aside) > MAX_KEPT_ASIDE:
            del self._aside[next(iter(self._aside))]

    def aside(self) -> Mapping[bytes, Batch]:
        """Batches beyond a fork, by hash; the oldest are forgotten first."""
        return self._aside

    def evidence(self) -> dict[bytes, bytes]:
        """Evidence in force, by its digest."""
        held = [lane.evidence for lane in self._lanes.values() if lane.evidence]
        return {digest("evidence-id", evidence.raw): evidence.raw for evidence in held}

    # -- reading --------------------------------------------------------------------------------------------

    def frontier(self) -> Frontier:
        """Exactly what this replica holds."""
        return {key: self.head(key) for key in self._lanes}

    def head(self, lane: bytes) -> LaneHead:
        """The newest batch held of a lane; seq 0 if there is none."""
        state = self._lanes.get(lane)
        if state is None:
            return LaneHead(0, FIRST_PREV)
        fork = state.evidence.seq if state.evidence else 0
        return LaneHead(len(state.batches), state.batches[-1].hash if state.batches else FIRST_PREV, fork)

    def batch(self, lane: bytes, seq: int) -> Batch | None:
        """The batch at a place, if it is held."""
        state = self._lanes.get(lane)
        return state.batches[seq - 1] if state and 1 <= seq <= len(state.batches) else None

    def batches(self) -> Iterator[Batch]:
        """Every batch held, in an order that respects lanes and deps."""
        return iter(self._order.values())

    def __len__(self) -> int:
        return len(self._order)

    def lanes_of(self, node: bytes) -> list[bytes]:
        """The lanes of one member, oldest epoch first."""
        return sorted(key for key, state in self._lanes.items() if key.startswith(node) and state.batches)

    def lane_document(self, lane: bytes) -> LaneDocument:
        """The lane as a pycrdt document: the one kept, or one built now."""
        state = self._lanes.get(lane, _LaneState())
        return state.document or rebuild(lane, (batch.raw for batch in state.batches))

    def breaks(self) -> list[Break]:
        """The view's breaks, and every forked lane."""
        forks = [
            Break(
                "fork", lane_text(key, self.genesis), f"forks at seq {lane.evidence.seq}: counts up to the one before"
            )
            for key, lane in self._lanes.items()
            if lane.evidence
        ]
        return sorted([*self.view.breaks(), *forks], key=lambda item: (item.type, item.subject, item.detail))

    def break_count(self) -> int:
        """How many ``breaks`` there are."""
        return self.view.break_count() + sum(lane.evidence is not None for lane in self._lanes.values())

    def waiting(self) -> int:
        """How many batches wait for something that is missing."""
        return sum(len(batches) for batches in self._waiting.values())

    def digest(self) -> bytes:
        """32 bytes over frontier and view: equal replicas, and only they, give equal digests."""
        return digest("replica", frontier_digest(self.frontier()), self.view.digest())

    def check_invariants(self) -> None:
        """Assert what must hold at every moment (docs/explanation/guarantees.md). For tests, simulations and ``doctor``."""
        imbalance = self.view.collateral.imbalance()
        assert not imbalance, f"conservation: in - held - out is {imbalance}"
        undivided = {m.name for m in self.genesis.nodes if self.view.rights.undivided(m.id)}
        overdrawn = [entry for entry in self.view.collateral.overdrawn() if entry[2] in undivided]
        assert not overdrawn, f"overdraft: {overdrawn}"
        for key, lane in self._lanes.items():
            prev = FIRST_PREV
            for seq, batch in enumerate(lane.batches, 1):
                assert (batch.key, batch.seq, batch.header.prev) == (key, seq, prev), "a lane is one unbroken chain"
                prev = batch.hash
            assert lane.evidence is None or len(lane.batches) < lane.evidence.seq, "a forked lane ends before its fork"
            if lane.document is not None:
                assert len(lane.document) == len(lane.batches), "a lane's document holds its batches"
        assert len(self._order) == sum(len(lane.batches) for lane in self._lanes.values())
