"""Rows of bytes of which successive versions share one table, so that a height costs the rows it changes, and no row is an object.

    rows = before.room(2)                                   # numbers that are free
    after = before.replaced(rows, records, 2, freed)

Source: the persistent arrays of Baker, as in ``sharedmap``, which says how versions stand to each other: the newest has
the table, each older one what it says otherwise. Here the keys are row numbers and all rows are of one width.

Which numbers are free is part of a version. A row that is freed keeps its bytes until somebody else is given its number; who reads it
before reads what stood there. Versions are not for several threads.
"""

from __future__ import annotations

from typing import Final, Self

import numpy as np
import numpy.typing as npt

from crdtledger.ledger.growing import Growing
from crdtledger.ledger.sharedmap import Version

Rows = npt.NDArray[np.int64]
Records = npt.NDArray[np.uint8]
"""Shape (n, width)."""

_Packed = npt.NDArray[np.void]  # the same, a row an item: numpy gathers and scatters those at once

NO_ROWS: Final[Rows] = np.empty(0, np.int64)


class _Table:
    """What the newest version has. ``written``: no row from there on was ever written."""

    __slots__ = ("_rows", "written")

    def __init__(self, width: int) -> None:
        self._rows = Growing(f"V{width}")
        self.written = 0

    @property
    def packed(self) -> _Packed:
        """All rows, to be looked at and not to be kept: rows that somebody keeps cannot grow where they lie."""
        return self._rows.items

    def write(self, at: Rows, packed: _Packed) -> None:
        end = int(at.max(initial=-1)) + 1
        self._rows.reserve(end, self.written)
        self._rows.items[at] = packed
        self.written = max(self.written, end)


class SharedRows(Version[_Table]):
    """One version."""

    __slots__ = ("_at", "_free", "_otherwise", "_sorted", "_used", "width")

    def __init__(self, width: int) -> None:
        """No rows, of ``width`` bytes."""
        self.width = width
        self._table, self._newer = _Table(width), None
        self._used, self._free = 0, NO_ROWS
        self._nothing_otherwise()

    def room(self, count: int) -> Rows:
        """So many row numbers that nothing of this version stands at. ``replaced`` takes them."""
        reused = self._free[:count]
        return np.concatenate([reused, np.arange(self._used, self._used + count - len(reused))])

    def take(self, rows: Rows) -> Records:
        """What stands in these rows, copied."""
        return self._unpacked(self._taken(rows))

    def one(self, row: int) -> bytes:
        """What stands in one row."""
        version = self
        while version._table is None:
            place, here = version._places(np.array([row]))
            if here[0]:
                return bytes(version._otherwise[place[0]])
            assert version._newer is not None  # only the newest version has the table
            version = version._newer
        return bytes(version._table.packed[row])

    def replaced(self, at: Rows, records: Records, taken: int, freed: Rows) -> SharedRows:
        """The version with these rows written, each once, and without ``freed``. Among them are all ``taken`` that ``room`` told."""
        table = self._own()
        later = type(self).__new__(type(self))
        later.width = self.width
        later._nothing_otherwise()
        later._used = self._used + max(0, taken - len(self._free))
        later._free = np.concatenate([self._free[taken:], freed])
        known = at[at < table.written]
        self._otherwise_is(known, table.packed[known])
        table.write(at, np.ascontiguousarray(records).reshape(-1).view(table.packed.dtype))
        self._hand_over(table, later)
        return later

    def _otherwise_is(self, at: Rows, packed: _Packed) -> None:
        self._at, self._otherwise, self._sorted = at, packed, False

    def _nothing_otherwise(self) -> None:
        self._otherwise_is(NO_ROWS, np.empty(0, f"V{self.width}"))

    def _give_way(self, table: _Table, older: Self) -> None:
        self._otherwise_is(older._at, table.packed[older._at])
        table.write(older._at, older._otherwise)
        older._nothing_otherwise()

    def _taken(self, rows: Rows) -> _Packed:
        if self._table is not None:
            return np.take(self._table.packed, rows)
        assert self._newer is not None  # only the newest version has the table
        places, here = self._places(rows)
        taken: _Packed = np.empty(len(rows), self._otherwise.dtype)
        taken[~here] = self._newer._taken(rows[~here])
        taken[here] = self._otherwise[places[here]]
        return taken

    def _places(self, rows: Rows) -> tuple[Rows, npt.NDArray[np.bool_]]:
        """(Where in ``_otherwise``, whether there at all)."""
        if not self._sorted:  # most versions are let go of before they are read again
            order = np.argsort(self._at)
            self._at, self._otherwise, self._sorted = self._at[order], self._otherwise[order], True
        places = np.searchsorted(self._at, rows)
        inside = np.minimum(places, len(self._at) - 1)
        here = self._at[inside] == rows if len(self._at) else np.zeros(len(rows), np.bool_)
        return inside, here

    def _unpacked(self, packed: _Packed) -> Records:
        return packed.view(np.uint8).reshape(-1, self.width)
