"""Pruning the journal's rows: a run of them becomes one row that keeps what the chain needs to go on. Impure (SQLite).

Every row's checksum covers the one before it, so rows cannot simply vanish. Of a run ``first..last`` the last row stays, without
its content: its number, position, ``remaining`` and checksum are what the next row is linked to; it says which run it stands for
(in ``seq``), under a seal of its own (``journalrecord.pruned_seal``). Runs that meet become one, so there are never more such rows
than records left plus one. Everything happens in the caller's transaction: after a crash all of it is there, or nothing.

What it costs: index look-ups by what is deleted, nothing by what is held. SQLite puts the freed pages on its free list and
writes new records there, so the file grows to the most that was ever held at once, and no further. It never shrinks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apsw

from crdtledger.ledger.journalfile import PRUNED_LANE
from crdtledger.ledger.journalrecord import KIND_BATCH, KIND_PRUNED, Prune, pruned_seal


def prune(connection: apsw.Connection, what: Prune) -> int:
    """Delete what is named, in the transaction that is open; how many records there were."""
    rows: set[int] = set()
    for lane, upto in what.batches.items():
        rows.update(_rows(connection, "lane = ? AND seq <= ? AND kind = ?", (lane, upto, KIND_BATCH)))
    for kind, below in what.kinds.items():
        rows.update(_rows(connection, "lane = x'' AND seq < ? AND kind = ?", (below, kind)))
    for first, last in _runs(sorted(rows)):
        _bury(connection, first, last)
    return len(rows)


def _rows(connection: apsw.Connection, where: str, values: tuple[bytes | int, ...]) -> Iterator[int]:
    return (row for (row,) in connection.execute(f"SELECT row FROM records WHERE {where}", values))


def _runs(rows: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Neighbouring numbers, as (first, last)."""
    first = last = 0
    for row in rows:
        if first and row == last + 1:
            last = row
            continue
        if first:
            yield first, last
        first = last = row
    if first:
        yield first, last


def _bury(connection: apsw.Connection, first: int, last: int) -> None:
    """Put one row in the place of ``first..last``, and of the runs that it meets on either side."""
    row: tuple[Any, ...]
    for row in connection.execute("SELECT kind, seq FROM records WHERE row = ?", (first - 1,)).fetchall():
        if row[0] == KIND_PRUNED:
            first = row[1]
    for row in connection.execute(
        "SELECT kind, seq, row FROM records WHERE row > ? ORDER BY row LIMIT 1", (last,)
    ).fetchall():
        if row[:2] == (KIND_PRUNED, last + 1):
            last = row[2]
    ((position, remaining, chain),) = connection.execute(
        "SELECT position, remaining, chain FROM records WHERE row = ?", (last,)
    )
    seal = pruned_seal(first, last, position, remaining, chain)
    connection.execute("DELETE FROM records WHERE row BETWEEN ? AND ?", (first, last))
    connection.execute(
        "INSERT INTO records (row, position, remaining, kind, lane, seq, hash, chain, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, x'')",
        (last, position, remaining, KIND_PRUNED, PRUNED_LANE, first, seal, chain),
    )
