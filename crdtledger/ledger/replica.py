"""The replica: base + lanes + frontier. The CRDT whose join is the per-lane prefix union.

``admit`` takes one batch's bytes and answers; it judges form, signature, chain, deps and base, never meaning, and never
raises for hostile bytes. Lanes are strictly first-in, first-out: a batch whose predecessor, deps or base are missing waits
(bounded), and is applied when they arrive.

A fork (two signed headers for one place in a lane, or a header that denies its lane's signed predecessor) is evidence
against the lane's node. Evidence is monotone: the lane ends before the lowest fork known, everywhere, so replicas with the
same evidence and the same batches agree again. What stood beyond is kept aside, bounded.

The base is the newest checkpoint: its settled state, and how far it settles each lane (the cut). What is at or below the cut is
pruned; deps on it are met, and nothing that arrives changes it. ``rebase`` moves the base. A checkpoint may settle a branch that
this replica had set aside: settled is settled, so that branch stands, and ours goes aside with the evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from crdtledger.errors import InvalidBatch
from crdtledger.ledger.aside import Aside
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
from crdtledger.ledger.lanestate import LaneState
from crdtledger.ledger.outcome import (
    Applied,
    Duplicate,
    Forked,
    Missing,
    Name,
    Outcome,
    Pending,
    Rejected,
    Settled,
)
from crdtledger.ledger.settled import SettledLane, SettledState
from crdtledger.ledger.shelf import Shelf
from crdtledger.ledger.view import Break, View
from crdtledger.ledger.waiting import WaitingRoom

__all__ = [
    "Applied",
    "Duplicate",
    "Forked",
    "Missing",
    "Name",
    "Outcome",
    "Pending",
    "Rejected",
    "Replica",
    "Settled",
]


class LaneEnd(Protocol):
    """A row of a cut: the lane, and the batch up to which it is to be settled."""

    @property
    def lane(self) -> bytes: ...
    @property
    def seq(self) -> int: ...
    @property
    def hash(self) -> bytes: ...


class Replica:
    """A cluster's batches as one node holds them, and the view over them.

    ``documents``: keep a pycrdt document per lane up to date (``lane_document`` builds one on demand otherwise, which is
    what large simulations want). ``salt``: secret randomness for hash tables. ``state`` and ``base`` (height, digest): the
    checkpoint to start from, instead of the genesis; ``bases``: the digests of earlier heights, for batches that stand on
    them (one that names a height without a known digest waits). ``shelf``: where settled batches stay for a while.
    """

    def __init__(
        self,
        genesis: Genesis,
        salt: int = 0,
        documents: bool = True,
        state: SettledState | None = None,
        base: tuple[int, bytes] | None = None,
        bases: Mapping[int, bytes] | None = None,
        shelf: Shelf | None = None,
    ) -> None:
        self.genesis = genesis
        self.state = SettledState.empty(genesis) if state is None else state
        self.base = (0, genesis.hash) if base is None else base
        self.bases = {**(bases or {}), 0: genesis.hash, self.base[0]: self.base[1]}
        self._view: View | None = None
        self._salt = salt
        self._documents = documents
        self._lanes = {key: self._settled_lane(settled) for key, settled in self.state.lanes.items()}
        self._order: dict[bytes, Batch] = {}  # unsettled, by hash, in the order in which they were applied
        self._waiting = WaitingRoom()
        self._aside = Aside()
        self._shelf = Shelf() if shelf is None else shelf

    def _settled_lane(self, settled: SettledLane) -> LaneState:
        lane = LaneState(settled.seq, settled.hash, settled.base_height)
        self._close(lane, settled)
        return lane

    def _close(self, lane: LaneState, settled: SettledLane) -> None:
        """Take the base's word on whether a lane is closed, and on the evidence that closed it."""
        if settled.closed:
            lane.closed = True
            lane.evidence = open_evidence(settled.evidence, self.genesis) if settled.evidence else None

    @property
    def view(self) -> View:
        """The view of everything held, over the base. A fork takes batches out of it, a rebase settles some, and it is then
        folded anew, but only when somebody looks: a member that forks a thousand lanes of its own costs one folding."""
        if self._view is None:
            self._view = View(self.genesis, self._salt, base=self.state)
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
            outcome = Applied((batch, *self._release([batch.key])))
        return outcome

    def _place(self, batch: Batch) -> Outcome | None:
        """Why the batch cannot be applied right now, or None if it can."""
        refusal = self._wrong_base(batch)
        if refusal is not None:
            return refusal
        lane = self._lanes.get(batch.key, _NOTHING)
        if lane.closed and (batch.seq <= lane.settled or lane.evidence is None):
            return Settled()
        clash = None if lane.closed else self._clash(batch, lane)
        if clash is not None and (lane.evidence is None or clash.seq < lane.evidence.seq):
            return self._fork(clash, batch)
        if lane.evidence and (clash is not None or batch.seq > max(lane.evidence.seq - 1, lane.settled)):
            if not lane.closed:
                self._aside.keep(batch)
            return Forked(lane.evidence, new=False)
        if batch.seq <= lane.seq:
            return self._known(batch, lane)
        if batch.seq > lane.seq + 1:
            return self._wait(batch, (Name(batch.key, lane.seq + 1),))
        hindrance = self._hindrance(batch, lane)
        return self._wait(batch, hindrance) if isinstance(hindrance, tuple) else hindrance

    def _wrong_base(self, batch: Batch) -> Rejected | None:
        height, name = batch.header.base
        if self.bases.get(height, name) == name:
            return None
        return Rejected(f"header.base: the checkpoint of height {height} is {self.bases[height].hex()}, not {name.hex()}")

    def _known(self, batch: Batch, lane: LaneState) -> Duplicate | Settled | Rejected:
        """The answer to a batch at a place that is taken, which contradicts nothing held there."""
        if batch.seq > lane.settled:
            return Duplicate()
        if batch.seq == lane.settled and batch.hash != lane.settled_hash:
            # Two signed batches would prove it. The one that counts is not held here: this replica started from its checkpoint.
            return Rejected(f"batch: a checkpoint settled another one at seq {batch.seq} of its lane")
        if batch.seq == lane.settled:
            lane.settled_head = batch
        return Settled()

    def _hindrance(self, batch: Batch, lane: LaneState) -> Rejected | tuple[Name, ...] | None:
        """Why the next batch of a lane cannot be applied: it does not hold, or what is missing (nothing named: its base)."""
        if batch.header.prev != lane.hash:
            return Rejected(f"header.prev: a checkpoint settled another batch at seq {lane.seq} of its lane")
        height = batch.header.base[0]
        if height < lane.newest_base:
            return Rejected(f"header.base: falls from {lane.newest_base} to {height} within the lane")
        refusal = self._wrong_base(batch)
        if refusal is not None:
            return refusal
        if height not in self.bases:
            return ()
        missing = tuple(self._missing(batch))
        self._waiting.block(batch, missing)
        return missing or None

    def _clash(self, batch: Batch, lane: LaneState) -> ForkEvidence | None:
        """The lowest fork that this batch proves beside its neighbours, held, settled or waiting: so no two that clash ever
        wait together."""
        waiting = self._waiting.of(batch.key)

        def at(seq: int) -> Batch | None:
            return lane.at(seq) or self._shelf.at(batch.key, seq) or waiting.get(seq)

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
            lane = self._lanes.get(dep.lane, _NOTHING)
            if dep.seq <= lane.settled:
                continue  # the base holds what was granted up to the cut, whichever branch was settled
            if lane.end is not None and dep.seq > lane.end:
                # It stands beyond a fork and will never count. What comes before the fork does, and must be here.
                if lane.seq < lane.end:
                    yield Name(dep.lane, lane.end)
            elif not lane.holds(dep.seq, dep.hash):
                yield Name(dep.lane, dep.seq, dep.hash)

    def _apply(self, batch: Batch) -> None:
        lane = self._lanes.setdefault(batch.key, LaneState())
        lane.batches.append(batch)
        self._order[batch.hash] = batch
        if self._documents:
            if lane.document is None:
                lane.document = LaneDocument(batch.key, lane.settled)
            lane.document.append([batch.raw])
        if self._view is not None:
            self._view.apply(batch)

    def _wait(self, batch: Batch, missing: tuple[Name, ...]) -> Pending:
        return Pending(missing, self._waiting.keep(batch))

    def _release(self, changed: Iterable[bytes]) -> Iterator[Batch]:
        """Apply whatever was waiting for these lanes to move, and what waited for that."""
        moved = list(changed)
        while moved:
            for lane in self._waiting.moved_by(moved.pop()):
                while (batch := self._next_waiting(lane)) is not None:
                    self._apply(batch)
                    if lane not in moved:
                        moved.append(lane)
                    yield batch

    def _next_waiting(self, key: bytes) -> Batch | None:
        """Take the next batch of a lane out of the waiting room if everything it stands on is here."""
        lane = self._lanes.get(key, _NOTHING)
        batch = self._waiting.of(key).get(lane.seq + 1)
        if batch is None:
            return None
        hindrance = self._hindrance(batch, lane)
        if isinstance(hindrance, tuple):
            return None
        self._waiting.drop(batch)
        return None if hindrance else batch

    # -- forks ----------------------------------------------------------------------------------------------

    def admit_evidence(self, raw: bytes) -> Duplicate | Forked | Rejected:
        """Take in evidence from anybody. ``Forked(new=True)`` if it taught something; what waited is then applied."""
        try:
            evidence = open_evidence(raw, self.genesis)
        except InvalidBatch as error:
            return Rejected(str(error))
        lane = self._lanes.get(evidence.lane, _NOTHING)
        if lane.closed or (lane.evidence and (lane.evidence.seq, lane.evidence.raw) <= (evidence.seq, evidence.raw)):
            return Duplicate()
        return Forked(evidence, new=True, batches=self._condemn(evidence))

    def _fork(self, evidence: ForkEvidence, batch: Batch) -> Forked:
        self._aside.keep(batch)
        return Forked(evidence, new=True, batches=self._condemn(evidence))

    def _condemn(self, evidence: ForkEvidence) -> tuple[Batch, ...]:
        """End the lane before the fork, rebuild its document, and let go of the view and of who waited for what lay beyond.

        Of several proofs for one seq everybody ends up with the least, so that frontiers and evidence become equal.
        """
        lane = self._lanes.setdefault(evidence.lane, LaneState())
        lane.evidence = evidence
        if self._put_aside(self._beyond_end(evidence.lane, lane)) and lane.document is not None:
            lane.document = _document(evidence.lane, lane)
        return tuple(self._release([evidence.lane]))

    def _beyond_end(self, key: bytes, lane: LaneState) -> list[Batch]:
        """Take away what of a lane can never count any more, held or waiting; what was held is returned."""
        end = lane.end
        for batch in list(self._waiting.of(key).values()):
            if batch.seq <= lane.settled or (end is not None and batch.seq > end):
                self._waiting.drop(batch)
        return [] if end is None else lane.cut_after(end)

    def _put_aside(self, lost: Sequence[Batch]) -> bool:
        """Batches that were held stand no longer. Whether there were any."""
        for batch in lost:
            del self._order[batch.hash]
            self._aside.keep(batch)
        if lost:
            self._view = None
        return bool(lost)

    def aside(self) -> Mapping[bytes, Batch]:
        """Batches beyond a fork, by hash; the oldest are forgotten first."""
        return self._aside

    def evidence(self) -> dict[bytes, bytes]:
        """Evidence in force, the base's included, by its digest."""
        held = [lane.evidence for lane in self._lanes.values() if lane.evidence]
        return {digest("evidence-id", evidence.raw): evidence.raw for evidence in held}

    # -- settling -------------------------------------------------------------------------------------------

    def collect(self, cut: Iterable[LaneEnd]) -> list[Batch] | Missing:
        """The batches between the base and a cut, lane by lane in seq order, or the names of the highest missing ones.

        They are found by their hashes, down from each lane's end, wherever they are: in the lane, waiting, or aside. Whether the
        cut extends the base is not judged here. Until the next call the batches of this cut are not forgotten, nor are
        those of it that come in.
        """
        found: list[Batch] = []
        missing: list[Name] = []
        for end in cut:
            path, gap = self._path(end.lane, end.seq, end.hash)
            found += path
            missing += gap
        self._aside.want({batch.hash for batch in found} | {name.hash for name in missing})
        return Missing(tuple(missing)) if missing else found

    def _path(self, key: bytes, seq: int, hash: bytes) -> tuple[list[Batch], list[Name]]:
        """The batches of a lane above the base and up to the one named, and the name of the first that is missing, downwards."""
        lane = self._lanes.get(key, _NOTHING)
        path: list[Batch] = []
        while seq > lane.settled:
            if lane.holds(seq, hash):
                return [*lane.batches[: seq - lane.settled], *reversed(path)], []
            batch = self._waiting.of(key).get(seq)
            if batch is None or batch.hash != hash:
                batch = self._aside.get(hash)
            if batch is None or (batch.key, batch.seq) != (key, seq):
                return path[::-1], [Name(key, seq, hash)]
            path.append(batch)
            seq, hash = seq - 1, batch.header.prev
        return path[::-1], []

    def rebase(self, height: int, digest: bytes, state: SettledState) -> list[Batch]:
        """Move the base to checkpoint ``height``, whose settled state is ``state``; what could be applied then, in order.

        Lanes are cut, their documents pruned, what waited for the base is released. ``ValueError`` unless the height is
        higher than the base's and everything between the two is held (``collect`` says what is missing first).
        """
        if height <= self.base[0]:
            raise ValueError(f"height {height} does not follow {self.base[0]}")
        paths: dict[bytes, list[Batch]] = {}
        for key, settled in state.lanes.items():
            paths[key], missing = self._path(key, settled.seq, settled.hash)
            lane = self._lanes.get(key, _NOTHING)
            first = paths[key][0].header.prev if paths[key] else settled.hash
            if missing or first != lane.settled_hash or settled.seq < lane.settled:
                raise ValueError(f"lane {key.hex()}: what height {height} settles is not held, or does not follow the base")
        for key, settled in state.lanes.items():
            self._settle(key, settled, paths[key])
        self._shelf.add({key: path for key, path in paths.items() if path})
        self.base, self.state, self._view = (height, digest), state, None
        self.bases[height] = digest
        self._aside.want(set())
        return list(self._release(self._waiting.lanes()))

    def _settle(self, key: bytes, settled: SettledLane, path: Sequence[Batch]) -> None:
        lane = self._lanes.setdefault(key, LaneState())
        straight = lane.holds(settled.seq, settled.hash)
        for batch in path:
            self._order.pop(batch.hash, None)
        lost = lane.settle(path, settled)
        self._close(lane, settled)
        lost += self._beyond_end(key, lane)
        self._put_aside(lost)
        if lane.document is not None:
            if straight and not lost:
                lane.document.prune(len(path))
            else:
                lane.document = _document(key, lane)

    def shelve(self, batches: Iterable[Batch]) -> None:
        """Put settled batches back on the shelf after a start from a checkpoint: of each lane as many as are, by their
        hashes, an unbroken chain down from the cut."""
        given: dict[bytes, dict[bytes, Batch]] = {}
        for batch in batches:
            given.setdefault(batch.key, {})[batch.hash] = batch
        runs: dict[bytes, list[Batch]] = {}
        for key, by_hash in given.items():
            lane = self._lanes.get(key, _NOTHING)
            name, run = lane.settled_hash, []
            while (found := by_hash.get(name)) is not None:
                run.append(found)
                name = found.header.prev
            if run:
                lane.settled_head = run[0]
                runs[key] = run[::-1]
        self._shelf.add(runs)

    @property
    def wanted_height(self) -> int:
        """The highest base above ours that a waiting batch stands on, 0 for none: a hint that checkpoints are missing here."""
        return max((batch.header.base[0] for batch in self._waiting if batch.header.base[0] > self.base[0]), default=0)

    def unsettled(self) -> int:
        """How many batches are held above the base."""
        return len(self._order)

    # -- reading --------------------------------------------------------------------------------------------

    def frontier(self) -> Frontier:
        """Exactly what this replica holds."""
        return {key: lane.head() for key, lane in self._lanes.items()}

    def head(self, lane: bytes) -> LaneHead:
        """The newest batch of a lane, which may be settled and pruned; seq 0 if there is none."""
        return self._lanes.get(lane, _NOTHING).head()

    def batch(self, lane: bytes, seq: int) -> Batch | None:
        """The batch at a place, if it is held; settled ones are, for a while."""
        return self._lanes.get(lane, _NOTHING).at(seq) or self._shelf.at(lane, seq)

    def hash_at(self, lane: bytes, seq: int) -> bytes | None:
        """The hash of the batch at a place, if it is known: the cut's is, whether or not its batch is held."""
        state = self._lanes.get(lane, _NOTHING)
        if seq and seq == state.settled:
            return state.settled_hash
        batch = self.batch(lane, seq)
        return batch.hash if batch else None

    def batches(self) -> Iterator[Batch]:
        """Every unsettled batch held, in an order that respects lanes and deps."""
        return iter(self._order.values())

    def __len__(self) -> int:
        return self.state.batches + len(self._order)

    def lanes_of(self, node: bytes) -> list[bytes]:
        """The lanes of one member, oldest epoch first."""
        return sorted(key for key, state in self._lanes.items() if key.startswith(node) and state.seq)

    def lane_document(self, lane: bytes) -> LaneDocument:
        """The lane as a pycrdt document: the one kept, or one built now."""
        state = self._lanes.get(lane, _NOTHING)
        return state.document or _document(lane, state)

    def breaks(self) -> list[Break]:
        """The view's breaks, and every lane that is forked and not yet closed by the base."""
        forks = [
            Break(
                "fork", lane_text(key, self.genesis), f"forks at seq {lane.evidence.seq}: counts up to the one before"
            )
            for key, lane in self._lanes.items()
            if lane.evidence and not lane.closed
        ]
        return sorted([*self.view.breaks(), *forks], key=lambda item: (item.type, item.subject, item.detail))

    def break_count(self) -> int:
        """How many ``breaks`` there are."""
        forks = sum(lane.evidence is not None and not lane.closed for lane in self._lanes.values())
        return self.view.break_count() + forks

    def waiting(self) -> int:
        """How many batches wait for something that is missing."""
        return len(self._waiting)

    def digest(self) -> bytes:
        """32 bytes over frontier, base and view: equal replicas, and only they, give equal digests."""
        height, name = self.base
        return digest("replica", frontier_digest(self.frontier()), height.to_bytes(8, "big"), name, self.view.digest())

    def check_invariants(self) -> None:
        """Assert what must hold at every moment (docs/explanation/guarantees.md). For tests, simulations and ``doctor``."""
        imbalance = self.view.collateral.imbalance()
        assert not imbalance, f"conservation: in - held - out is {imbalance}"
        undivided = {m.name for m in self.genesis.nodes if self.view.rights.undivided(m.id)}
        overdrawn = [entry for entry in self.view.collateral.overdrawn() if entry[2] in undivided]
        assert not overdrawn, f"overdraft: {overdrawn}"
        for key, lane in self._lanes.items():
            prev, base = lane.settled_hash, lane.base_height
            assert (lane.settled == 0) == (prev == FIRST_PREV), "a cut names a batch"
            assert lane.settled_head is None or lane.settled_head.hash == prev, "the settled head is the cut's batch"
            for seq, batch in enumerate(lane.batches, lane.settled + 1):
                assert (batch.key, batch.seq, batch.header.prev) == (key, seq, prev), "a lane is one unbroken chain"
                assert base <= batch.header.base[0] <= self.base[0], "a base never falls, and is one that is known"
                assert self.bases[batch.header.base[0]] == batch.header.base[1], "a base is the checkpoint of its height"
                prev, base = batch.hash, batch.header.base[0]
            assert lane.end is None or lane.seq <= lane.end, "a forked lane ends before its fork, or at the cut"
            if lane.document is not None:
                size = (lane.document.pruned, len(lane.document))
                assert size == (lane.settled, len(lane.batches)), "a lane's document holds its unsettled batches"
        assert len(self._order) == sum(len(lane.batches) for lane in self._lanes.values())
        cuts = {key: (lane.seq, lane.hash) for key, lane in self.state.lanes.items()}
        held = {key: (lane.settled, lane.settled_hash) for key, lane in self._lanes.items() if lane.settled or lane.closed}
        assert cuts == held, "lanes are cut where the base settles them"


_NOTHING = LaneState()
"""What is known of a lane never heard of. Never written to."""


def _document(key: bytes, lane: LaneState) -> LaneDocument:
    return rebuild(key, (batch.raw for batch in lane.batches), lane.settled)
