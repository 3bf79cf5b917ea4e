"""One lane as a replica holds it: settled up to a place, the batches that stand above it, and where it ends if it forked.

A lane's batches are numbered from 1, whatever was pruned: the prefix at or below the base is gone but for its last batch
(the *settled head*), which is kept because it takes two batches to prove a fork just above the cut.

Where a forked lane ends: before the lowest fork known, or at the cut if that is later, for what is settled stays settled.
A lane that the base has *closed* ends at its cut for good.
"""

from __future__ import annotations

from collections.abc import Sequence

from crdtledger.ledger.batch import FIRST_PREV, Batch, ForkEvidence
from crdtledger.ledger.frontier import LaneHead
from crdtledger.ledger.lane import LaneDocument
from crdtledger.ledger.settledparts import SettledLane


class LaneState:
    """``settled``, ``settled_hash``, ``base_height``: the cut, its batch's hash, and the height which that batch stands on."""

    __slots__ = (
        "base_height",
        "batches",
        "closed",
        "document",
        "evidence",
        "settled",
        "settled_hash",
        "settled_head",
    )

    def __init__(self, settled: int = 0, settled_hash: bytes = FIRST_PREV, base_height: int = 0) -> None:
        self.settled, self.settled_hash, self.base_height = settled, settled_hash, base_height
        self.settled_head: Batch | None = None
        self.batches: list[Batch] = []
        self.document: LaneDocument | None = None
        self.evidence: ForkEvidence | None = None
        self.closed = False

    @property
    def seq(self) -> int:
        """The newest seq, settled or not."""
        return self.settled + len(self.batches)

    @property
    def hash(self) -> bytes:
        """The newest batch's hash."""
        return self.batches[-1].hash if self.batches else self.settled_hash

    @property
    def newest_base(self) -> int:
        """The height that the newest batch stands on: the next one must not stand on less."""
        return self.batches[-1].header.base[0] if self.batches else self.base_height

    @property
    def end(self) -> int | None:
        """The last seq that may ever count, if that is known."""
        if self.closed:
            return self.settled
        return max(self.evidence.seq - 1, self.settled) if self.evidence else None

    def head(self) -> LaneHead:
        """The lane's row in the frontier."""
        return LaneHead(self.seq, self.hash, self.evidence.seq if self.evidence else 0)

    def at(self, seq: int) -> Batch | None:
        """The batch at a place: one above the cut, or the settled head."""
        if seq == self.settled:
            return self.settled_head
        return self.batches[seq - self.settled - 1] if self.settled < seq <= self.seq else None

    def holds(self, seq: int, hash: bytes) -> bool:
        """Whether this very batch stands at or above the cut."""
        if seq == self.settled:
            return hash == self.settled_hash
        batch = self.at(seq)
        return batch is not None and batch.hash == hash

    def cut_after(self, seq: int) -> list[Batch]:
        """Take away what stands beyond ``seq``, and return it."""
        beyond = self.batches[max(0, seq - self.settled) :]
        del self.batches[len(self.batches) - len(beyond) :]
        return beyond

    def settle(self, path: Sequence[Batch], to: SettledLane) -> list[Batch]:
        """Move the cut along ``path``, the batches from the old one to the new. What was held and neither is in it nor follows
        it is taken away and returned."""
        straight = self.holds(to.seq, to.hash)
        settled = {batch.hash for batch in path}
        lost = [] if straight else [batch for batch in self.batches if batch.hash not in settled]
        self.batches = self.batches[to.seq - self.settled :] if straight else []
        if path:
            self.settled_head = path[-1]
        self.settled, self.settled_hash, self.base_height = to.seq, to.hash, to.base_height
        return lost
