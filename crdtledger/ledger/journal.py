"""The durable journal of a node: what was committed here survives kill -9 and a power cut. Impure.

    journal = Journal.open(path, incarnation=nonce)     # one process only; says whether it is complete
    for entry in journal.replay(): ...                  # every record, in order, proven
    journal.append(position, records); journal.commit() # durable when commit returns
    journal.prune(Prune(...))                           # what a checkpoint settled long ago leaves

Rules:

- One writer. A lock file beside the journal refuses a second process and names the first.
- ``commit`` returns after the sync (WAL, synchronous=FULL). A power cut leaves a prefix of whole positions that includes
  every committed one.
- ``read`` and ``get_meta`` see committed state only, whatever a writer thread is doing, for they have a connection of
  their own. So nothing can be served that a crash might still undo.
- After the first failed write or sync every call raises. SQLite could go on; but the kernel may have thrown away the pages
  that failed and would report the next sync as good (Rebello et al., "Can Applications Recover from fsync Failures?", 2020).
- Opening says FRESH, COMPLETE or RESTORED (``incarnation``). RESTORED stays until records are appended with
  ``new_epoch=True``: a crash between learning it and acting on it must not lose it.

Grouping many appends into one commit, in a thread, is ``writer``; copies and repairs are ``backup`` and ``examination``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import apsw

from crdtledger.errors import JournalCorrupt, JournalUnusable
from crdtledger.ledger import durablefile, journalfile, journalplace, journalpruning
from crdtledger.ledger.incarnation import (
    INCARNATION_BYTES_MAX,
    INCARNATION_BYTES_MIN,
    MARK_OFFSET,
    Completeness,
    Sidecar,
    Stamp,
    Verdict,
    encode_mark,
    judge,
)
from crdtledger.ledger.journalrecord import BODY_BYTES_MAX, INTEGER_MAX, Entry, JournalRecord, Prune


class Journal:
    """An open journal. Made by ``Journal.open`` only."""

    path: Path
    completeness: Completeness
    """The verdict at opening; it does not change while the journal is open."""

    def __init__(self, path: Path, incarnation: bytes, lock: durablefile.FileLock) -> None:
        self.path = path
        self._incarnation = incarnation
        self._failure: Exception | None = None
        self._appending = False
        self._held = contextlib.ExitStack()
        self._held.callback(lock.release)
        try:
            self.completeness = self._stamp()
            self._durable = self._head = journalfile.get_head(self._connection, path)
            self._reader = self._connect(read_only=True)
            self._mark = os.open(journalplace.sidecar_path(path), os.O_WRONLY | os.O_CLOEXEC)
            self._held.callback(os.close, self._mark)
            self._held.callback(os.fsync, self._mark)
        except (apsw.Error, OSError) as error:
            self._held.close()
            raise JournalUnusable(path=str(path), reason=f"cannot be opened for writing: {error}") from error
        except BaseException:
            self._held.close()
            raise

    def _connect(self, *, read_only: bool = False) -> apsw.Connection:
        connection = journalfile.connect(self.path, read_only=read_only)
        self._held.callback(connection.close, True)
        return connection

    @classmethod
    def open(cls, path: str | os.PathLike[str], incarnation: bytes) -> Journal:
        """Open the journal at ``path`` for writing, making it if there is none.

        ``incarnation``: 8 to 64 random bytes, fresh for every opening. Raises ``JournalLocked``, ``JournalUnusable``
        (no journal, wrong format, no permission) or ``JournalCorrupt`` (its head or stamp does not hold; records are
        checked by ``replay``).
        """
        if not INCARNATION_BYTES_MIN <= len(incarnation) <= INCARNATION_BYTES_MAX:
            raise ValueError(f"an incarnation has {INCARNATION_BYTES_MIN} to {INCARNATION_BYTES_MAX} bytes")
        place = Path(path).resolve()
        return cls(place, incarnation, journalplace.lock(place))

    # -- opening ----------------------------------------------------------------------------------------------

    def _stamp(self) -> Completeness:
        """Judge completeness, then stamp this incarnation: journal, sidecar, confirmation (see ``incarnation``)."""
        sidecar = journalplace.read_sidecar(self.path)
        previous = b"" if sidecar is None else sidecar.incarnation
        stamp = Stamp(current=self._incarnation, previous=previous, confirmed=False)
        if self.path.exists():
            verdict, position = self._stamp_existing(stamp, sidecar)
        else:
            verdict, position = self._create(stamp, sidecar), 0
        journalplace.write_sidecar(self.path, self._incarnation, position)
        journalfile.put_stamp(self._connection, Stamp(self._incarnation, previous, confirmed=True))
        # The confirmation goes into the main file: a copy of that file alone must not look unconfirmed.
        self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        return verdict

    def _stamp_existing(self, stamp: Stamp, sidecar: Sidecar | None) -> tuple[Completeness, int]:
        self._connection = self._connect()
        journalfile.check_identity(self._connection, self.path)
        self._connection.pragma("journal_mode", "WAL")  # a backup copy is not
        position = journalfile.get_head(self._connection, self.path).position
        held = journalfile.get_stamp(self._connection, self.path)
        if self._incarnation in (held.current, stamp.previous):
            raise ValueError("an incarnation must be fresh: this one was used before")
        restored = journalfile.get_restored(self._connection, self.path)
        completeness = judge(held, position, restored, sidecar)
        with self._connection:
            journalfile.put_stamp(self._connection, stamp)
            if completeness.verdict is Verdict.RESTORED:
                journalfile.put_restored(self._connection, completeness.reason)
        return completeness, position

    def _create(self, stamp: Stamp, sidecar: Sidecar | None) -> Completeness:
        """Make the journal under another name and rename it when it is whole: it is never there by half."""
        completeness = judge(None, 0, self._set_orphans_aside(), sidecar)
        draft = self.path.with_name(self.path.name + ".new")
        for leftover in journalplace.with_logs(draft):
            leftover.unlink(missing_ok=True)
        making = journalfile.connect(draft, create=True)
        try:
            journalfile.create_tables(making)
            with making:
                journalfile.put_stamp(making, stamp)
                if completeness.verdict is Verdict.RESTORED:
                    journalfile.put_restored(making, completeness.reason)
        finally:
            making.close()  # moves everything from the write-ahead log into the file, synced
        durablefile.rename(draft, self.path)
        self._connection = self._connect()
        return completeness

    def _set_orphans_aside(self) -> str:
        """A write-ahead log without its journal would be replayed into the new one: move it away."""
        reason = ""
        for suffix in journalplace.LOG_SUFFIXES:
            orphan = self.path.with_name(self.path.name + suffix)
            if orphan.exists():
                aside = f"{self.path.name}.lost-{self._incarnation.hex()[:16]}{suffix}"
                durablefile.rename(orphan, self.path.with_name(aside))
                reason = f"the journal is lost: its write-ahead log was there without it, and is now {aside}"
        return reason

    # -- writing ----------------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """The last durable position, 0 for none. The core's next one must be higher."""
        return self._durable.position

    def append(self, position: int, records: Sequence[JournalRecord], *, new_epoch: bool = False) -> None:
        """Put ``records`` (maybe none) under ``position`` into the open group; durable after ``commit``.

        Positions rise by any step. ``new_epoch``: with these records the node opens a new epoch, so a RESTORED
        verdict is forgotten with the same commit. Raises ``JournalUnusable`` after any failure.
        """
        if not self._head.position < position <= INTEGER_MAX:
            raise ValueError(f"position {position} does not follow {self._head.position}")
        if any(len(record.body) > BODY_BYTES_MAX for record in records):
            raise ValueError(f"a record's body has at most {BODY_BYTES_MAX} bytes")
        with self._failing():
            self._begin()
            self._head = journalfile.insert(self._connection, self._head, position, tuple(records))
            if new_epoch:
                journalfile.put_restored(self._connection, "")

    def set_meta(self, key: str, value: bytes | None) -> None:
        """Set (or with None remove) a named value in the open group; durable after ``commit``."""
        journalfile.check_key(key)
        with self._failing():
            self._begin()
            journalfile.put_meta(self._connection, key, value)

    def commit(self) -> int:
        """Make the open group durable and return the last durable position. Without a group, just return it."""
        with self._failing():
            if self._appending:
                journalfile.put_head(self._connection, self._head)
                self._connection.execute("COMMIT")
                self._appending = False
                self._durable = self._head
                os.pwrite(self._mark, encode_mark(self._incarnation, self._head.position), MARK_OFFSET)
        return self._durable.position

    def prune(self, what: Prune) -> int:
        """Delete records for good, durably, at once; how many there were. Not within an open group (``ValueError``).

        A crash leaves either all of them or none. What is left is proven as before, ``replay`` yields it in order, and the room
        is used again. Costs time by what is deleted, not by what is held.
        """
        if self._appending:
            raise ValueError("a group is open: commit it first")
        with self._failing():
            self._begin()
            deleted = journalpruning.prune(self._connection, what)
            self._connection.execute("COMMIT")
            self._appending = False
        return deleted

    def _begin(self) -> None:
        if not self._appending:
            self._connection.execute("BEGIN IMMEDIATE")
            self._appending = True

    def _failing(self) -> _Failing:
        if self._failure is not None:
            raise JournalUnusable(path=str(self.path), reason=f"an earlier write failed: {self._failure}")
        return _Failing(self)

    def failed(self, error: Exception) -> None:
        """Remember the first failure; nothing is written or reported after it."""
        self._failure = self._failure or error

    # -- reading ----------------------------------------------------------------------------------------------

    def replay(self) -> Iterator[Entry]:
        """Every committed record in order; ``JournalCorrupt`` names the first position that does not hold.

        It names position 0 at the very end when all records hold but their index does not.
        """
        connection = journalfile.connect(self.path, read_only=True)
        try:
            connection.execute("BEGIN")
            yield from journalfile.verified(connection, self.path)
            if problems := journalfile.sqlite_problems(connection, "records"):
                # The records hold, but the index may hide some of them from ``read``.
                raise JournalCorrupt(path=str(self.path), position=0, reason=f"the index does not hold: {problems[0]}")
        finally:
            connection.close(True)

    def read(self, lane: bytes, first: int, last: int, max_bytes: int) -> list[JournalRecord]:
        """Committed batches ``first..last`` of ``lane`` in order, up to the first seq that is not held.

        Stops before the bodies exceed ``max_bytes``, but returns at least one if ``first`` is held. Where two batches
        of one seq were recorded (a fork), both are there, in the order of recording: choose by hash. Each is proven
        by its checksum. One thread at a time.
        """
        return journalfile.batches(self._reader, self.path, lane, first, last, max_bytes)

    def get_meta(self, key: str) -> bytes | None:
        """The committed value under ``key``, None when there is none. One thread at a time."""
        return journalfile.get_meta(self._reader, self.path, key)

    # -- closing ----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give up what is not committed, close the file, let the next process in. Closing twice is nothing."""
        self._failure = self._failure or ValueError("the journal is closed")
        self._held.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Failing:
    """Remembers an error that leaves its block, and turns SQLite's and the system's into ``JournalUnusable``."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, Exception):
            self._journal.failed(error)
        if isinstance(error, apsw.Error | OSError):
            reason = f"cannot be written: {error}"
            raise JournalUnusable(path=str(self._journal.path), reason=reason) from error
