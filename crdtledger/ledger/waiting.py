"""The waiting room: sound batches whose predecessor, deps or base are missing. Bounded per lane and in bytes.

It also remembers which lanes wait for which, so that an arrival looks only at those that wait for it. No two batches that
prove a fork ever wait together: the replica compares an arrival with its neighbours here first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from crdtledger.ledger.batch import Batch
from crdtledger.ledger.outcome import Name

MAX_PENDING_PER_LANE = 64
MAX_PENDING_BYTES = 16 * 1024 * 1024


class WaitingRoom:
    """Batches by lane and seq. ``len`` is how many wait."""

    def __init__(self) -> None:
        self._lanes: dict[bytes, dict[int, Batch]] = {}
        self._bytes = 0
        self._blocked: dict[bytes, set[bytes]] = {}  # lane -> lanes whose next batch waits for it

    def __len__(self) -> int:
        return sum(len(batches) for batches in self._lanes.values())

    def __iter__(self) -> Iterator[Batch]:
        return (batch for batches in self._lanes.values() for batch in batches.values())

    def lanes(self) -> list[bytes]:
        """The lanes of which something waits, sorted."""
        return sorted(self._lanes)

    def of(self, lane: bytes) -> Mapping[int, Batch]:
        """What waits of one lane, by seq."""
        return self._lanes.get(lane, {})

    def keep(self, batch: Batch) -> bool:
        """Remember the batch if there is room; whether it is remembered."""
        waiting = self._lanes.get(batch.key, {})
        if batch.seq in waiting:
            return waiting[batch.seq].hash == batch.hash
        if len(waiting) >= MAX_PENDING_PER_LANE or self._bytes + len(batch.raw) > MAX_PENDING_BYTES:
            return False
        self._lanes.setdefault(batch.key, waiting)[batch.seq] = batch
        self._bytes += len(batch.raw)
        return True

    def drop(self, batch: Batch) -> None:
        """Let a batch that waits go."""
        waiting = self._lanes[batch.key]
        del waiting[batch.seq]
        self._bytes -= len(batch.raw)
        if not waiting:
            del self._lanes[batch.key]
        for dep in batch.header.deps:
            blocked = self._blocked.get(dep.lane)
            if blocked is not None:
                blocked.discard(batch.key)
                if not blocked:
                    del self._blocked[dep.lane]

    def block(self, batch: Batch, missing: Iterable[Name]) -> None:
        """Remember what the next batch of a lane waits for."""
        for name in missing:
            self._blocked.setdefault(name.lane, set()).add(batch.key)

    def moved_by(self, lane: bytes) -> list[bytes]:
        """The lanes to look at again when ``lane`` has moved, itself among them; sorted."""
        return sorted({lane, *self._blocked.get(lane, ())})
