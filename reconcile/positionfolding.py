"""The trades of a height taken into positions, many positions at a time: what ``entries`` does one by one, where 64 bits are enough.

Positions are independent of each other, trades of one position are not: so the first trade of every position is taken in at once, then
every second one, and so on (a *turn*). Turns that would be of few positions are not worth their columns.

Nothing wraps. What stands in a column is below ``ROOM`` in magnitude before a turn, and so is a trade's value; its quantity and its fee
are at most 2**62, as in any fact: one turn stays within 64 bits, and what it leaves is looked at before the next. A product is made
only where it fits, which is told beforehand in floating point. A position that leaves that room, or is of another kind (with a fee in
another asset, say), is not *whole*: its column says nothing, and whoever asked takes the plain loop over Python's integers, which gives
the same figures for all.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from crdtledger.ledger.packedpositions import (
    BOUGHT,
    COST,
    FEES,
    FILLS,
    REALISED,
    SOLD,
    VALUE_BOUGHT,
    VALUE_SOLD,
    Columns,
    Figures,
    Flags,
)
from crdtledger.ledger.wide import Limbs

Numbers = npt.NDArray[np.int64]

ROOM: Final = 1 << 60
MOST_FILLS: Final = 1 << 30
FEW: Final = 64
"""Turns have at least so many positions: about as many make the loop over integers as slow as columns."""
_PRODUCT: Final = float(1 << 62)


class Trades(NamedTuple):
    """Fills and, with ``signs`` -1, busts, by row, those of a position side by side and in order. ``values``: of each, all factors in,
    where it is ``whole``: below ``ROOM``, and with nothing else to it."""

    sides: Numbers
    quantities: Numbers
    signs: Numbers
    fees: Numbers
    values: Numbers
    whole: Flags

    def of(self, rows: Numbers) -> Trades:
        """Some of them."""
        numbers = (self.sides, self.quantities, self.signs, self.fees, self.values)
        sides, quantities, signs, fees, values = (column[rows] for column in numbers)
        return Trades(sides, quantities, signs, fees, values, self.whole[rows])


def whole_values(worth: Limbs, factors: Numbers) -> tuple[Numbers, Flags]:
    """Wide columns times ``factors`` (1 to 2**62), and where the product is within ``ROOM``; elsewhere it is 0."""
    narrow = ~worth[:, 2:].any(axis=1) & (np.abs(worth[:, 1]) < 1 << 27)
    values = np.where(narrow, worth[:, 0], 0) + (np.where(narrow, worth[:, 1], 0) << 32)
    narrow &= np.abs(values).astype(np.float64) * factors < ROOM // 2
    return np.where(narrow, values, 0) * np.where(narrow, factors, 1), narrow


def folded(before: Figures, trades: Trades, counts: Numbers, inverse: Flags) -> Figures:
    """Every position after its trades, of which it has ``counts``, at least one. ``inverse``: by position, what its instrument is."""
    starts = np.cumsum(counts) - counts
    whole = before.whole & np.logical_and.reduceat(trades.whole, starts)
    turns = int(np.sort(counts)[-FEW]) if len(counts) >= FEW else 0
    which = np.flatnonzero(whole & _in_room(before.columns) & (counts <= turns))
    which = which[np.argsort(-counts[which], kind="stable")]  # so that those with more to come stand first
    held, ok = before.columns[:, which], np.ones(len(which), np.bool_)
    for turn in range(turns):
        some = int(np.searchsorted(-counts[which], -turn))
        ok[:some] &= _taken(held[:, :some], trades.of(starts[which[:some]] + turn), inverse[which[:some]])
        held[:, ~ok] = 0
    columns, done = np.zeros_like(before.columns), np.zeros(len(counts), np.bool_)
    columns[:, which], done[which] = held, ok
    return Figures(columns, done)


def _in_room(columns: Columns) -> Flags:
    inside = (columns > -ROOM) & (columns < ROOM)
    room: Flags = np.logical_and(inside.all(axis=0), np.abs(columns[FILLS]) < MOST_FILLS)
    return room


def _taken(held: Columns, trades: Trades, inverse: Flags) -> Flags:
    """Take a trade into each position, in place; where it and what comes of it have room. See ``entries.after``."""
    sides, quantities, signs, fees, values, _ = trades
    net, cost, signed = held[BOUGHT] - held[SOLD], held[COST], signs * quantities
    traded = sides * signed
    closes = (net != 0) & ((net > 0) != (traded > 0))
    size, open_ = np.abs(traded), np.abs(net)
    in_part, beyond = closes & (size < open_), closes & (size > open_)
    out, fits_out = _part(cost, size, open_, in_part)
    came, fits_came = _part(values, open_, size, beyond)
    gain = np.where((net > 0) != inverse, came - out, out - came)
    held[COST] += values - np.where(closes, came + out, 0)
    held[REALISED] += np.where(closes, gain, 0)
    bought, valued = sides > 0, signs * values
    held[BOUGHT] += np.where(bought, signed, 0)
    held[SOLD] += np.where(bought, 0, signed)
    held[VALUE_BOUGHT] += np.where(bought, valued, 0)
    held[VALUE_SOLD] += np.where(bought, 0, valued)
    held[FEES] += signs * fees
    held[FILLS] += signs
    return fits_out & fits_came & _in_room(held)


def _part(whole: Numbers, size: Numbers, of: Numbers, where: Flags) -> tuple[Numbers, Flags]:
    """``whole * size // of`` there, the whole elsewhere; and where that could be said."""
    part, rows = whole.copy(), where.nonzero()[0]
    fits = np.abs(whole[rows]).astype(np.float64) * size[rows] < _PRODUCT
    part[rows[fits]] = whole[rows[fits]] * size[rows[fits]] // of[rows[fits]]
    said = np.ones(len(whole), np.bool_)
    said[rows] = fits
    return part, said
