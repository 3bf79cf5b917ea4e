"""The heights that are settled here and still matter: those without a certificate, and the newest with one.

Certificates go to the store in order of height. A snapshot is taken of certified heights only, so that nothing is let go that is
not in the store; the more it weighs, the rarer it is taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

from crdtledger.edge.checkpointrecords import Snapshot
from crdtledger.edge.effects import StoreCheckpoint
from crdtledger.ledger.settled import SettledState
from reconcile.checkpoint import Checkpoint
from reconcile.commitments import Commitments
from reconcile.log import MerkleLog
from reconcile.stores import stored_checkpoint

SNAPSHOT_HEIGHTS: Final = 16
SNAPSHOT_BYTES_PER_HEIGHT: Final = 64 * 1024
"""A snapshot is taken once so many heights came that it costs no more than this for each."""


class SettledHeight(NamedTuple):
    """A height as it was settled here. ``adjustments``: encoded. ``position``: from when on it is durable."""

    checkpoint: Checkpoint
    value: bytes
    state: SettledState
    commitments: Commitments
    adjustments: bytes
    decided_us: int
    position: int


class HeightBook:
    """``certified``: the newest height up to which every height has its certificate. ``counts``: facts adjusted so far, by cause."""

    def __init__(self) -> None:
        self.certified = 0
        self.certificate = b""
        self.counts: Counter[str] = Counter()
        self._heights: dict[int, SettledHeight] = {}
        self._certificates: dict[int, bytes] = {}
        self._snapshot = 0
        self._snapshot_bytes = 0

    @classmethod
    def resumed(cls, snapshot: Snapshot, settled: SettledHeight) -> HeightBook:
        """The book of a node that starts from ``snapshot``."""
        book = cls()
        book.certified = book._snapshot = snapshot.height
        book.certificate = snapshot.certificate
        book.counts.update(snapshot.counts)
        book._heights[snapshot.height] = settled
        book._snapshot_bytes = len(snapshot.state)
        return book

    def settled(self, settled: SettledHeight, counts: Mapping[str, int]) -> None:
        """The next height is settled."""
        self._heights[settled.checkpoint.height] = settled
        self.counts.update(counts)

    def get(self, height: int) -> SettledHeight | None:
        """The height as it was settled here, if it still matters."""
        return self._heights.get(height)

    def certify(self, height: int, certificate: bytes, position: int) -> list[StoreCheckpoint]:
        """``height`` has its certificate, durable at ``position``. Returns what the store is to append now, in order."""
        self._certificates[height] = certificate
        out: list[StoreCheckpoint] = []
        while (following := self.certified + 1) in self._certificates:
            one = self._heights[following]
            self._heights.pop(self.certified, None)
            self.certified, self.certificate = following, self._certificates.pop(following)
            stored = stored_checkpoint(one.value, one.adjustments, self.certificate, one.decided_us)
            out.append(StoreCheckpoint(stored, max(position, one.position)))
        return out

    def snapshot(self, log: MerkleLog) -> Snapshot | None:
        """A snapshot of the newest certified height, if one is due."""
        heights = self.certified - self._snapshot
        if heights < SNAPSHOT_HEIGHTS or self._snapshot_bytes > heights * SNAPSHOT_BYTES_PER_HEIGHT:
            return None
        one = self._heights[self.certified]
        raw = one.state.encode()
        self._snapshot, self._snapshot_bytes = self.certified, len(raw)
        leaves = b"".join(log.leaf_hashes()[: self.certified])
        digest = one.checkpoint.digest
        return Snapshot(self.certified, digest, one.value, self.certificate, leaves, dict(self.counts), raw)
