"""A fact counts once, however often and wherever it is recorded.

``FillIndex`` remembers, for every fill (or bust) id seen, where its winner stands. Equal content under one id is a
duplicate. Other content under one id is a conflict: it counts once, the first in canonical order wins, and every variant
is kept with its first place, so that all replicas tell the same story. The outcome depends on the set of rows seen, never
on their order of arrival: a later arrival that stands earlier takes over.

Compared are the terms (account, instrument, side, quantity, price, fee), not the recorder's clock or the venue's.

This is about what is not settled. Ids that a base has settled are held against it before anything gets here (``positions``): the
settled statement stands, whatever its place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from crdtledger.ledger.catalog import Place
from crdtledger.ledger.factkeys import Keys
from crdtledger.ledger.keytable import KeyTable, Ordinals
from crdtledger.ledger.places import ByNumber

Rows = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

TERMS = 7
"""Columns of a terms matrix: account, instrument, side, qty, price, fee, fee asset (local numbers)."""


_NO_ROWS: Rows = np.empty(0, np.int64)


class Spot(NamedTuple):
    """A row of a batch, by the batch's local number."""

    batch: int
    row: int


class Moved(NamedTuple):
    """Winners that stand earlier now and say the same: from ``rows_before`` of ``before`` to ``rows`` of this batch, in pairs."""

    before: int
    rows_before: Rows
    rows: Rows


class Taken(NamedTuple):
    """What a column of fills changed: rows of this batch that now count, spots that no longer do, and those that only moved.

    ``repeated``, ``contradicted``: rows that found their id taken, with the same terms or with others. Which rows these are depends
    on the order of arrival, so they mean something to a view that is given its batches in canonical order, and only there.
    """

    counted: Rows
    withdrawn: list[Spot]
    moved: list[Moved]
    repeated: Rows
    contradicted: Rows


class FillIndex:
    """Winners by id. ``places[n]`` is the place of the batch with local number n; ``terms(batch, rows)`` its terms matrix."""

    def __init__(self, salt: int, places: ByNumber[Place], terms: Callable[[int, Rows], npt.NDArray[np.int64]]) -> None:
        self._table = KeyTable(salt)
        self._batch = np.empty(64, np.uint32)
        self._row = np.empty(64, np.uint16)
        self._places = places
        self._terms = terms
        self.variants: dict[int, dict[bytes, tuple[Place, int]]] = {}
        """Ids in conflict: for each of their terms, the first place (and row) that states them. Terms are kept as bytes (see
        ``terms_of``): Python hashes numbers without a secret, so whoever chooses terms could choose collisions."""
        self.conflict_keys: dict[int, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._table)

    @property
    def nbytes(self) -> int:
        """Memory held by the index's arrays."""
        return self._table.nbytes + self._batch.nbytes + self._row.nbytes

    def known(self, keys: Keys, terms: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which facts would change nothing: their id is known with exactly these terms."""
        found = self._table.find(*keys)
        known = np.zeros(len(found), np.bool_)
        seen = np.flatnonzero(found >= 0)
        for batch in np.unique(self._batch[found[seen]]).tolist():
            rows = seen[self._batch[found[seen]] == batch]
            winners = self._terms(batch, self._row[found[rows]].astype(np.int64))
            known[rows] = (winners == terms[rows]).all(axis=1)
        for row in seen[~known[seen]].tolist():
            known[row] = terms[row].tobytes() in self.variants.get(int(found[row]), {})
        return known

    def holds(self, keys: Keys) -> npt.NDArray[np.bool_]:
        """Which of these ids were taken in."""
        return self._table.find(*keys) >= 0

    def spot(self, ordinal: int) -> Spot:
        """Where the winner of an id stands, by the id's ordinal."""
        return Spot(int(self._batch[ordinal]), int(self._row[ordinal]))

    def winners(self) -> tuple[Keys, npt.NDArray[np.int64], Rows]:
        """Every id in the order of first sight, and the batch number and row of its winner."""
        size = len(self._table)
        return self._table.keys(0, size), self._batch[:size].astype(np.int64), self._row[:size].astype(np.int64)

    def find(self, keys: Keys) -> list[Spot | None]:
        """Where the winner of each key stands."""
        return [self.spot(n) if n >= 0 else None for n in self._table.find(*keys).tolist()]

    def holds_one(self, high: int, low: int) -> bool:
        """Whether one id, in its halves, was taken in."""
        return self._table.holds(high, low)

    def take(self, batch: int, keys: Keys, rows: Rows) -> Taken:
        """Take in the given rows of a batch; ``keys`` are aligned with ``rows``."""
        ordinals, new = self._enter(batch, keys, rows)
        if new.all():
            return Taken(rows, [], [], _NO_ROWS, _NO_ROWS)
        again = np.flatnonzero(~new)
        told = self._told_again(batch, (keys[0][again], keys[1][again]), rows[again], ordinals[again])
        return told._replace(counted=np.concatenate((rows[new], told.counted)))

    def take_all(self, batches: Rows, keys: Keys, rows: Rows) -> tuple[Flags, dict[int, Taken]]:
        """``take`` of rows of several batches, one after the other; ``batches`` says of which each is. Which of all these rows count
        because their ids were not known; and, by batch, what the others changed."""
        ordinals, new = self._enter(batches, keys, rows)
        again = np.flatnonzero(~new)
        taken: dict[int, Taken] = {}
        for batch in np.unique(batches[again]).tolist():  # in their order, as if each had come by itself
            mine = again[batches[again] == batch]
            taken[batch] = self._told_again(batch, (keys[0][mine], keys[1][mine]), rows[mine], ordinals[mine])
        return new, taken

    def _enter(self, batch: int | Rows, keys: Keys, rows: Rows) -> tuple[Ordinals, Flags]:
        """The ordinal of each key, and which of them are new: those are won by their rows."""
        ordinals, new = self._table.insert(*keys)
        self._grow()
        fresh = new.nonzero()[0]
        first = len(self._table) - len(fresh)
        self._batch[first : len(self._table)] = batch if isinstance(batch, int) else batch.take(fresh)
        self._row[first : len(self._table)] = rows.take(fresh)
        return ordinals, new

    def _told_again(self, batch: int, keys: Keys, rows: Rows, ordinals: Ordinals) -> Taken:
        """What rows change whose ids were taken in before, or by other rows of their batch."""
        counted: list[Rows] = [_NO_ROWS]
        withdrawn: list[Spot] = []
        moved: list[Moved] = []
        contradicted = np.zeros(len(rows), np.bool_)
        holders = self._batch[ordinals]
        for holder in np.unique(holders).tolist():
            mine = np.flatnonzero(holders == holder)
            winners = self._row[ordinals[mine]].astype(np.int64)
            terms = self._terms(batch, rows[mine])
            differs = (self._terms(holder, winners) != terms).any(axis=1)
            contradicted[mine] = differs
            contested = np.zeros(len(mine), np.bool_)
            if self.variants:
                contested[:] = [number in self.variants for number in ordinals[mine].tolist()]
            if self._places[batch] < self._places[holder]:  # same terms, but this statement stands earlier
                same = np.flatnonzero(~differs & ~contested)
                same = same[np.unique(ordinals[mine[same]], return_index=True)[1]]  # an id twice in this batch: once
                taking = mine[same]
                self._batch[ordinals[taking]] = batch
                self._row[ordinals[taking]] = rows[taking]
                moved.append(Moved(holder, winners[same], rows[taking]))
            for at in np.flatnonzero(differs | contested).tolist():
                index = int(mine[at])
                key = (int(keys[0][index]), int(keys[1][index]))
                loser = self._contest(int(ordinals[index]), key, Spot(batch, int(rows[index])), terms[at])
                if loser is not None:
                    counted.append(rows[index : index + 1])
                    withdrawn.append(loser)
        return Taken(np.concatenate(counted), withdrawn, moved, rows[~contradicted], rows[contradicted])

    def _contest(self, ordinal: int, key: tuple[int, int], spot: Spot, terms: npt.NDArray[np.int64]) -> Spot | None:
        """Enter one more statement about a contested id. The spot that lost its place to it, if it wins."""
        winner = self.spot(ordinal)
        variants = self.variants.get(ordinal)
        if variants is None:
            first = self._terms(winner.batch, np.array([winner.row]))[0].tobytes()
            variants = self.variants[ordinal] = {first: (self._places[winner.batch], winner.row)}
            self.conflict_keys[ordinal] = key
        stated = terms.tobytes()
        at = (self._places[spot.batch], spot.row)
        variants[stated] = min(variants.get(stated, at), at)
        if at >= (self._places[winner.batch], winner.row):
            return None
        self._batch[ordinal], self._row[ordinal] = spot
        return winner

    def _grow(self) -> None:
        if len(self._table) > len(self._batch):
            for name in ("_batch", "_row"):
                old = getattr(self, name)
                grown = np.empty(max(len(self._table), 2 * len(old)), old.dtype)
                grown[: len(old)] = old
                setattr(self, name, grown)


def terms_of(stated: bytes) -> tuple[int, ...]:
    """The terms that a key of ``FillIndex.variants`` states."""
    return tuple(np.frombuffer(stated, np.int64).tolist())
