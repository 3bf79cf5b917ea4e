"""Settled positions as rows of bytes: what ``settledpositions`` keeps, and what whoever changes many of them at once works on.

    packed = positions.packed(pairs)
    packed.opened()                     # objects, None where there is no position
    packed.figures                      # columns of 64 bits, and which rows they tell

Nothing wraps: a position whose figures do not fit in its row, or that has fees in other assets, stands beside the rows as it is, and its
row says so. Figures that are values have 80 bits, since their decimals are the price's and the quantity's together; quantities and fees
64, the number of fills 32. A position has one row: two rows differ exactly where the positions do, but for those that stand beside.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from crdtledger.ledger.settledparts import SettledPosition
from crdtledger.ledger.sharedmap import Pair
from crdtledger.ledger.sharedrows import Records

VALUE_BOUGHT, VALUE_SOLD, COST, REALISED, BOUGHT, SOLD, FEES, FILLS = range(8)
"""The figures, in the order of a row."""
VALUES: Final = 4
"""So many of them are values."""
MAX_FILLS: Final = (1 << 31) - 2
"""What a row has room for, and its negative."""

Columns = npt.NDArray[np.int64]
"""Shape (figures, n)."""
Flags = npt.NDArray[np.bool_]

_ROW: Final = struct.Struct("<4Q4h3qi")
"""Values: their lower 64 bits, then what is above; bought, sold, fees; fills."""
_FORM: Final = np.dtype([("low", "<i8", 4), ("high", "<i2", 4), ("sizes", "<i8", 3), ("fills", "<i4")])
ROW_BYTES: Final = _ROW.size
_LOW: Final = (1 << 64) - 1
# What stands for the number of fills where the row says something else; a position with such a number is kept beside.
_ABSENT, _BESIDE = -(1 << 31), 1 - (1 << 31)
NOTHING: Final = _ROW.pack(*(0,) * 11, _ABSENT)
"""The row where there is no position."""
_ELSEWHERE: Final = _ROW.pack(*(0,) * 11, _BESIDE)


class Figures(NamedTuple):
    """Positions by column; zeros where there is no position. ``whole``: of which rows that is all; of the others it says nothing."""

    columns: Columns
    whole: Flags


class PackedPositions(NamedTuple):
    """The positions of some pairs, none of which stands there twice. ``beside``: by row, those that do not fit there."""

    pairs: Sequence[Pair]
    records: Records
    beside: Mapping[int, SettledPosition]

    @classmethod
    def of(cls, positions: Mapping[Pair, SettledPosition | None]) -> Self:
        """These positions, and None where there is none."""
        rows = [NOTHING if held is None else _packed(held) for held in positions.values()]
        held = zip(positions.values(), rows, strict=True)
        beside = {at: position for at, (position, row) in enumerate(held) if position is not None and row is _ELSEWHERE}
        return cls([*positions], records_of(rows), beside)

    @property
    def there(self) -> Flags:
        """Where there is a position at all."""
        return is_there(self.records)

    @property
    def figures(self) -> Figures:
        """What the rows say."""
        rows = self.records.view(_FORM)[:, 0]
        columns = np.empty((FILLS + 1, len(rows)), np.int64)
        columns[:VALUES], columns[VALUES:FILLS], columns[FILLS] = rows["low"].T, rows["sizes"].T, rows["fills"]
        whole = (columns[:VALUES] >> 63 == rows["high"].T).all(axis=0) & (columns[FILLS] != _BESIDE)
        columns[FILLS, columns[FILLS] == _ABSENT] = 0
        return Figures(columns, whole)

    def opened(self) -> list[SettledPosition | None]:
        """The position of each row."""
        opened: list[SettledPosition | None] = []
        for at, row in enumerate(_ROW.iter_unpack(self.records.tobytes())):
            bought_value, sold_value, cost, realised, high_bought, high_sold, high_cost, high_realised, *_ = row
            *_, bought, sold, fees, fills = row
            if fills == _ABSENT:
                opened.append(None)
            elif fills == _BESIDE:
                opened.append(self.beside[at])
            else:
                opened.append(
                    SettledPosition(
                        bought=bought,
                        sold=sold,
                        value_bought=bought_value | high_bought << 64,
                        value_sold=sold_value | high_sold << 64,
                        fees=fees,
                        fills=fills,
                        cost=cost | high_cost << 64,
                        realised=realised | high_realised << 64,
                    )
                )
        return opened

    def by_pair(self) -> dict[Pair, SettledPosition | None]:
        """The same by name."""
        return dict(zip(self.pairs, self.opened(), strict=True))

    def chosen(self, rows: npt.NDArray[np.int64]) -> PackedPositions:
        """Those of some rows."""
        numbers = rows.tolist()
        beside = {at: self.beside[row] for at, row in enumerate(numbers) if row in self.beside} if self.beside else {}
        return PackedPositions([self.pairs[row] for row in numbers], self.records[rows], beside)


def pack_figures(columns: Columns) -> Records:
    """The rows of positions by column, the number of whose fills is within ``MAX_FILLS``. All zero: there is none."""
    rows = np.empty(columns.shape[1], _FORM)
    rows["low"], rows["high"] = columns[:VALUES].T, (columns[:VALUES] >> 63).T
    rows["sizes"], rows["fills"] = columns[VALUES:FILLS].T, columns[FILLS]
    rows["fills"][~columns.any(axis=0)] = _ABSENT
    return rows.view(np.uint8).reshape(-1, ROW_BYTES)


def records_of(rows: Iterable[bytes]) -> Records:
    """Rows side by side."""
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, ROW_BYTES)


def is_there(records: Records) -> Flags:
    """Which rows say that there is a position."""
    there: Flags = _fills(records) != _ABSENT
    return there


def stands_beside(records: Records) -> Flags:
    """Which rows say that the position does not fit in them."""
    beside: Flags = _fills(records) == _BESIDE
    return beside


def _fills(records: Records) -> npt.NDArray[np.int32]:
    fills: npt.NDArray[np.int32] = np.ascontiguousarray(records).view(_FORM)[:, 0]["fills"]
    return fills


def _packed(held: SettledPosition) -> bytes:
    """The row of a position, which says that it is kept beside where it does not fit."""
    if held.other_fees or held.fills <= _BESIDE:
        return _ELSEWHERE
    bought, sold, cost, realised = held.value_bought, held.value_sold, held.cost, held.realised
    lows = (bought & _LOW, sold & _LOW, cost & _LOW, realised & _LOW)
    try:
        return _ROW.pack(
            *lows, bought >> 64, sold >> 64, cost >> 64, realised >> 64, held.bought, held.sold, held.fees, held.fills
        )
    except struct.error:
        return _ELSEWHERE
