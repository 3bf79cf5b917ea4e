"""Batches set aside: what stands beyond a fork. It counts nowhere, but a checkpoint may still settle one of the branches.

Bounded in number and bytes, the oldest are forgotten first. The batches of a cut that is being settled (``want``) are kept
whatever else arrives, for a forked branch may be longer than the bounds, and its author decides what else arrives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from crdtledger.ledger.batch import Batch

MAX_KEPT_ASIDE = 1024
MAX_ASIDE_BYTES = 16 * 1024 * 1024


class Aside(Mapping[bytes, Batch]):
    """Batches by hash, oldest first."""

    def __init__(self) -> None:
        self._batches: dict[bytes, Batch] = {}
        self._wanted: dict[bytes, Batch] = {}
        self._names: set[bytes] = set()
        self._bytes = 0

    def __getitem__(self, hash: bytes) -> Batch:
        return self._wanted[hash] if hash in self._wanted else self._batches[hash]

    def __iter__(self) -> Iterator[bytes]:
        yield from self._wanted
        yield from self._batches

    def __len__(self) -> int:
        return len(self._wanted) + len(self._batches)

    def keep(self, batch: Batch) -> None:
        """Put a batch aside. One that a wanted batch names as its predecessor is wanted too."""
        if batch.hash in self:
            return
        if batch.hash in self._names:
            self._wanted[batch.hash] = batch
            self._names.add(batch.header.prev)
            return
        self._batches[batch.hash] = batch
        self._bytes += len(batch.raw)
        while len(self._batches) > MAX_KEPT_ASIDE or self._bytes > MAX_ASIDE_BYTES:
            self._bytes -= len(self._batches.pop(next(iter(self._batches))).raw)

    def want(self, names: set[bytes]) -> None:
        """Protect these batches (by hash), here or still to come; whatever was wanted before is so no longer."""
        unwanted = [batch for hash, batch in self._wanted.items() if hash not in names]
        self._wanted = {hash: batch for hash, batch in self._wanted.items() if hash in names}
        self._names = names
        for hash in names & self._batches.keys():
            batch = self._batches.pop(hash)
            self._bytes -= len(batch.raw)
            self._wanted[hash] = batch
        for batch in unwanted:
            self.keep(batch)
