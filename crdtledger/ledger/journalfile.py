"""The journal's file: its tables, its checks, and reading it without believing it. Impure (SQLite through apsw).

Two tables. ``records`` holds one row per record, numbered 1, 2, 3 ... without a gap, each with a checksum chained to the
row before it (``journalrecord.link``). Rows that were pruned are one row that keeps the last checksum of the run, so that the
chain goes on (``journalpruning``). ``meta`` holds named values with a checksum each; keys under ``journal.`` are the
journal's own: the head (where ``records`` must end, so that a lost last row is noticed too), the incarnation stamp,
and the reason why the journal is not known to be complete.

Rule: a page, a byte or a row that is not what was written ends in ``JournalCorrupt``, which names the first position
that cannot be vouched for, or in ``JournalUnusable`` when the file does not even open. Never in a wrong record.

SQLite comes through apsw, which bundles it: releases before 3.51.3 can corrupt a database when its write-ahead log is
reset (sqlite.org/wal.html, "the WAL-reset bug"), and the interpreter's own copy may be one of those.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, TypeVar

import apsw
import msgspec

from crdtledger.errors import JournalCorrupt, JournalUnusable
from crdtledger.ledger.incarnation import Stamp
from crdtledger.ledger.journalrecord import (
    CHAIN_START,
    KIND_BATCH,
    KIND_PRUNED,
    Entry,
    JournalRecord,
    link,
    pruned_seal,
)

APPLICATION_ID = 0x63726A31  # "crj1"
FORMAT_VERSION = 2
PAGE_BYTES = 16 * 1024
BUSY_TIMEOUT_MS = 5000
SQLITE_PROBLEMS_MAX = 20

OWN_KEYS = "journal."
HEAD_KEY = "journal.head"
STAMP_KEY = "journal.stamp"
RESTORED_KEY = "journal.restored"

_SCHEMA = {
    "records": (
        "CREATE TABLE records (row INTEGER PRIMARY KEY, position INTEGER NOT NULL, remaining INTEGER NOT NULL, "
        "kind INTEGER NOT NULL, lane BLOB NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL, chain BLOB NOT NULL, "
        "body BLOB NOT NULL) STRICT"
    ),
    "records_by_lane": "CREATE INDEX records_by_lane ON records (lane, seq)",
    "meta": (
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL, checksum BLOB NOT NULL) STRICT, WITHOUT ROWID"
    ),
}
_COLUMNS = "row, position, remaining, kind, lane, seq, hash, chain, body"
_TYPES = (int, int, int, int, bytes, int, bytes, bytes, bytes)

PRUNED_LANE = b"pruned"
"""In the index, rows that stand for pruned ones are out of the way of every lane, and of records without one."""

_T = TypeVar("_T")

UNREADABLE = (apsw.Error, UnicodeDecodeError)
"""What reading an altered file may raise, besides yielding values of the wrong type."""


class Head(msgspec.Struct, frozen=True, array_like=True):
    """Where the journal ends: rows held, last position (which may have had no records), checksum of the last row."""

    row: int = 0
    position: int = 0
    chain: bytes = CHAIN_START


def connect(path: Path, *, read_only: bool = False, create: bool = False) -> apsw.Connection:
    """A connection to ``path``, or ``JournalUnusable``."""
    if read_only:
        flags = apsw.SQLITE_OPEN_READONLY
    else:
        flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
    try:
        connection = apsw.Connection(str(path), flags=flags)
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.pragma("trusted_schema", False)
        connection.pragma("cell_size_check", True)
        if not read_only:
            connection.pragma("synchronous", "FULL")
    except apsw.Error as error:
        raise JournalUnusable(path=str(path), reason=f"cannot be opened: {error}") from error
    return connection


def create_tables(connection: apsw.Connection) -> None:
    """Make an empty file a journal, in WAL mode."""
    connection.pragma("page_size", PAGE_BYTES)
    connection.pragma("journal_mode", "WAL")
    connection.pragma("application_id", APPLICATION_ID)
    connection.pragma("user_version", FORMAT_VERSION)
    for statement in _SCHEMA.values():
        connection.execute(statement)
    put_head(connection, Head())


def check_identity(connection: apsw.Connection, path: Path) -> None:
    """Raise ``JournalUnusable`` unless the file is a journal of this format with exactly these tables."""
    try:
        application, version = connection.pragma("application_id"), connection.pragma("user_version")
        tables = set(connection.execute("SELECT name, sql FROM sqlite_schema"))
    except UNREADABLE as error:
        raise JournalUnusable(path=str(path), reason=f"is no journal that can be read: {error}") from error
    if application != APPLICATION_ID:
        raise JournalUnusable(path=str(path), reason=f"is no journal (application id {application:#x})")
    if version != FORMAT_VERSION:
        raise JournalUnusable(
            path=str(path), reason=f"has format {version}; this version reads format {FORMAT_VERSION}"
        )
    if tables != set(_SCHEMA.items()):
        raise JournalUnusable(path=str(path), reason="its tables are not a journal's")


def sqlite_problems(connection: apsw.Connection, table: str = "") -> tuple[str, ...]:
    """What SQLite's own integrity check says of the file, or of one table and its index; empty when all is well."""
    try:
        scope = table or str(SQLITE_PROBLEMS_MAX)
        lines = [str(line) for (line,) in connection.execute(f"PRAGMA integrity_check({scope})")]
    except UNREADABLE as error:
        return (str(error),)
    return () if lines == ["ok"] else tuple(lines[:SQLITE_PROBLEMS_MAX])


# -- meta -----------------------------------------------------------------------------------------------------


def check_key(key: str) -> None:
    """``ValueError`` for a name that is the journal's own."""
    if key.startswith(OWN_KEYS):
        raise ValueError(f"meta keys under {OWN_KEYS!r} are the journal's own")


def get_meta(connection: apsw.Connection, path: Path, key: str) -> bytes | None:
    """The value under ``key``, None when there is none; ``JournalCorrupt`` when it is not what was written."""
    try:
        found = connection.execute("SELECT value, checksum FROM meta WHERE key = ?", (key,)).fetchall()
    except UNREADABLE as error:
        raise JournalCorrupt(path=str(path), position=0, reason=f"meta {key!r} cannot be read: {error}") from error
    if not found:
        return None
    value, checksum = found[0]
    if type(value) is not bytes or checksum != _meta_checksum(key, value):
        raise JournalCorrupt(path=str(path), position=0, reason=f"meta {key!r} does not match its checksum")
    return value


def put_meta(connection: apsw.Connection, key: str, value: bytes | None) -> None:
    """Set ``key`` in the transaction that is open, or remove it."""
    if value is None:
        connection.execute("DELETE FROM meta WHERE key = ?", (key,))
    else:
        connection.execute("REPLACE INTO meta VALUES (?, ?, ?)", (key, value, _meta_checksum(key, value)))


def get_head(connection: apsw.Connection, path: Path) -> Head:
    """Where the records must end. A journal without a head is corrupt."""
    return _own(connection, path, HEAD_KEY, Head)


def put_head(connection: apsw.Connection, head: Head) -> None:
    put_meta(connection, HEAD_KEY, msgspec.msgpack.encode(head))


def get_stamp(connection: apsw.Connection, path: Path) -> Stamp:
    """The incarnation stamp. A journal without one is corrupt."""
    return _own(connection, path, STAMP_KEY, Stamp)


def all_meta(connection: apsw.Connection, path: Path) -> Iterator[tuple[str, bytes]]:
    """Every named value that is not the journal's own and that matches its checksum."""
    try:
        keys = [key for (key,) in connection.execute("SELECT key FROM meta") if type(key) is str]
    except UNREADABLE:
        return
    for key in keys:
        with contextlib.suppress(JournalCorrupt):
            value = None if key.startswith(OWN_KEYS) else get_meta(connection, path, key)
            if value is not None:
                yield key, value


def put_stamp(connection: apsw.Connection, stamp: Stamp) -> None:
    put_meta(connection, STAMP_KEY, msgspec.msgpack.encode(stamp))


def get_restored(connection: apsw.Connection, path: Path) -> str:
    """Why the journal is not known to be complete; empty when nothing speaks against it."""
    return (get_meta(connection, path, RESTORED_KEY) or b"").decode()


def put_restored(connection: apsw.Connection, reason: str) -> None:
    put_meta(connection, RESTORED_KEY, reason.encode() if reason else None)


def _own(connection: apsw.Connection, path: Path, key: str, kind: type[_T]) -> _T:
    raw = get_meta(connection, path, key)
    if raw is None:
        raise JournalCorrupt(path=str(path), position=0, reason=f"meta {key!r} is missing")
    return msgspec.msgpack.decode(raw, type=kind)


def _meta_checksum(key: str, value: bytes) -> bytes:
    name = key.encode()
    return hashlib.blake2b(len(name).to_bytes(4, "big") + name + value, digest_size=8).digest()


# -- records --------------------------------------------------------------------------------------------------


def insert(connection: apsw.Connection, head: Head, position: int, records: tuple[JournalRecord, ...]) -> Head:
    """Write ``records`` under ``position`` in the transaction that is open; the head they make."""
    row, chain, remaining = head.row, head.chain, len(records)
    rows = []
    for record in records:
        row, remaining = row + 1, remaining - 1
        chain = link(chain, row, position, remaining, record)
        rows.append((row, position, remaining, record.kind, record.lane, record.seq, record.hash, chain, record.body))
    connection.executemany(f"INSERT INTO records ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    return Head(row=row, position=position, chain=chain)


def verified(connection: apsw.Connection, path: Path) -> Iterator[Entry]:
    """Every record in order, each proven by the chain and all of them by the head; else ``JournalCorrupt``.

    The records of one position are yielded only when all of them hold. Run it inside a transaction when another
    connection may be writing.
    """
    head = get_head(connection, path)
    end = yield from chained(connection, path)
    if (end.row, end.chain) != (head.row, head.chain) or end.position > head.position:
        reason = f"row {end.row + 1} is missing: the journal should end at row {head.row}"
        raise JournalCorrupt(path=str(path), position=end.position + 1, reason=reason)


def chained(connection: apsw.Connection, path: Path) -> Generator[Entry, None, Head]:
    """As ``verified``, but believing no head: what the chain proves, and (returned) where it ends."""
    row, position, chain = 0, 0, CHAIN_START
    group: list[Entry] = []
    at, due = 0, 0  # the position of the row before, and how many rows it still has to come

    def corrupt(reason: str) -> JournalCorrupt:
        return JournalCorrupt(path=str(path), position=position + 1, reason=reason)

    try:
        for columns in connection.execute(f"SELECT {_COLUMNS} FROM records ORDER BY row"):
            if tuple(map(type, columns)) != _TYPES:
                raise corrupt("a column has the wrong type")
            number, where, remaining, kind, lane, seq, name, checksum, body = columns
            pruned = kind == KIND_PRUNED
            if (seq if pruned else number) != row + 1 or number <= row:
                raise corrupt(f"row {row + 1} is missing")
            record = JournalRecord(kind, lane, seq, name, body)
            if min(where, remaining, seq) < 0 or not _holds(chain, number, where, remaining, record, checksum):
                raise corrupt(f"row {number} does not match its checksum")
            if pruned and due and where > at:  # the rest of that position was pruned
                position, due = at, 0
                yield from group
                group.clear()
            if due:
                fits = where == at and (remaining < due if pruned else remaining == due - 1)
            else:
                fits = where > position
            if not fits:
                raise corrupt(f"row {number} is out of place")
            row, chain, at, due = number, checksum, where, remaining
            if not pruned:
                group.append(Entry(where, record))
            if not due:
                position = at
                yield from group
                group.clear()
    except UNREADABLE as error:
        raise corrupt(f"cannot be read: {error}") from error
    return Head(row, position, chain)


def _holds(chain: bytes, row: int, position: int, remaining: int, record: JournalRecord, checksum: bytes) -> bool:
    """Whether a row is what was written. One that stands for pruned rows says so under a seal of its own."""
    if record.kind == KIND_PRUNED:
        sealed = pruned_seal(record.seq, row, position, remaining, checksum)
        return (record.lane, record.hash, record.body) == (PRUNED_LANE, sealed, b"")
    return record.kind >= 0 and link(chain, row, position, remaining, record) == checksum


def batches(
    connection: apsw.Connection, path: Path, lane: bytes, first: int, last: int, max_bytes: int
) -> list[JournalRecord]:
    """The batches ``first..last`` of ``lane`` as ``Journal.read`` promises them."""
    query = (
        f"SELECT {_COLUMNS}, (SELECT chain FROM records AS p WHERE p.row = r.row - 1) FROM records AS r "
        "WHERE lane = ? AND seq BETWEEN ? AND ? AND kind = ? ORDER BY seq, row"
    )
    found: list[JournalRecord] = []
    used = 0

    def corrupt(reason: str) -> JournalCorrupt:
        return JournalCorrupt(path=str(path), position=0, reason=f"lane {lane.hex()[:16]}: {reason}")

    cursor = connection.execute(query, (lane, first, last, KIND_BATCH))
    try:
        for columns in cursor:
            values: tuple[Any, ...] = columns
            if tuple(map(type, values[:-1])) != _TYPES:
                raise corrupt("a column has the wrong type")
            number, at, remaining, kind, held, seq, name, checksum, body, before = values
            record = JournalRecord(kind, held, seq, name, body)
            previous = CHAIN_START if before is None else before
            if type(previous) is not bytes or min(number, at, remaining, kind, seq) < 0 or held != lane:
                raise corrupt(f"row {number} is not what was written")
            if link(previous, number, at, remaining, record) != checksum:
                raise corrupt(f"row {number} does not match its checksum")
            due = found[-1].seq + 1 if found else first
            if seq > due or (found and used + len(body) > max_bytes):
                break
            found.append(record)
            used += len(body)
    except UNREADABLE as error:
        raise corrupt(f"cannot be read: {error}") from error
    finally:
        cursor.close(True)
    return found
