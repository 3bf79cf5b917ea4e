"""Average entry and realised profit: what positions owe to the order of their fills.

Average-cost method, over the fills that a height counts, in canonical order. Beside the position's signed quantity stand

- ``cost``: the value of the open quantity at its average entry, in minor units of the instrument's value. Never negative where prices
  are not;
- ``realised``: what closing has brought so far. Linear: exit less entry for what was long, entry less exit for what was short. Inverse
  (value = contracts / price): the other way round. Fees are not in it.

A trade on the position's side adds its value to ``cost``. One against it closes ``min`` of both quantities: that part of ``cost``, and
of the trade's value where it goes on to the other side, is taken *rounded down (floor)*; what closes everything takes all there is. So
nothing is lost or made up, whatever the order:

    linear    realised = value sold - value bought + cost of a long, - cost of a short
    inverse   realised = value bought - value sold - cost of a long, + cost of a short

A bust counts as the opposite trade at the busted terms, where it stands in the order. The identities hold; the average entry is then
not that of a position that never had the fill.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from crdtledger.ledger.wide import Limbs, to_ints


class Entry(NamedTuple):
    """How a position was entered: signed ``qty`` in quantity units, ``cost`` and ``realised`` in value units."""

    qty: int
    cost: int
    realised: int


FLAT = Entry(0, 0, 0)


def after(entry: Entry, trades: Iterable[tuple[int, int]], inverse: bool) -> Entry:
    """The entry after ``trades`` in order: (signed quantity, value at the trade's price), the value not signed by side."""
    qty, cost, realised = entry
    # A loop over plain integers: every reduction rounds what the one before it left, so no column operation gives the same
    # numbers, and the integers outgrow 64 bits. It runs once per counted fill, at some tenths of a microsecond.
    for traded, value in trades:
        if qty == 0 or (qty > 0) == (traded > 0):
            qty += traded
            cost += value
            continue
        held, size = abs(qty), abs(traded)
        out, came = cost, value
        if size < held:
            out = cost * size // held
        elif size > held:
            came = value * held // size
        gain = came - out if qty > 0 else out - came
        realised += -gain if inverse else gain
        cost += value - came - out
        qty += traded
    return Entry(qty, cost, realised)


def plain(values: Limbs) -> list[int]:
    """Wide columns as Python integers; short ones, which most are, whole columns at a time."""
    if not len(values):
        return []
    if not values[:, 2:].any() and int(np.abs(values[:, 1]).max()) < 1 << 30:
        short: list[int] = (values[:, 0] + (values[:, 1] << 32)).tolist()
        return short
    return to_ints(values)
