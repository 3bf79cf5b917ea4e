"""The lanes of a replica: which batches stand above the base, which wait, which are set aside, which are settled.

This is the bookkeeping; what may go in, and when, is the replica's to judge (``replica``). Whatever is asked about a lane is
answered from its cut (the base), its batches, the waiting room, the shelf of settled batches, and the batches beyond forks,
so that a place is found wherever its batch happens to be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from crdtledger.ledger.aside import Aside
from crdtledger.ledger.batch import Batch, ForkEvidence, fork_evidence
from crdtledger.ledger.lane import LaneDocument, rebuild
from crdtledger.ledger.lanestate import LaneState
from crdtledger.ledger.outcome import Name
from crdtledger.ledger.settledparts import SettledLane
from crdtledger.ledger.shelf import Shelf
from crdtledger.ledger.waiting import WaitingRoom

_NOTHING = LaneState()
"""What is known of a lane never heard of. Never written to."""


class LaneEnd(Protocol):
    """A row of a cut: the lane, and the batch up to which it is to be settled."""

    @property
    def lane(self) -> bytes: ...
    @property
    def seq(self) -> int: ...
    @property
    def hash(self) -> bytes: ...


class Lanes:
    """Lanes by key. ``order`` holds the unsettled batches by hash, as they were applied: lanes and deps are respected.

    ``open_evidence`` reads the evidence with which the base closed a lane. ``documents``: keep each lane's pycrdt document.
    """

    def __init__(
        self,
        settled: Mapping[bytes, SettledLane],
        open_evidence: Callable[[bytes], ForkEvidence],
        documents: bool,
        shelf: Shelf,
    ) -> None:
        self._open_evidence = open_evidence
        self._documents = documents
        self._lanes: dict[bytes, LaneState] = {}
        self.order: dict[bytes, Batch] = {}
        self.waiting = WaitingRoom()
        self.aside = Aside()
        self._shelf = shelf
        for key, lane in settled.items():
            self._close(self._lanes.setdefault(key, LaneState(lane.seq, lane.hash, lane.base_height)), lane)

    def over(self, settled: Mapping[bytes, SettledLane]) -> Lanes:
        """Lanes like these that hold nothing above ``settled`` yet."""
        return Lanes(settled, self._open_evidence, self._documents, self._shelf.emptied())

    def __getitem__(self, key: bytes) -> LaneState:
        return self._lanes.get(key, _NOTHING)

    def items(self) -> Iterable[tuple[bytes, LaneState]]:
        """Every lane that anything is known of."""
        return self._lanes.items()

    # -- finding --------------------------------------------------------------------------------------------

    def batch(self, key: bytes, seq: int) -> Batch | None:
        """The batch at a place: unsettled, or settled and still kept."""
        return self[key].at(seq) or self._shelf.at(key, seq)

    def hash_at(self, key: bytes, seq: int) -> bytes | None:
        """The hash of the batch at a place. The cut's is known whether or not its batch is kept."""
        if seq and seq == self[key].settled:
            return self[key].settled_hash
        batch = self.batch(key, seq)
        return batch.hash if batch else None

    def clash(self, batch: Batch) -> ForkEvidence | None:
        """The lowest fork that a batch proves beside its neighbours, held, settled or waiting: so no two that clash ever wait
        together."""
        waiting = self.waiting.of(batch.key)
        before, twin, after = (
            self.batch(batch.key, batch.seq + at) or waiting.get(batch.seq + at) for at in (-1, 0, 1)
        )
        proofs = []
        if before is not None and batch.header.prev != before.hash:
            proofs.append(fork_evidence(before, batch))
        if twin is not None and twin.hash != batch.hash:
            proofs.append(fork_evidence(twin, batch))
        if after is not None and after.header.prev != batch.hash:
            proofs.append(fork_evidence(batch, after))
        return min(proofs, key=lambda proof: (proof.seq, proof.raw), default=None)

    def missing(self, batch: Batch) -> Iterator[Name]:
        """Which of a batch's deps are not met."""
        for dep in batch.header.deps:
            lane = self[dep.lane]
            if dep.seq <= lane.settled:
                continue  # the base holds what was granted up to the cut, whichever branch it settled
            if lane.end is not None and dep.seq > lane.end:
                # It stands beyond a fork and will never count. What comes before the fork does, and must be here.
                if lane.seq < lane.end:
                    yield Name(dep.lane, lane.end)
            elif not lane.holds(dep.seq, dep.hash):
                yield Name(dep.lane, dep.seq, dep.hash)

    def path(self, key: bytes, seq: int, hash: bytes) -> tuple[list[Batch], list[Name]]:
        """The batches of a lane above its cut, up to the one named, in seq order; and, if the chain down from there breaks
        off, the name of the batch that is missing."""
        lane = self[key]
        waiting = self.waiting.of(key)
        path: list[Batch] = []
        while seq > lane.settled:
            if lane.holds(seq, hash):
                return [*lane.batches[: seq - lane.settled], *reversed(path)], []
            batch = waiting.get(seq)
            if batch is None or batch.hash != hash:
                batch = self.aside.get(hash)
            if batch is None or (batch.key, batch.seq) != (key, seq):
                return path[::-1], [Name(key, seq, hash)]
            path.append(batch)
            seq, hash = seq - 1, batch.header.prev
        return path[::-1], []

    def document(self, key: bytes) -> LaneDocument:
        """The lane as a pycrdt document: the one kept, or one built now."""
        lane = self[key]
        return lane.document or rebuild(key, (batch.raw for batch in lane.batches), lane.settled)

    # -- changing -------------------------------------------------------------------------------------------

    def append(self, batch: Batch) -> None:
        """The batch is its lane's next."""
        lane = self._lanes.setdefault(batch.key, LaneState())
        lane.batches.append(batch)
        self.order[batch.hash] = batch
        if self._documents:
            if lane.document is None:
                lane.document = LaneDocument(batch.key, lane.settled)
            lane.document.append([batch.raw])

    def condemn(self, evidence: ForkEvidence) -> bool:
        """The lane is forked: end it, and set aside what stood beyond. Whether anything did."""
        lane = self._lanes.setdefault(evidence.lane, LaneState())
        lane.evidence = evidence
        return self._end(evidence.lane, lane, [], pruned=0)

    def settle(self, key: bytes, settled: SettledLane, path: Sequence[Batch]) -> None:
        """Move a lane's cut along ``path``, which may be a branch that was set aside: then ours takes its place there."""
        lane = self._lanes.setdefault(key, LaneState())
        for batch in path:
            self.order.pop(batch.hash, None)
        straight = lane.holds(settled.seq, settled.hash)
        lost = lane.settle(path, settled)
        self._close(lane, settled)
        if not straight:
            lane.document = None
        self._end(key, lane, lost, pruned=len(path))

    def _end(self, key: bytes, lane: LaneState, lost: list[Batch], pruned: int) -> bool:
        """Let go of what can never count any more, held or waiting, beside what is ``lost`` already; bring the document along."""
        for batch in list(self.waiting.of(key).values()):
            if batch.seq <= lane.settled or (lane.end is not None and batch.seq > lane.end):
                self.waiting.drop(batch)
        if lane.end is not None:
            lost += lane.cut_after(lane.end)
        for batch in lost:
            del self.order[batch.hash]
            self.aside.keep(batch)
        if lost:
            lane.document = None
        if lane.document is not None:
            lane.document.prune(pruned)
        elif self._documents:
            lane.document = self.document(key)
        return bool(lost)

    def _close(self, lane: LaneState, settled: SettledLane) -> None:
        """Take the base's word on whether a lane is closed, and on the evidence that closed it."""
        if settled.closed and not lane.closed:
            lane.closed = True
            lane.evidence = self._open_evidence(settled.evidence) if settled.evidence else None

    def shelve(self, paths: Mapping[bytes, Sequence[Batch]]) -> None:
        """Keep what one height settled, for a while."""
        self._shelf.add({key: path for key, path in paths.items() if path})

    def shelve_again(self, batches: Iterable[Batch]) -> None:
        """Keep settled batches that come from elsewhere: of each lane those that are an unbroken chain down from the oldest one
        kept, or from the cut."""
        given: dict[bytes, dict[bytes, Batch]] = {}
        for batch in batches:
            given.setdefault(batch.key, {})[batch.hash] = batch
        runs: dict[bytes, list[Batch]] = {}
        for key, by_hash in given.items():
            lane, oldest = self[key], self._shelf.oldest(key)
            lane.settled_head = lane.settled_head or by_hash.get(lane.settled_hash)
            name = oldest.header.prev if oldest else lane.settled_hash
            run: list[Batch] = []
            while (found := by_hash.get(name)) is not None:
                run.append(found)
                name = found.header.prev
            if run:
                runs[key] = run[::-1]
        self._shelf.add_older(runs)

    def check_invariants(self) -> None:
        """Assert what must hold of every lane."""
        for key, lane in self.items():
            prev, base = lane.settled_hash, lane.base_height
            assert lane.settled_head is None or lane.settled_head.hash == prev, "the settled head is the cut's batch"
            for seq, batch in enumerate(lane.batches, lane.settled + 1):
                assert (batch.key, batch.seq, batch.header.prev) == (key, seq, prev), "a lane is one unbroken chain"
                assert base <= batch.header.base[0], "a base never falls within a lane"
                prev, base = batch.hash, batch.header.base[0]
            assert lane.end is None or lane.seq <= lane.end, "a forked lane ends before its fork, or at the cut"
            if lane.document is not None:
                size = (lane.document.pruned, len(lane.document))
                assert size == (lane.settled, len(lane.batches)), "a lane's document holds its unsettled batches"
        assert len(self.order) == sum(len(lane.batches) for _, lane in self.items())
