"""A disk in memory that forgets: what was written and not yet synced does not survive a crash, or only a
prefix does.

One sync is under way at a time and covers everything written before it began (group commit, as a real
journal does it). A write (the records of one ``Persist``) is atomic: it survives whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gossip.effects import Persist


class Disk:
    """The durable storage of one node, through all its crashes. ``records``: what is on it from the start."""

    def __init__(self, records: Sequence[bytes] = ()) -> None:
        self._records: list[bytes] = list(records)
        self._unsynced: list[Persist] = []
        self._syncing = 0  # how many of the unsynced writes the sync under way covers

    @property
    def records(self) -> tuple[bytes, ...]:
        """What would survive a crash now."""
        return tuple(self._records)

    @property
    def size(self) -> int:
        """How many records would."""
        return len(self._records)

    def read(self, since: int) -> tuple[bytes, ...]:
        """The durable records from number ``since`` (from 0) on."""
        return tuple(self._records[since:])

    @property
    def unsynced(self) -> int:
        """How many writes would not."""
        return len(self._unsynced)

    def write(self, persist: Persist) -> None:
        self._unsynced.append(persist)

    def begin_sync(self) -> bool:
        """Begin a sync of everything written. False when one is under way, or nothing was written."""
        if self._syncing or not self._unsynced:
            return False
        self._syncing = len(self._unsynced)
        return True

    def end_sync(self) -> int:
        """The sync is done; the position up to which everything is durable."""
        synced, self._unsynced = self._unsynced[: self._syncing], self._unsynced[self._syncing :]
        self._syncing = 0
        for persist in synced:
            self._records.extend(persist.records)
        return synced[-1].position

    def forget(self, keep: Callable[[bytes], bool]) -> None:
        """Drop the synced records that ``keep`` does not want."""
        self._records = [record for record in self._records if keep(record)]

    def crash(self, surviving: int) -> None:
        """The power is gone. Of the unsynced writes the first ``surviving`` happened to reach the disk."""
        for persist in self._unsynced[:surviving]:
            self._records.extend(persist.records)
        self._unsynced.clear()
        self._syncing = 0
