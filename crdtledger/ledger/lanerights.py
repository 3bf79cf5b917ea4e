"""What one lane has come to, step by step, and what joining the pasts of several lanes of one node is worth.

A *step* is one batch that counted. ``covered`` says which predecessor lanes of the same node the lane stands on, and up
to which seq; ``claimed`` says up to which seq it has taken over what other nodes' lanes granted. Both only ever grow, by
maximum, so joining two pasts is order-free and counts nothing twice however the lanes name each other: what is added is
always just the steps and the grants that were not in yet.

What a lane may spend = what the base grants its node
                        + own steps + steps of covered lanes + grants up to ``claimed``
                        - deposits that two of these lanes recorded (the one in the first lane counts).

Steps are unsettled batches: what is at or below the cut is in the base, so ``covered`` and ``claimed`` begin there.

Every step remembers ``covered`` and ``claimed`` as they were then: a batch that names a lane at seq 5 must get the same
answer at a replica that has already seen seq 9.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from crdtledger.ledger.factkeys import Keys
from crdtledger.ledger.keytable import KeyTable
from crdtledger.ledger.wide import add_into

Rows = npt.NDArray[np.int64]
Totals = dict[int, int]
"""Amounts by cell; a cell is ``account number * number of assets + asset number``."""

Reach = Mapping[bytes, int]
"""Lane -> the last seq that is taken in."""


class Deposits(NamedTuple):
    """The deposits of one step, as aligned columns."""

    keys: Keys
    cells: npt.NDArray[np.int64]
    amounts: npt.NDArray[np.int64]


class Step(NamedTuple):
    """One batch that counted: what it changed (grants received and lanes covered apart), and the lane's past after it."""

    seq: int
    net: Totals
    ids: int
    covered: Reach
    claimed: Reach
    deposits: Deposits | None


START = Step(0, {}, 0, {}, {}, None)


class Minted(NamedTuple):
    """One deposit as its lane recorded it."""

    seq: int
    cell: int
    amount: int


class LaneRights:
    """The counted steps of one lane, and its ids."""

    def __init__(self, salt: int) -> None:
        self.available: Totals = {}
        self.ids = KeyTable(salt)
        self.steps: list[Step] = []
        self._told: list[tuple[int, int, Rows]] = []
        self._seqs: list[int] = []
        self._given_at: list[int] = []
        self._given: list[dict[int, Totals]] = []
        self._minted: dict[tuple[int, int], Minted] = {}
        self._minted_steps = 0

    @property
    def last(self) -> Step:
        """The newest step."""
        return self.steps[-1] if self.steps else START

    def add(self, step: Step, granted: dict[int, Totals]) -> None:
        """Append a step; ``granted`` is what it gives away, by member."""
        self.steps.append(step)
        self._seqs.append(step.seq)
        if granted:
            self._given_at.append(step.seq)
            self._given.append(granted)

    def tell(self, keys: Keys, seq: int, rows: Rows) -> None:
        """Take in ids that the lane has not used before, and which rows of its batch at ``seq`` use them."""
        self._told.append((len(self.ids), seq, rows))
        self.ids.insert(*keys)

    def told(self, ordinal: int) -> tuple[int, int]:
        """(seq, row) of the row that used an id, by the id's ordinal."""
        first, seq, rows = self._told[bisect.bisect_right(self._told, ordinal, key=lambda entry: entry[0]) - 1]
        return seq, int(rows[ordinal - first])

    def at(self, seq: int) -> Step:
        """The newest step up to ``seq``."""
        index = bisect.bisect_right(self._seqs, seq)
        return self.steps[index - 1] if index else START

    def between(self, after: int, upto: int) -> list[Step]:
        """The steps with ``after < seq <= upto``."""
        return self.steps[bisect.bisect_right(self._seqs, after) : bisect.bisect_right(self._seqs, upto)]

    def granted(self, member: int, after: int, upto: int) -> Iterator[tuple[int, Totals]]:
        """(seq, amounts) of what the lane granted to ``member`` with ``after < seq <= upto``."""
        first, end = bisect.bisect_right(self._given_at, after), bisect.bisect_right(self._given_at, upto)
        for index in range(first, end):
            if member in self._given[index]:
                yield self._given_at[index], self._given[index][member]

    def used(self, keys: Keys, upto: int) -> npt.NDArray[np.bool_]:
        """Which ids the lane had used by ``upto``."""
        ordinals = self.ids.find(*keys)
        used: npt.NDArray[np.bool_] = (ordinals >= 0) & (ordinals < self.at(upto).ids)
        return used

    def minted(self) -> Mapping[tuple[int, int], Minted]:
        """Every deposit of the lane by its key. Built when a lane is first claimed, then kept up."""
        for step in self.steps[self._minted_steps :]:
            if step.deposits is not None:
                (high, low), cells, amounts = step.deposits
                rows = zip(high.tolist(), low.tolist(), cells.tolist(), amounts.tolist(), strict=True)
                for one, two, cell, amount in rows:
                    self._minted[one, two] = Minted(step.seq, cell, amount)
        self._minted_steps = len(self.steps)
        return self._minted


def extended(reach: Reach, more: Reach) -> dict[bytes, int]:
    """The join of two reaches: the greater seq of each lane."""
    joined = dict(reach)
    for lane, seq in more.items():
        joined[lane] = max(seq, joined.get(lane, 0))
    return joined


def repeated_deposits(
    rows: Mapping[bytes, LaneRights], lane: bytes, before: Reach, after: Reach, found: Totals
) -> None:
    """Take back from ``found`` the deposits that stand twice once ``lane`` covers ``after`` instead of ``before``.

    The one in the first lane (by epoch) counts, as it does in the collateral view.
    """
    reach = {**before, lane: rows[lane].last.seq}
    for new in sorted(after):
        start = before.get(new, 0)
        if after[new] <= start:
            continue
        others = [other for other in sorted(reach) if other != new and rows[other].minted()]
        for key, minted in rows[new].minted().items() if others else ():
            if not start < minted.seq <= after[new]:
                continue
            holders = [
                (other, held)
                for other in others
                if (held := rows[other].minted().get(key)) is not None and held.seq <= reach[other]
            ]
            if holders:
                keeper, held = holders[0]
                back = held if new < keeper else minted
                add_into(found, {back.cell: back.amount}, -1)
        reach[new] = after[new]
