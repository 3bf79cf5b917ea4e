"""Sums per (account, instrument), in wide columns: what fills add up to, whatever the order in which they come.

A cell has a row of sums for each side: quantity, value (before ``reference.value_factor``), fees in the settlement asset, and the number
of fills. The sums are limbs as in ``wide``, as many as 2**32 fills (a view can tell apart no more) need: of the quantity of a fill, or
its fee, up to 2**62 each, and of its value up to 2**126. Fees in other assets are few and stand beside, as plain integers. Accounts and
instruments are local numbers of one view.

Rows are summed by numpy's bincount, which counts by the batch's own index of an account, so nothing is sorted. It adds in float64; the
columns are split so that every sum is exact (``wide.spread``). Limbs are carried seldom: one addition makes a limb grow by 2**33 at most.

Which cell an account has in an instrument stands in a plain array by account, for as long as all of these together are not much larger
than the cells there are; else a hash table tells it, as it does for every cell that is new.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from crdtledger.ledger.keytable import Column, KeyTable
from crdtledger.ledger.wide import MASK, biggest, normalise, spread, sum_by

QTY = slice(0, 2)
VALUE = slice(2, 6)
FEE = slice(6, 8)
COUNT = 8
WIDTH = COUNT + 1
CARRY_EVERY = 1 << 28
"""Additions to any cell between two carries."""

NEAR_CELLS = 3
NEAR_LEAST = 1 << 14
"""The arrays by account together have at most ``NEAR_CELLS`` places for each cell, and ``NEAR_LEAST`` more."""

Numbers = npt.NDArray[np.int64]
_NOWHERE = np.full(0, -1)


class Page(NamedTuple):
    """Accounts of one instrument, as rows of a batch point at them. Not each is one of which there is a row."""

    instrument: int
    accounts: Numbers


class PositionSums:
    """The sums of one view. ``assets``: how many the genesis has."""

    def __init__(self, salt: int, assets: int) -> None:
        self._assets = assets
        self._cells = KeyTable(salt)
        self._sums = np.zeros((64, 2, WIDTH), np.int64)
        self._additions = 0
        self._near: dict[int, Numbers] = {}
        self._near_size = 0
        self._fees: dict[tuple[int, int], dict[int, int]] = {}

    @property
    def nbytes(self) -> int:
        """Memory held by the cells."""
        return self._sums.nbytes + self._cells.nbytes + sum(near.nbytes for near in self._near.values())

    def add(
        self,
        pages: Sequence[Page],
        which: Numbers,
        sides: npt.NDArray[np.integer],
        quantities: Numbers,
        values: Sequence[Numbers],
        fees: Numbers,
        sign: int,
    ) -> None:
        """Add rows, or take them back (``sign`` -1). ``which``: where the account of a row stands in all ``pages``, one after the other;
        a row that points beyond them all is left out. ``values``: columns, each worth 2**32 times the one before."""
        size = sum(len(page.accounts) for page in pages)
        places = which * 2 + (sides < 0)
        counts = np.bincount(places, minlength=2 * size)[: 2 * size]
        used = (counts[::2] | counts[1::2]).nonzero()[0]
        if not len(used):
            return
        cells = self._cells_on(pages, used)
        self._grow()
        at = ((cells * (2 * WIDTH))[:, None] + (0, WIDTH)).ravel()
        flat = self._sums.reshape(-1)
        most = int(counts.max())

        def put(limb: int, sums: Numbers) -> None:
            np.add.at(flat, at + limb, sums * sign)  # a cell may stand on several pages

        put(COUNT, _of_used(counts, used))
        for part, columns in ((QTY, (quantities,)), (VALUE, values), (FEE, (fees,))):
            for first, column in enumerate(columns, part.start):
                for limb, piece in enumerate(spread(column, most), first):
                    added = _of_used(np.bincount(places, piece, 2 * size)[: 2 * size], used).astype(np.int64)
                    if limb + 1 == part.stop or biggest(added) <= MASK:
                        put(limb, added)
                    else:
                        put(limb, added & MASK)
                        put(limb + 1, added >> 32)
        self._added(len(pages))

    def _cells_on(self, pages: Sequence[Page], used: Numbers) -> Numbers:
        """The cells of the accounts at the places ``used`` of all pages, in ascending order."""
        ends = np.cumsum([len(page.accounts) for page in pages])
        bounds = [0, *np.searchsorted(used, ends).tolist()]
        found = []
        for page, end, first, last in zip(pages, ends.tolist(), bounds, bounds[1:], strict=False):
            if first < last:
                accounts = page.accounts[used[first:last] - (end - len(page.accounts))]
                found.append(self._cells_of(page.instrument, accounts))
        return np.concatenate(found)

    def add_one(self, instrument: int, account: int, side: int, amounts: tuple[int, int, int], sign: int) -> None:
        """``add`` of one row: its quantity, its value and its fee. In plain integers, for numpy takes ten times as long."""
        near = self._near.get(instrument, _NOWHERE)
        if account >= len(near):
            cell = int(self._cells_of(instrument, np.array([account]))[0])
        else:
            cell = near.item(account)
            if cell < 0:
                near[account] = cell = self._cells.number(account, instrument)[0]
        self._grow()
        place = (cell, int(side < 0))
        sums = self._sums[place].tolist()
        sums[COUNT] += sign
        for part, amount in zip((QTY, VALUE, FEE), amounts, strict=True):
            rest = amount * sign
            for limb in range(part.start, part.stop - 1):
                sums[limb] += rest & MASK
                rest >>= 32
            sums[part.stop - 1] += rest
        self._sums[place] = sums
        self._added(1)

    def _cells_of(self, instrument: int, accounts: Numbers) -> Numbers:
        """The cell of each account; a new one where it has none."""
        near = self._near.get(instrument, _NOWHERE)
        most = int(accounts.max()) + 1
        if most > len(near):
            size = most + most // 2
            self._near_size += size - len(near)
            if self._near_size > NEAR_CELLS * len(self._cells) + NEAR_LEAST:  # too sparse: through the table
                self._near_size -= size - len(near)
                return self._cells.insert(*_keys(instrument, accounts))[0]
            self._near[instrument] = np.full(size, -1)
            self._near[instrument][: len(near)] = near
            near = self._near[instrument]
        cells = near[accounts]
        missing = (cells < 0).nonzero()[0]
        if len(missing):
            cells[missing] = self._cells.insert(*_keys(instrument, accounts[missing]))[0]
            near[accounts] = cells
        return cells

    def _grow(self) -> None:
        if len(self._cells) > len(self._sums):
            grown = np.zeros((max(len(self._cells), 2 * len(self._sums)), 2, WIDTH), np.int64)
            grown[: len(self._sums)] = self._sums
            self._sums = grown

    def _added(self, times: int) -> None:
        self._additions += times
        if self._additions >= CARRY_EVERY:
            self._carry()

    def _carry(self) -> None:
        held = self._sums[: len(self._cells)].reshape(-1, WIDTH)
        for part in (QTY, VALUE, FEE):
            normalise(held[:, part])
        self._additions = 0

    def add_fees(self, instrument: int, accounts: Numbers, assets: Numbers, fees: Numbers, sign: int) -> None:
        """Add fees in assets other than the settlement asset."""
        for pair, fee in sum_by(accounts * self._assets + assets, fees).items():
            held = self._fees.setdefault((pair // self._assets, instrument), {})
            held[pair % self._assets] = held.get(pair % self._assets, 0) + sign * fee

    def sides(self, account: int | None = None) -> dict[tuple[int, int], dict[int, list[int]]]:
        """(account, instrument) -> side (+1 bought, -1 sold) -> its row of sums; of all accounts, or of one."""
        self._carry()
        accounts, instruments = self._cells.keys(0, len(self._cells))
        mine = slice(None) if account is None else np.flatnonzero(accounts.view(np.int64) == account)
        names = zip(accounts[mine].tolist(), instruments[mine].tolist(), strict=True)
        table = self._sums[: len(self._cells)][mine].tolist()
        return {name: {1: bought, -1: sold} for name, (bought, sold) in zip(names, table, strict=True)}

    def fees(self, account: int, instrument: int) -> dict[int, int]:
        """Fees in other assets, by asset, zeros left out."""
        return {asset: fee for asset, fee in self._fees.get((account, instrument), {}).items() if fee}

    def counts(self) -> Iterator[tuple[int, int]]:
        """(instrument, over all its cells the numbers of fills less busts, or of busts less fills) of every instrument with any."""
        instruments, which = np.unique(self._cells.keys(0, len(self._cells))[1], return_inverse=True)
        counts = np.zeros(len(instruments), np.int64)
        np.add.at(counts, which, np.abs(self._sums[: len(self._cells), :, COUNT]).sum(axis=1))
        return zip(instruments.tolist(), counts.tolist(), strict=True)


def _of_used(sums: npt.NDArray[Any], used: Numbers) -> npt.NDArray[Any]:
    """Both sides of what was counted at the places ``used``, side by side: one column, to which numpy adds ten times as fast as to two."""
    return sums.reshape(-1, 2).take(used, axis=0).ravel()


def _keys(instrument: int, accounts: Numbers) -> tuple[Column, Column]:
    """The keys of cells of one instrument."""
    return accounts.view(np.uint64), np.full(len(accounts), instrument, np.uint64)
