"""The cells of the positions that a height changes: most of what it changes, so they are compared and spelt many at a time.

A row of ``packedpositions`` differs where its position does, and what it says in 64 bits is spelt from its columns; positions that do not
fit there are compared and spelt as they are. ``statecells`` says which cells there are, ``accountcells`` what stands in one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.packedpositions import (
    BOUGHT,
    COST,
    FEES,
    FILLS,
    REALISED,
    SOLD,
    VALUE_BOUGHT,
    VALUE_SOLD,
    PackedPositions,
)
from crdtledger.ledger.settled import SettledState
from crdtledger.ledger.sharedmap import Pair

from .accountcells import PositionValues
from .cells import CellName

_SHOWN: Final = (BOUGHT, COST, FEES, FILLS, None, REALISED, SOLD, VALUE_BOUGHT, VALUE_SOLD)
"""The figures in the order of ``accountcells.FIGURES``; None: the quantity, which is worked out."""


class PositionCells(NamedTuple):
    """Changed ``cells``: new value by name, None where one is gone. ``members``: accounts that got one, or lost one."""

    cells: dict[CellName, bytes | None]
    members: frozenset[str]


def position_cells(before: SettledState, after: SettledState, pairs: Sequence[Pair], genesis: Genesis) -> PositionCells:
    """Those of ``pairs``, none of which is named twice."""
    was, now = after.positions.packed_since(before.positions, pairs)
    differs = (was.records != now.records).any(axis=1)
    differs[[row for row, position in now.beside.items() if was.beside.get(row) != position]] = True
    rows = np.flatnonzero(differs)
    was, now = was.chosen(rows), now.chosen(rows)
    moved = np.flatnonzero(was.there != now.there).tolist()
    names = [CellName("position", account, instrument) for account, instrument in now.pairs]
    told = dict(zip(names, _values(after, now, genesis), strict=True))
    return PositionCells(told, frozenset(now.pairs[row][0] for row in moved))


def _values(state: SettledState, positions: PackedPositions, genesis: Genesis) -> list[bytes | None]:
    """What the position of each row says, None where there is none."""
    values = PositionValues(state, genesis)
    columns, whole = positions.figures
    bought, sold = columns[BOUGHT], columns[SOLD]
    # Whatever is below 2**62 has its two highest bits alike; the difference of two such numbers has room.
    whole &= (bought >> 62 == bought >> 63) & (sold >> 62 == sold >> 63)
    net = np.where(whole, bought, 0) - np.where(whole, sold, 0)
    there = positions.there
    out: list[bytes | None] = [None] * len(there)
    rows = np.flatnonzero(there & whole)
    shown = [(net if figure is None else columns[figure])[rows].tolist() for figure in _SHOWN]
    instruments = [positions.pairs[row][1] for row in rows.tolist()]
    for row, value in zip(rows.tolist(), values.of_each(instruments, zip(*shown, strict=True)), strict=True):
        out[row] = value
    others = np.flatnonzero(there & ~whole)
    for row, position in zip(others.tolist(), positions.chosen(others).opened(), strict=True):
        assert position is not None  # it is there
        out[row] = values.of(positions.pairs[row][1], position)
    return out
