"""The reserves of one lane: what is set aside in its row, and what voids and posts do to it.

Only the lane that made a reserve voids or posts it. What the base holds open is taken in when a fact first names it. A void of a
settled reserve that has nothing left is no fault: its lane could not know what would be settled between, and it frees nothing.
A reserve that another lane holds, or nobody ever made, is a fault of the whole batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from crdtledger.ledger.body import Body, fact_id
from crdtledger.ledger.catalog import Binding, Catalog
from crdtledger.ledger.factkeys import Keys, reserve_keys
from crdtledger.ledger.facts import Kind
from crdtledger.ledger.genesis import NODE_ID_BYTES
from crdtledger.ledger.keytable import KeyTable
from crdtledger.ledger.lanerights import Rows, Totals
from crdtledger.ledger.seenids import SeenIds
from crdtledger.ledger.settledparts import Reserved
from crdtledger.ledger.wide import add_into, sum_by

_NO_ROWS: Rows = np.empty(0, np.int64)


class ReserveChange(NamedTuple):
    """What a batch does to the lane's reserves. Posts may name reserves made by the batch itself: ordinals from the lane's size on.

    ``made_words``: id as text, and when it ends. ``released``: what voids set free, by cell; ``taken``: what posts take out of
    reserves, by cell; ``incoming``: where it goes.
    """

    made: Keys
    made_cells: npt.NDArray[np.int64]
    made_amounts: npt.NDArray[np.int64]
    made_words: list[tuple[str, int]]
    voided: Rows
    posted: dict[int, int]
    released: Totals
    taken: Totals
    incoming: Totals


class LaneReserves:
    """The reserves of ``lane``. ``used``: the settled ids of its node."""

    def __init__(self, lane: bytes, catalog: Catalog, used: SeenIds | None, salt: int) -> None:
        self._lane = lane
        self._catalog = catalog
        self._base = catalog.base
        self._used = used
        self._salt = salt
        self._table = KeyTable(salt)
        self._cells: list[int] = []
        self._remaining: list[int] = []
        self._words: list[tuple[str, int]] = []

    def get(self, keys: Keys) -> tuple[int, int] | None:
        """(cell, remaining) of one reserve, or None."""
        self._take_in(keys)
        ordinal = int(self._table.find(*keys)[0])
        return None if ordinal < 0 else (self._cells[ordinal], self._remaining[ordinal])

    def after(self) -> dict[tuple[int, int], Reserved] | None:
        """Every open reserve of the lane by its key; None where unsettled batches touch none."""
        if not len(self._table):
            return None
        held = dict(self._base.reserves.get(self._lane, {}))
        high, low = self._table.keys(0, len(self._table))
        for ordinal, key in enumerate(zip(high.tolist(), low.tolist(), strict=True)):
            account, asset = self._catalog.cell_name(self._cells[ordinal])
            held[key] = Reserved(account, asset, self._remaining[ordinal], *self._words[ordinal])
        return {key: reserve for key, reserve in held.items() if reserve.remaining}

    def judge(self, body: Body, binding: Binding, effective: Mapping[Kind, Rows]) -> tuple[ReserveChange, str]:
        """What the effective rows of a body would do, and why they cannot, or nothing. Changes nothing."""
        change = ReserveChange(
            (np.empty(0, np.uint64), np.empty(0, np.uint64)), _NO_ROWS, _NO_ROWS, [], _NO_ROWS, {}, {}, {}, {}
        )
        rows = effective.get(Kind.VOID, _NO_ROWS)
        if len(rows):
            keys = self._named(body, Kind.VOID, rows)
            found = self._table.find(*keys)
            gone = found < 0
            if gone.any() and not self._drained((keys[0][gone], keys[1][gone])):
                return change, "voids a reserve that its lane does not hold"
            change = change._replace(voided=np.unique(found[~gone]))
            for ordinal in change.voided.tolist():
                add_into(change.released, {self._cells[ordinal]: self._remaining[ordinal]})
        rows = effective.get(Kind.RESERVE, _NO_ROWS)
        if len(rows):
            high, low = reserve_keys(body, Kind.RESERVE)
            table = body.tables[Kind.RESERVE][rows]
            names = [str(fact_id(body, Kind.RESERVE, row)) for row in rows.tolist()]
            change = change._replace(
                made=(high[rows], low[rows]),
                made_cells=self._catalog.cells(binding, table),
                made_amounts=table["amount"].astype(np.int64),
                made_words=list(zip(names, table["expires_us"].tolist(), strict=True)),
            )
        rows = effective.get(Kind.POST, _NO_ROWS)
        return change, self._post(body, binding, rows, change) if len(rows) else ""

    def _post(self, body: Body, binding: Binding, rows: Rows, change: ReserveChange) -> str:
        """Enter the batch's posts into ``change``; why they cannot be, or nothing."""
        keys = self._named(body, Kind.POST, rows)
        held = len(self._remaining)
        fresh = KeyTable(self._salt)
        fresh.insert(*change.made)
        ordinals, new = self._table.find(*keys), fresh.find(*keys)
        ordinals = np.where((ordinals < 0) & (new >= 0), new + held, ordinals)
        if (ordinals < 0).any():
            return "posts a reserve that its lane does not hold"
        table = body.tables[Kind.POST][rows]
        change.posted.update(sum_by(ordinals, table["amount"]))
        left = {n: self._remaining[n] if n < held else int(change.made_amounts[n - held]) for n in change.posted}
        left |= dict.fromkeys(left.keys() & set(change.voided.tolist()), 0)
        if any(amount > left[ordinal] for ordinal, amount in change.posted.items()):
            return "posts more than is left of a reserve"
        cell = {n: self._cells[n] if n < held else int(change.made_cells[n - held]) for n in change.posted}
        cells = np.fromiter((cell[n] for n in ordinals.tolist()), np.int64, len(ordinals))
        add_into(change.taken, sum_by(cells, table["amount"]))
        assets = len(self._catalog.assets)
        credits = binding.accounts[table["credit"]] * assets + cells % assets
        add_into(change.incoming, sum_by(credits, table["amount"]))
        return ""

    def commit(self, change: ReserveChange) -> None:
        """Take in what a batch that counts does."""
        self._table.insert(*change.made)
        self._cells += change.made_cells.tolist()
        self._remaining += change.made_amounts.tolist()
        self._words += change.made_words
        for ordinal in change.voided.tolist():
            self._remaining[ordinal] = 0
        for ordinal, amount in change.posted.items():
            self._remaining[ordinal] -= amount

    # -- the base -------------------------------------------------------------------------------------------

    def _named(self, body: Body, kind: Kind, rows: Rows) -> Keys:
        """The reserves that voids or posts name, those of the base taken in."""
        high, low = reserve_keys(body, kind)
        self._take_in((high[rows], low[rows]))
        return high[rows], low[rows]

    def _take_in(self, keys: Keys) -> None:
        """Take in those of the reserves that the base holds open in this lane."""
        settled = self._base.reserves.get(self._lane)
        if not settled:
            return
        missing = np.flatnonzero(self._table.find(*keys) < 0)
        for high, low in sorted(set(zip(keys[0][missing].tolist(), keys[1][missing].tolist(), strict=True))):
            held = settled.get((high, low))
            if held is not None:
                self._table.insert(np.array([high], np.uint64), np.array([low], np.uint64))
                cell = self._catalog.account(held.account) * len(self._catalog.assets)
                self._cells.append(cell + self._catalog.asset(held.asset))
                self._remaining.append(held.remaining)
                self._words.append((held.id, held.expires_us))

    def _drained(self, keys: Keys) -> bool:
        """Whether each of these is a settled reserve of the lane's node that has nothing left."""
        if self._used is None or (self._used.find(keys) < 0).any():
            return False
        node = self._lane[:NODE_ID_BYTES]
        still = [held for other, held in self._base.reserves.items() if other.startswith(node)]
        named = list(zip(keys[0].tolist(), keys[1].tolist(), strict=True))
        return not any(key in held for key in named for held in still)
