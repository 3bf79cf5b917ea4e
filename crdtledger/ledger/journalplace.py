"""The place where a journal lives: the files around it, and putting another journal there without losing the old. Impure.

For a journal ``journal``: ``journal-wal`` and ``journal-shm`` are SQLite's, ``journal.incarnation`` is the sidecar,
``journal.lock`` the lock. Nothing here deletes a journal: what is replaced is moved aside under a name that is given.

Rule: before the first file of a journal is moved, the sidecar names no incarnation at all. So whatever instant the
power fails at, what is opened next is known to be RESTORED.
"""

from __future__ import annotations

from pathlib import Path

from crdtledger.errors import JournalUnusable
from crdtledger.ledger import durablefile
from crdtledger.ledger.incarnation import Sidecar, decode_sidecar, encode_sidecar

LOG_SUFFIXES = ("-wal", "-shm")
"""What SQLite keeps beside a journal; it belongs to it and moves with it."""

_NO_INCARNATION = b"replaced by hand"


def sidecar_path(path: Path) -> Path:
    """The incarnation file of the journal at ``path``."""
    return path.with_name(path.name + ".incarnation")


def lock(path: Path) -> durablefile.FileLock:
    """Lock the journal at ``path``: ``JournalLocked`` when it is in use, ``JournalUnusable`` when it cannot be."""
    try:
        return durablefile.FileLock(path.with_name(path.name + ".lock"), guarded=path)
    except OSError as error:
        raise JournalUnusable(path=str(path), reason=f"cannot be locked: {error}") from error


def read_sidecar(path: Path) -> Sidecar | None:
    """What the incarnation file of the journal at ``path`` says; None when there is none."""
    try:
        return decode_sidecar(sidecar_path(path).read_bytes())
    except FileNotFoundError:
        return None


def write_sidecar(path: Path, incarnation: bytes, mark: int) -> None:
    """Replace the incarnation file durably."""
    durablefile.replace(sidecar_path(path), encode_sidecar(incarnation, mark))


def with_logs(path: Path) -> list[Path]:
    """The names of SQLite's side files and of the journal itself, in the order in which they are to be moved."""
    return [*(path.with_name(path.name + suffix) for suffix in LOG_SUFFIXES), path]


def put_in_place(draft: Path, path: Path, aside: str) -> None:
    """Move the journal at ``path`` (if any) to ``<its name>.<aside>`` and ``draft`` to ``path``. The lock is held.

    ``draft`` lies in the same folder and is one synced file. A call that was cut off can be made again.
    """
    if not aside or "/" in aside:
        raise JournalUnusable(path=str(path), reason=f"cannot be moved aside to {aside!r}: not a part of a name")
    old = path.with_name(f"{path.name}.{aside}")
    moves = [(at, to) for at, to in zip(with_logs(path), with_logs(old), strict=True) if at.exists()]
    for _, to in moves:
        if to.exists():
            raise JournalUnusable(path=str(path), reason=f"cannot be moved aside: {to} is there already")
    write_sidecar(path, _NO_INCARNATION, 0)
    for at, to in moves:
        durablefile.rename(at, to)
    durablefile.rename(draft, path)
