"""Positions per (account, instrument): bought, sold, value bought, value sold, fees, fill count.

All of them are sums, so they do not depend on the order in which fills arrive. Each (account, instrument, side) is a cell
of wide columns (``wide``); a batch is folded by sorting its rows by cell and summing runs, whole columns at a time. What
depends on order (average entry, realised profit) is derived at checkpoints, in canonical order.

A fill under a definition that is not known yet, or that is not the one standing for its name, is *suspended*: kept,
named, not counted. It counts from the moment its definition stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from crdtledger.ledger.batch import Batch
from crdtledger.ledger.body import fact_keys
from crdtledger.ledger.catalog import NO_ASSET, UNKNOWN_ASSET, Binding, Catalog, Place
from crdtledger.ledger.dedupe import TERMS, FillIndex, Rows, Spot
from crdtledger.ledger.facts import NO_STRING, Kind
from crdtledger.ledger.keytable import KeyTable
from crdtledger.ledger.reference import fold_values, value_decimals, value_factor
from crdtledger.ledger.wide import LIMBS, from_int64, normalise, sum_by, to_int

QTY = slice(0, LIMBS)
VALUE = slice(LIMBS, 2 * LIMBS)
FEE = slice(2 * LIMBS, 3 * LIMBS)
COUNT = 3 * LIMBS
WIDTH = COUNT + 1

ACCOUNT, INSTRUMENT, SIDE, QUANTITY, PRICE, FEE_AMOUNT, FEE_ASSET = range(TERMS)


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the positions view. Integers in minor units: quantities at ``qty_decimals``, values at ``value_decimals``,
    fees at ``fee_decimals`` of the settlement asset; fees in other assets stand in ``other_fees`` as (asset, amount, its decimals)."""

    account: str
    instrument: str
    bought: int
    sold: int
    value_bought: int
    value_sold: int
    fees: int
    other_fees: tuple[tuple[str, int, int], ...]
    fills: int
    qty_decimals: int
    value_decimals: int
    fee_decimals: int

    @property
    def qty(self) -> int:
        """Bought less sold."""
        return self.bought - self.sold


class Suspended(NamedTuple):
    """Facts that wait for a definition: how many, under which name and digest, and why."""

    instrument: str
    digest: bytes
    facts: int
    reason: str


class Positions:
    """The fold of fills and busts of one view. ``batches`` and ``bindings`` are the view's, by local batch number."""

    def __init__(
        self, catalog: Catalog, batches: list[Batch], bindings: list[Binding], places: list[Place], salt: int
    ) -> None:
        self._catalog = catalog
        self._batches = batches
        self._bindings = bindings
        self._cells = KeyTable(salt)
        self._cell_keys: list[tuple[int, int, int]] = []
        self._sums = np.zeros((64, WIDTH), np.int64)
        self._other_fees: dict[tuple[int, int], dict[int, int]] = {}
        self._waiting: dict[int, list[tuple[Kind, int, Rows, int]]] = {}
        self._waiting_under: dict[bytes, list[int]] = {}
        self.out_of_range: dict[tuple[Kind, int, int], None] = {}
        self.indexes = {
            kind: FillIndex(salt, places, lambda batch, rows, kind=kind: self.terms(kind, batch, rows))  # type: ignore[misc]
            for kind in (Kind.FILL, Kind.BUST)
        }

    def terms(self, kind: Kind, batch: int, rows: Rows) -> npt.NDArray[np.int64]:
        """What is compared when an id repeats: shape (len(rows), TERMS)."""
        return fill_terms(self._batches[batch].body.tables[kind][rows], self._bindings[batch])

    def apply(self, number: int, kind: Kind, rows: Rows) -> None:
        """Take in rows of a batch's FILL or BUST table (those that its node may record)."""
        body = self._batches[number].body
        keys, terms = fact_keys(body, kind), fill_terms(body.tables[kind], self._bindings[number])
        if len(rows) == len(terms):
            taken = self.indexes[kind].take(number, keys, rows, terms)
        else:
            taken = self.indexes[kind].take(number, (keys[0][rows], keys[1][rows]), rows, terms[rows])
        sign = 1 if kind is Kind.FILL else -1
        self._add(kind, number, taken.counted, sign, terms[taken.counted])
        losers: dict[int, list[int]] = {}
        for spot in taken.withdrawn:
            losers.setdefault(spot.batch, []).append(spot.row)
        for batch, lost in losers.items():
            back = np.array(lost, np.int64)
            self._add(kind, batch, back, -sign, self.terms(kind, batch, back))

    def define(self, digest: bytes) -> None:
        """A definition became known: fold what waited for it."""
        for number in self._waiting_under.pop(digest, ()):
            if self._catalog.meaning(number) is None:
                self._waiting_under.setdefault(digest, []).append(number)  # the same definition, under another name
                continue
            for kind, batch, rows, sign in self._waiting.pop(number):
                self._add(kind, batch, rows, sign, self.terms(kind, batch, rows))

    def _add(self, kind: Kind, batch: int, rows: Rows, sign: int, terms: npt.NDArray[np.int64]) -> None:
        numbers = np.unique(terms[:, INSTRUMENT]).tolist()
        if len(numbers) == 1:  # the usual case, and no copies
            self._add_instrument(kind, batch, numbers[0], rows, terms, sign)
            return
        for number in numbers:
            mine = terms[:, INSTRUMENT] == number
            self._add_instrument(kind, batch, number, rows[mine], terms[mine], sign)

    def _add_instrument(
        self, kind: Kind, batch: int, number: int, rows: Rows, terms: npt.NDArray[np.int64], sign: int
    ) -> None:
        definition = self._catalog.meaning(number)
        if definition is None:
            if number not in self._waiting:
                self._waiting[number] = []
                self._waiting_under.setdefault(self._catalog.instrument_keys[number].digest, []).append(number)
            self._waiting[number].append((kind, batch, rows, sign))
            return
        values, valid = fold_values(definition, terms[:, QUANTITY], terms[:, PRICE], self._catalog.genesis)
        settlement = self._catalog.asset(definition.settlement)
        valid &= terms[:, FEE_ASSET] != UNKNOWN_ASSET
        if not valid.all():
            self._note_out_of_range(kind, batch, rows[~valid], sign)
            values, terms = values[valid], terms[valid]
            if not len(terms):
                return
        own_fee = (terms[:, FEE_ASSET] == NO_ASSET) | (terms[:, FEE_ASSET] == settlement)
        contribution = np.empty((len(terms), WIDTH), np.int64)
        contribution[:, QTY] = from_int64(terms[:, QUANTITY])
        contribution[:, VALUE] = values
        contribution[:, FEE] = from_int64(np.where(own_fee, terms[:, FEE_AMOUNT], 0))
        contribution[:, COUNT] = 1
        self._sum_cells(number, terms, contribution * sign)
        if not own_fee.all():
            self._sum_other_fees(number, terms[~own_fee], sign)

    def _sum_other_fees(self, number: int, terms: npt.NDArray[np.int64], sign: int) -> None:
        assets = len(self._catalog.assets)
        sums = sum_by(terms[:, ACCOUNT] * assets + terms[:, FEE_ASSET], terms[:, FEE_AMOUNT])
        for pair, fee in sums.items():
            fees = self._other_fees.setdefault((pair // assets, number), {})
            fees[pair % assets] = fees.get(pair % assets, 0) + sign * fee

    def _sum_cells(self, number: int, terms: npt.NDArray[np.int64], contribution: npt.NDArray[np.int64]) -> None:
        local = terms[:, ACCOUNT] * 2 + (terms[:, SIDE] < 0)
        order = np.argsort(local, kind="stable")
        distinct, starts = np.unique(local[order], return_index=True)
        sums = np.add.reduceat(contribution[order], starts, axis=0)
        cells, new = self._cells.insert(distinct.astype(np.uint64), np.full(len(distinct), number, np.uint64))
        self._cell_keys += [(cell >> 1, number, -1 if cell & 1 else 1) for cell in distinct[new].tolist()]
        if len(self._cells) > len(self._sums):
            grown = np.zeros((max(len(self._cells), 2 * len(self._sums)), WIDTH), np.int64)
            grown[: len(self._sums)] = self._sums
            self._sums = grown
        sums += self._sums[cells]
        for part in (QTY, VALUE, FEE):
            normalise(sums[:, part])
        self._sums[cells] = sums

    def _note_out_of_range(self, kind: Kind, batch: int, rows: Rows, sign: int) -> None:
        counted = 1 if kind is Kind.FILL else -1
        for row in rows.tolist():
            entry = (kind, batch, row)
            if sign == counted:
                self.out_of_range[entry] = None
            else:
                del self.out_of_range[entry]

    # -- reading --------------------------------------------------------------------------------------------

    @property
    def nbytes(self) -> int:
        """Memory held by cells and dedupe indexes."""
        return self._sums.nbytes + self._cells.nbytes + sum(index.nbytes for index in self.indexes.values())

    def rows(self) -> list[Position]:
        """Every position under a standing definition, sorted by account, then instrument."""
        sides: dict[tuple[int, int], dict[int, list[int]]] = {}
        table = self._sums[: len(self._cells)].tolist()
        for (account, number, side), sums in zip(self._cell_keys, table, strict=True):
            sides.setdefault((account, number), {})[side] = sums
        out = [
            position
            for (account, number), pair in sides.items()
            if (position := self._position(account, number, pair)) is not None
        ]
        return sorted(out, key=lambda position: (position.account, position.instrument))

    def _position(self, account: int, number: int, pair: dict[int, list[int]]) -> Position | None:
        catalog = self._catalog
        key, definition = catalog.instrument_keys[number], catalog.meaning(number)
        if definition is None or catalog.standing(key.name) != key.digest:
            return None
        nothing = [0] * WIDTH
        bought, sold = pair.get(1, nothing), pair.get(-1, nothing)
        fees = [
            (catalog.assets[asset], amount, catalog.genesis.assets[asset].decimals)
            for asset, amount in self._other_fees.get((account, number), {}).items()
            if amount
        ]
        if not any(bought) and not any(sold) and not fees:
            return None  # withdrawn altogether: as if it had never been
        factor = value_factor(definition)
        return Position(
            account=catalog.account_names[account],
            instrument=key.name,
            bought=to_int(bought[QTY]),
            sold=to_int(sold[QTY]),
            value_bought=to_int(bought[VALUE]) * factor,
            value_sold=to_int(sold[VALUE]) * factor,
            fees=to_int(bought[FEE]) + to_int(sold[FEE]),
            other_fees=tuple(sorted(fees)),
            fills=bought[COUNT] + sold[COUNT],
            qty_decimals=definition.qty_decimals,
            value_decimals=value_decimals(definition, catalog.genesis),
            fee_decimals=catalog.genesis.asset_decimals[definition.settlement],
        )

    def suspended(self) -> list[Suspended]:
        """Facts that wait for a definition or stand under one that lost its name, sorted."""
        catalog = self._catalog
        out = []
        for number, waiting in self._waiting.items():
            key = catalog.instrument_keys[number]
            facts = sum(
                len(rows) if (kind is Kind.FILL) == (sign > 0) else -len(rows) for kind, _, rows, sign in waiting
            )
            reason = (
                "no such definition" if key.digest not in catalog.definitions else "the definition has another name"
            )
            if facts:
                out.append(Suspended(key.name, key.digest, facts, reason))
        losing: dict[int, int] = {}
        for (_, number, _), count in zip(self._cell_keys, self._sums[: len(self._cells), COUNT].tolist(), strict=True):
            key = catalog.instrument_keys[number]
            if count and catalog.standing(key.name) != key.digest:
                losing[number] = losing.get(number, 0) + abs(count)
        for number, facts in losing.items():
            key = catalog.instrument_keys[number]
            out.append(Suspended(key.name, key.digest, facts, "another definition of this name stands"))
        return sorted(out)

    def counted(self) -> int:
        """How many distinct fills and busts have been seen."""
        return sum(len(index) for index in self.indexes.values())

    def mismatched_busts(self) -> Iterator[tuple[Spot, Spot]]:
        """Busts whose terms are not those of the fill they take back: (bust, fill)."""
        index = self.indexes[Kind.BUST]
        for number, batch in enumerate(self._batches):
            if Kind.BUST not in batch.body.tables:
                continue
            keys = fact_keys(batch.body, Kind.BUST)
            winners, fills = index.find(keys), self.indexes[Kind.FILL].find(keys)
            for row, (winner, fill) in enumerate(zip(winners, fills, strict=True)):
                if winner != Spot(number, row) or fill is None:
                    continue
                mine = self.terms(Kind.BUST, number, np.array([row]))
                if (mine != self.terms(Kind.FILL, fill.batch, np.array([fill.row]))).any():
                    yield winner, fill


def fill_terms(table: npt.NDArray[np.void], binding: Binding) -> npt.NDArray[np.int64]:
    """The terms matrix of rows of a FILL or BUST table, in local numbers."""
    terms = np.empty((len(table), TERMS), np.int64)
    terms[:, ACCOUNT] = binding.accounts[table["account"]]
    terms[:, INSTRUMENT] = binding.scopes[table["scope"]]
    terms[:, SIDE] = table["side"]
    terms[:, QUANTITY] = table["qty"]
    terms[:, PRICE] = table["price"]
    terms[:, FEE_AMOUNT] = table["fee"]
    named = table["fee_asset"] != NO_STRING
    terms[:, FEE_ASSET] = NO_ASSET
    terms[named, FEE_ASSET] = binding.assets[table["fee_asset"][named]]
    return terms
