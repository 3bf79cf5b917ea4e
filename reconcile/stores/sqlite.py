"""A checkpoint store in one SQLite file, written by one node and read by anybody, also meanwhile. Impure (apsw).

One table, one row per height. The file is in WAL mode, each append is one synced transaction: after a power cut it has the
row or does not. A reader opens the file read-only and holds no lock while it judges what it read, so it never delays the
node. Rows carry a checksum; SQLite's own faults come out as ``InvalidProof`` like any other byte that does not hold.

Why apsw and not the interpreter's own SQLite: see ``crdtledger.ledger.journalfile``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import apsw
import msgspec

from crdtledger.errors import InvalidProof
from crdtledger.ledger import durablefile
from reconcile.heights import NONE
from reconcile.stores import StoreConflict, StoredCheckpoint, StoreUnusable

APPLICATION_ID = 0x63726331  # "crc1"
FORMAT_VERSION = 1
PAGE_BYTES = 16 * 1024
BUSY_TIMEOUT_MS = 5000
READ_ROWS = 64

_SCHEMA = {
    (
        "checkpoints",
        "CREATE TABLE checkpoints (height INTEGER PRIMARY KEY, digest BLOB NOT NULL, previous BLOB NOT NULL, "
        "body BLOB NOT NULL, adjustments BLOB NOT NULL, certificate BLOB NOT NULL, decided_us INTEGER NOT NULL, "
        "checksum BLOB NOT NULL) STRICT",
    )
}
_COLUMNS = "height, digest, previous, body, adjustments, certificate, decided_us, checksum"
_TYPES = (int, bytes, bytes, bytes, bytes, bytes, int, bytes)
_UNREADABLE = (apsw.Error, UnicodeDecodeError)


class SqliteStore:
    """A store in a file. Open it with ``create`` (to write) or ``open`` (to read); a context manager."""

    def __init__(self, path: Path, connection: apsw.Connection) -> None:
        self.path = path
        self._connection = connection

    @classmethod
    def create(cls, path: Path) -> SqliteStore:
        """Open ``path`` for writing, making it first if there is none. Raises StoreUnusable."""
        try:
            if not path.exists():
                _make(path)
        except (apsw.Error, OSError) as error:
            raise StoreUnusable(path=str(path), why=f"cannot be made: {error}") from error
        connection = _identified(path, _connect(path, str(path), apsw.SQLITE_OPEN_READWRITE))
        connection.pragma("synchronous", "FULL")
        connection.transaction_mode = "IMMEDIATE"  # a second writer waits before it reads where the store ends
        return cls(path, connection)

    @classmethod
    def open(cls, path: Path) -> SqliteStore:
        """Open ``path`` for reading only, also while a node writes it. Raises StoreUnusable."""
        if not path.is_file():
            raise StoreUnusable(path=str(path), why="there is no checkpoint store: nothing is settled here yet")
        # A read-only folder leaves no place for SQLite's side files. Without a log beside it the file is all there is.
        alone = not path.with_name(path.name + "-wal").exists()
        uri = f"{path.absolute().as_uri()}?immutable=1" if alone and not os.access(path.parent, os.W_OK) else ""
        flags = apsw.SQLITE_OPEN_READONLY | (apsw.SQLITE_OPEN_URI if uri else 0)
        return cls(path, _identified(path, _connect(path, uri or str(path), flags)))

    def __enter__(self) -> SqliteStore:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close(True)

    def last(self) -> StoredCheckpoint | None:
        """The newest checkpoint; None when there is none. Raises InvalidProof when it is not what was written."""
        return next(iter(self._select("ORDER BY height DESC LIMIT 1", ())), None)

    def append(self, stored: StoredCheckpoint) -> bool:
        """Append ``stored``, or find it there: see ``reconcile.stores``. True when it was written, and then it is synced.

        Raises StoreConflict, and StoreUnusable when the file cannot be written or what stands at its end is damaged."""
        try:
            with self._connection:
                new = self._append(stored)
        except (apsw.Error, InvalidProof) as error:
            raise StoreUnusable(path=str(self.path), why=f"cannot be written: {error}") from error
        return new

    def _append(self, stored: StoredCheckpoint) -> bool:
        held = self._select("WHERE height = ?", (stored.height,))
        if held:
            if held[0].digest == stored.digest:
                return False
            raise self._conflict(stored, f"another one, {held[0].digest.hex()[:16]}, stands there")
        end = self.last()
        height, digest = (end.height, end.digest) if end else (0, NONE)
        if stored.height != height + 1:
            raise self._conflict(stored, f"the store ends at {height}")
        if stored.previous != digest:
            raise self._conflict(stored, f"it does not follow the one at {height}, {digest.hex()[:16]}")
        row = (*msgspec.structs.astuple(stored), stored.checksum())
        self._connection.execute(f"INSERT INTO checkpoints ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        return True

    def read(self, first: int, limit: int) -> list[StoredCheckpoint]:
        """Up to ``limit`` checkpoints from height ``first`` on. Raises InvalidProof at one that is not what was written."""
        return self._select("WHERE height >= ? ORDER BY height LIMIT ?", (first, limit))

    def entries(self, first: int = 1) -> Iterator[StoredCheckpoint]:
        """All checkpoints from ``first`` on, a few at a time, as ``read``; InvalidProof when the heights have a gap anywhere."""
        if not self._is_gapless():  # a damaged row may also pass for one of another height
            raise InvalidProof("checkpoint store", "its heights are not 1, 2, 3 ... without a gap: it is damaged")
        while part := self.read(first, READ_ROWS):
            yield from part
            first = part[-1].height + 1

    def _is_gapless(self) -> bool:
        try:
            ((rows, low, high),) = self._connection.execute(
                "SELECT count(*), min(height), max(height) FROM checkpoints"
            )
        except _UNREADABLE as error:
            raise InvalidProof("checkpoint store", f"cannot be read: {error}") from error
        return bool(rows == 0 or (low == 1 and high == rows))

    def _select(self, clause: str, values: tuple[int, ...]) -> list[StoredCheckpoint]:
        try:
            rows = self._connection.execute(f"SELECT {_COLUMNS} FROM checkpoints {clause}", values).fetchall()
        except _UNREADABLE as error:
            raise InvalidProof("checkpoint store", f"cannot be read: {error}") from error
        return [_stored(row) for row in rows]

    def _conflict(self, stored: StoredCheckpoint, why: str) -> StoreConflict:
        return StoreConflict(path=str(self.path), height=stored.height, why=why)


def _make(path: Path) -> None:
    """An empty store at ``path``: made under another name and then linked, so that there is never half of one."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    draft.unlink(missing_ok=True)
    connection = apsw.Connection(str(draft))
    connection.pragma("page_size", PAGE_BYTES)
    for _, statement in _SCHEMA:
        connection.execute(statement)
    connection.pragma("application_id", APPLICATION_ID)
    connection.pragma("user_version", FORMAT_VERSION)
    connection.pragma("journal_mode", "WAL")
    connection.close(True)
    with contextlib.suppress(FileExistsError):  # somebody was faster, and made the same
        os.link(draft, path)
    draft.unlink()
    durablefile.sync_directory(path.parent)


def _stored(row: tuple[object, ...]) -> StoredCheckpoint:
    where = f"height {row[0]}"
    if tuple(map(type, row)) != _TYPES:
        raise InvalidProof(where, "a column has the wrong type")
    stored = StoredCheckpoint(*row[:-1])  # type: ignore[arg-type]  # just checked
    if stored.checksum() != row[-1]:
        raise InvalidProof(where, "it does not match its checksum: its row is damaged")
    return stored


def _connect(path: Path, name: str, flags: int) -> apsw.Connection:
    try:
        connection = apsw.Connection(name, flags=flags)
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.pragma("trusted_schema", False)
        connection.pragma("cell_size_check", True)
    except apsw.Error as error:
        raise StoreUnusable(path=str(path), why=f"cannot be opened: {error}") from error
    return connection


def _identified(path: Path, connection: apsw.Connection) -> apsw.Connection:
    """``connection`` again, if its file is a store of this format with exactly these tables; else it is closed."""
    why = ""
    try:
        application, version = connection.pragma("application_id"), connection.pragma("user_version")
        if application != APPLICATION_ID:
            why = "is no checkpoint store"
        elif version != FORMAT_VERSION:
            why = f"has format {version}; this version reads format {FORMAT_VERSION}"
        elif set(connection.execute("SELECT name, sql FROM sqlite_schema")) != _SCHEMA:
            why = "its tables are not a checkpoint store's"
    except _UNREADABLE as error:
        why = f"is no checkpoint store that can be read: {error}"
    if why:
        connection.close(True)
        raise StoreUnusable(path=str(path), why=why)
    return connection
