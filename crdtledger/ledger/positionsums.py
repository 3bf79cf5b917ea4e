"""Sums per (account, instrument, side), in wide columns: what fills add up to, whatever the order in which they come.

A row of sums holds quantity, value (before ``reference.value_factor``), fees in the settlement asset and the number of fills. Fees in
other assets are few and stand beside, as plain integers. Accounts and instruments are local numbers of one view.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from crdtledger.ledger.keytable import KeyTable
from crdtledger.ledger.wide import LIMBS, normalise, sum_by

QTY = slice(0, LIMBS)
VALUE = slice(LIMBS, 2 * LIMBS)
FEE = slice(2 * LIMBS, 3 * LIMBS)
COUNT = 3 * LIMBS
WIDTH = COUNT + 1

Numbers = npt.NDArray[np.int64]


class PositionSums:
    """The sums of one view. ``assets``: how many the genesis has."""

    def __init__(self, salt: int, assets: int) -> None:
        self._assets = assets
        self._cells = KeyTable(salt)
        self._sums = np.zeros((64, WIDTH), np.int64)
        self._fees: dict[tuple[int, int], dict[int, int]] = {}

    @property
    def nbytes(self) -> int:
        """Memory held by the cells."""
        return self._sums.nbytes + self._cells.nbytes

    def add(self, instrument: int, accounts: Numbers, sides: Numbers, contribution: Numbers) -> None:
        """Add rows of one instrument; ``contribution`` is of shape (n, WIDTH) and aligned with the others, negative for busts."""
        local = accounts * 2 + (sides < 0)
        order = np.argsort(local, kind="stable")
        ascending = local[order]
        starts = np.flatnonzero(np.concatenate(([True], ascending[1:] != ascending[:-1])))
        sums = np.add.reduceat(contribution[order], starts, axis=0)
        distinct = ascending[starts].astype(np.uint64)
        cells, _ = self._cells.insert(distinct, np.full(len(distinct), instrument, np.uint64))
        if len(self._cells) > len(self._sums):
            grown = np.zeros((max(len(self._cells), 2 * len(self._sums)), WIDTH), np.int64)
            grown[: len(self._sums)] = self._sums
            self._sums = grown
        sums += self._sums[cells]
        for part in (QTY, VALUE, FEE):
            normalise(sums[:, part])
        self._sums[cells] = sums

    def add_fees(self, instrument: int, accounts: Numbers, assets: Numbers, fees: Numbers, sign: int) -> None:
        """Add fees in assets other than the settlement asset."""
        for pair, fee in sum_by(accounts * self._assets + assets, fees).items():
            held = self._fees.setdefault((pair // self._assets, instrument), {})
            held[pair % self._assets] = held.get(pair % self._assets, 0) + sign * fee

    def sides(self) -> dict[tuple[int, int], dict[int, list[int]]]:
        """(account, instrument) -> side (+1 bought, -1 sold) -> its row of sums."""
        out: dict[tuple[int, int], dict[int, list[int]]] = {}
        local, instruments = self._cells.keys(0, len(self._cells))
        table = self._sums[: len(self._cells)].tolist()
        for account_side, instrument, sums in zip(local.tolist(), instruments.tolist(), table, strict=True):
            out.setdefault((account_side >> 1, instrument), {})[-1 if account_side & 1 else 1] = sums
        return out

    def fees(self, account: int, instrument: int) -> dict[int, int]:
        """Fees in other assets, by asset, zeros left out."""
        return {asset: fee for asset, fee in self._fees.get((account, instrument), {}).items() if fee}

    def counts(self) -> Iterator[tuple[int, int]]:
        """(instrument, over all its cells the numbers of fills less busts, or of busts less fills) of every instrument with any."""
        instruments, which = np.unique(self._cells.keys(0, len(self._cells))[1], return_inverse=True)
        counts = np.zeros(len(instruments), np.int64)
        np.add.at(counts, which, np.abs(self._sums[: len(self._cells), COUNT]))
        return zip(instruments.tolist(), counts.tolist(), strict=True)
