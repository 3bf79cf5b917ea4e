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

from collections.abc import Iterable, Iterator, Mapping

from crdtledger.errors import InvalidBatch
from crdtledger.ledger.batch import Batch, ForkEvidence, lane_text, open_batch, open_evidence
from crdtledger.ledger.breaks import Break
from crdtledger.ledger.frontier import Frontier, LaneHead, frontier_digest
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.identity import digest
from crdtledger.ledger.lane import LaneDocument
from crdtledger.ledger.lanes import LaneEnd, Lanes
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
from crdtledger.ledger.retention import Retention
from crdtledger.ledger.settled import SettledState
from crdtledger.ledger.shelf import Shelf
from crdtledger.ledger.view import View

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


class Replica:
    """A cluster's batches as one node holds them, and the view over them.

    ``documents``: keep a pycrdt document per lane up to date (``lane_document`` builds one on demand otherwise, which is
    what large simulations want). ``salt``: secret randomness for hash tables. ``state`` and ``base`` (height, digest): the
    checkpoint to start from, instead of the genesis; ``bases``: the digests of earlier heights, for batches that stand on
    them (one that names a height without a known digest waits). ``shelf``: where settled batches stay for a while; ``retention``:
    how long the journal keeps them.
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
        retention: Retention | None = None,
    ) -> None:
        self.genesis = genesis
        self.state = SettledState.empty(genesis) if state is None else state
        self.base = (0, genesis.hash) if base is None else base
        self.bases = {**(bases or {}), 0: genesis.hash, self.base[0]: self.base[1]}
        self.retention = Retention() if retention is None else retention
        self._view: View | None = None
        self._unfolded: list[Batch] = []  # applied, and not in the view yet
        self._salt = salt
        self._lanes = Lanes(
            self.state.lanes, lambda raw: open_evidence(raw, genesis), documents, Shelf() if shelf is None else shelf
        )

    @property
    def view(self) -> View:
        """The view of everything held, over the base. What came in is folded when somebody looks. A fork takes batches out of it, a
        rebase settles some, and it is then folded anew: a member that forks a thousand lanes of its own costs one folding."""
        if self._view is None:
            self._view = View(self.genesis, self._salt, base=self.state)
            self._unfolded = list(self._lanes.order.values())
        if self._unfolded:
            self._view.apply_all(self._unfolded)
            self._unfolded.clear()
        return self._view

    @property
    def folded(self) -> View | None:
        """The view as it was looked at last, unless it is to be folded anew: to tell whether it is still the same one."""
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
        lane = self._lanes[batch.key]
        if lane.closed:
            return Forked(lane.evidence, new=False) if lane.evidence and batch.seq > lane.settled else Settled()
        if (batch.seq, batch.hash) == (lane.settled, lane.settled_hash):
            lane.settled_head = batch
        clash = self._lanes.clash(batch)
        if clash is not None and (lane.evidence is None or clash.seq < lane.evidence.seq):
            return self._fork(clash, batch)
        if lane.evidence and (clash is not None or batch.seq > max(lane.evidence.seq - 1, lane.settled)):
            self._lanes.aside.keep(batch)
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
        return Rejected(
            f"header.base: the checkpoint of height {height} is {self.bases[height].hex()}, not {name.hex()}"
        )

    def _known(self, batch: Batch, lane: LaneState) -> Duplicate | Settled | Pending:
        """The answer to a batch at a place that is taken, which contradicts nothing held there."""
        if batch.seq > lane.settled:
            return Duplicate()
        if batch.seq == lane.settled and batch.hash != lane.settled_hash:
            # A fork, which it takes the settled batch to prove: this replica started from its checkpoint, without it.
            return Pending((Name(batch.key, lane.settled, lane.settled_hash),), kept=False)
        return Settled()

    def _hindrance(self, batch: Batch, lane: LaneState) -> Rejected | tuple[Name, ...] | None:
        """Why the next batch of a lane cannot be applied: it does not hold, or what is missing (nothing named: its base)."""
        if batch.header.prev != lane.hash:
            return (
                Name(batch.key, lane.seq, lane.hash),
            )  # a fork at the cut, which cannot be proven here: see ``_known``
        height = batch.header.base[0]
        if height < lane.newest_base:
            return Rejected(f"header.base: falls from {lane.newest_base} to {height} within the lane")
        refusal = self._wrong_base(batch)
        if refusal is not None:
            return refusal
        if height not in self.bases:
            return ()
        missing = tuple(self._lanes.missing(batch))
        self._lanes.waiting.block(batch, missing)
        return missing or None

    def _apply(self, batch: Batch) -> None:
        self._lanes.append(batch)
        if self._view is not None:
            self._unfolded.append(batch)

    def _wait(self, batch: Batch, missing: tuple[Name, ...]) -> Pending:
        return Pending(missing, self._lanes.waiting.keep(batch))

    def _release(self, changed: Iterable[bytes]) -> Iterator[Batch]:
        """Apply whatever was waiting for these lanes to move, and what waited for that."""
        moved = list(changed)
        while moved:
            for lane in self._lanes.waiting.moved_by(moved.pop()):
                while (batch := self._next_waiting(lane)) is not None:
                    self._apply(batch)
                    if lane not in moved:
                        moved.append(lane)
                    yield batch

    def _next_waiting(self, key: bytes) -> Batch | None:
        """Take the next batch of a lane out of the waiting room if everything it stands on is here."""
        lane = self._lanes[key]
        batch = self._lanes.waiting.of(key).get(lane.seq + 1)
        if batch is None:
            return None
        hindrance = self._hindrance(batch, lane)
        if isinstance(hindrance, tuple):
            return None
        self._lanes.waiting.drop(batch)
        return None if hindrance else batch

    # -- forks ----------------------------------------------------------------------------------------------

    def admit_evidence(self, raw: bytes) -> Duplicate | Forked | Rejected:
        """Take in evidence from anybody. ``Forked(new=True)`` if it taught something; what waited is then applied."""
        try:
            evidence = open_evidence(raw, self.genesis)
        except InvalidBatch as error:
            return Rejected(str(error))
        lane = self._lanes[evidence.lane]
        if lane.closed or (lane.evidence and (lane.evidence.seq, lane.evidence.raw) <= (evidence.seq, evidence.raw)):
            return Duplicate()
        return Forked(evidence, new=True, batches=self._condemn(evidence))

    def _fork(self, evidence: ForkEvidence, batch: Batch) -> Forked:
        self._lanes.aside.keep(batch)
        return Forked(evidence, new=True, batches=self._condemn(evidence))

    def _condemn(self, evidence: ForkEvidence) -> tuple[Batch, ...]:
        """End the lane before the fork, and let go of the view and of who waited for what lay beyond.

        Of several proofs for one seq everybody ends up with the least, so that frontiers and evidence become equal.
        """
        if self._lanes.condemn(evidence):
            self._view = None
        return tuple(self._release([evidence.lane]))

    def aside(self) -> Mapping[bytes, Batch]:
        """Batches beyond a fork, by hash; the oldest are forgotten first."""
        return self._lanes.aside

    def evidence(self) -> dict[bytes, bytes]:
        """Evidence in force, the base's included, by its digest."""
        held = [lane.evidence for _, lane in self._lanes.items() if lane.evidence]
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
            path, gap = self._lanes.path(end.lane, end.seq, end.hash)
            found += path
            missing += gap
        self._lanes.aside.want({batch.hash for batch in found} | {name.hash for name in missing})
        return Missing(tuple(missing)) if missing else found

    def rebase(self, height: int, digest: bytes, state: SettledState) -> list[Batch]:
        """Move the base to checkpoint ``height``, whose settled state is ``state``; what could be applied then, in order.

        Lanes are cut, their documents pruned, what waited for the base is released. ``ValueError`` unless the height is
        higher than the base's and everything between the two is held (``collect`` says what is missing first).
        """
        if height <= self.base[0]:
            raise ValueError(f"height {height} does not follow {self.base[0]}")
        paths: dict[bytes, list[Batch]] = {}
        for key, settled in state.lanes.items():
            paths[key], missing = self._lanes.path(key, settled.seq, settled.hash)
            lane = self._lanes[key]
            first = paths[key][0].header.prev if paths[key] else settled.hash
            if missing or first != lane.settled_hash or settled.seq < lane.settled:
                raise ValueError(
                    f"lane {key.hex()}: what height {height} settles is not held, or does not follow the base"
                )
        for key, settled in state.lanes.items():
            lane = self._lanes[key]
            if settled.seq > lane.settled or (settled.closed and not lane.closed):
                self._lanes.settle(key, settled, paths[key])
        self._lanes.shelve(paths)
        cuts = {key: path[-1].seq for key, path in paths.items() if path}
        self.retention.settled(cuts, sum(len(batch.raw) for path in paths.values() for batch in path))
        self.base, self.state, self._view = (height, digest), state, None
        self.bases[height] = digest
        self._lanes.aside.want(set())
        return list(self._release(self._lanes.waiting.lanes()))

    def jump(self, height: int, digest: bytes, state: SettledState, bases: Mapping[int, bytes]) -> list[Batch]:
        """Move the base to a checkpoint without what lies in between, as if this had started from it: what is held above it stays.
        ``bases``: the digests of all earlier heights. Returns what could be applied by it, in order."""
        if height <= self.base[0]:
            raise ValueError(f"height {height} does not follow {self.base[0]}")
        lanes, evidence = self._lanes, self.evidence()
        held = [*lanes.order.values(), *lanes.waiting, *lanes.aside.values()]
        self.base, self.state, self._view = (height, digest), state, None
        self.bases = {**bases, 0: self.genesis.hash, height: digest}
        self._lanes = lanes.over(state.lanes)
        for raw in evidence.values():
            self.admit_evidence(raw)
        for batch in held:
            self.admit_batch(batch)
        settled = [one for one in held if one.key in state.lanes and one.seq <= state.lanes[one.key].seq]
        self._lanes.shelve_again(settled)
        self.retention.settled(
            {lane: one.seq for lane, one in state.lanes.items()}, sum(len(one.raw) for one in settled)
        )
        return [batch for batch in self._lanes.order.values() if batch.hash not in lanes.order]

    def shelve(self, batches: Iterable[Batch]) -> None:
        """Keep settled batches again after a start from a checkpoint: of each lane as many as are, by their hashes, an unbroken
        chain down from the oldest one kept, or from the cut. A lane's newest is also what proves a fork just above the cut."""
        self._lanes.shelve_again(batches)

    @property
    def wanted_height(self) -> int:
        """The highest base above ours that a waiting batch stands on, 0 for none: a hint that checkpoints are missing here."""
        return max(
            (batch.header.base[0] for batch in self._lanes.waiting if batch.header.base[0] > self.base[0]), default=0
        )

    def unsettled(self) -> int:
        """How many batches are held above the base."""
        return len(self._lanes.order)

    # -- reading --------------------------------------------------------------------------------------------

    def frontier(self) -> Frontier:
        """Exactly what this replica holds."""
        return {key: lane.head() for key, lane in self._lanes.items()}

    def head(self, lane: bytes) -> LaneHead:
        """The newest batch of a lane, which may be settled and pruned; seq 0 if there is none."""
        return self._lanes[lane].head()

    def batch(self, lane: bytes, seq: int) -> Batch | None:
        """The batch at a place, if it is held; settled ones are, for a while."""
        return self._lanes.batch(lane, seq)

    def hash_at(self, lane: bytes, seq: int) -> bytes | None:
        """The hash of the batch at a place, if it is known: the cut's is, whether or not its batch is held."""
        return self._lanes.hash_at(lane, seq)

    def batches(self) -> Iterator[Batch]:
        """Every unsettled batch held, in an order that respects lanes and deps."""
        return iter(self._lanes.order.values())

    def __len__(self) -> int:
        return self.state.batches + len(self._lanes.order)

    def lanes_of(self, node: bytes) -> list[bytes]:
        """The lanes of one member, oldest epoch first."""
        return sorted(key for key, state in self._lanes.items() if key.startswith(node) and state.seq)

    def lane_document(self, lane: bytes) -> LaneDocument:
        """The lane as a pycrdt document: the one kept, or one built now."""
        return self._lanes.document(lane)

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

    def open_forks(self) -> int:
        """How many lanes are forked and not yet closed by the base."""
        return sum(lane.evidence is not None and not lane.closed for _, lane in self._lanes.items())

    def break_count(self) -> int:
        """How many ``breaks`` there are."""
        return self.view.break_count() + self.open_forks()

    def waiting(self) -> int:
        """How many batches wait for something that is missing."""
        return len(self._lanes.waiting)

    def waits_in(self, lane: bytes) -> bool:
        """Whether a batch of a lane waits for something that is missing."""
        return bool(self._lanes.waiting.of(lane))

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
        self._lanes.check_invariants()
        for batch in self.batches():
            height, name = batch.header.base
            assert height <= self.base[0], "an unsettled batch stands on a base that is known here"
            assert self.bases[height] == name, "a batch's base is the checkpoint of its height"
        settled = {key: (lane.seq, lane.hash) for key, lane in self.state.lanes.items()}
        cuts = {
            key: (lane.settled, lane.settled_hash)
            for key, lane in self._lanes.items()
            if key in settled or lane.settled
        }
        assert cuts == settled, "lanes are cut where the base settles them"
