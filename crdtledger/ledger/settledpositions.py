"""The settled positions, by (account, instrument's name): rows of bytes, of which successive heights share one table.

    before.found([("A", "BTCUSDT")])                            # positions, None where there is none
    after = before.replaced({("A", "BTCUSDT"): position, ...})  # None takes one away

A position is an object only while somebody looks at it, so whoever looks at many asks for many at once, or works on the rows themselves
(``packedpositions``: ``packed`` and ``rewritten``). Its pair of names has a number (``pairtable``), and its row stands there
(``sharedrows``, which says how versions stand to each other). A position that does not fit in its row is kept beside the rows.

A row that is taken away stays where it is and says that nothing is there: its pair keeps its number, as the ids of its fills stay taken.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, Self

import numpy as np

from crdtledger.ledger.keytable import Ordinals
from crdtledger.ledger.packedpositions import (
    NOTHING,
    ROW_BYTES,
    PackedPositions,
    is_there,
    records_of,
    stands_beside,
)
from crdtledger.ledger.pairtable import PairTable
from crdtledger.ledger.settledparts import SettledPosition
from crdtledger.ledger.sharedmap import Pair, SharedMap
from crdtledger.ledger.sharedrows import NO_ROWS, Records, SharedRows

CHUNK: Final = 512
"""So many positions are objects at a time when all are opened, or entered."""


class SettledPositions(Mapping[Pair, SettledPosition]):
    """The positions of one height. A value; iterating has no order."""

    __slots__ = ("_beside", "_pairs", "_rows", "_size")

    def __init__(self, salt: int = 0) -> None:
        """No position. ``salt``: places slots, and shows in nothing."""
        self._pairs = PairTable(salt)
        self._rows = SharedRows(ROW_BYTES)
        self._beside: SharedMap[int, SettledPosition] = SharedMap({})
        self._size = 0

    @classmethod
    def of(cls, entries: Iterable[tuple[Pair, SettledPosition]], salt: int = 0) -> Self:
        """These positions; of several under one pair the last."""
        held, rest = cls(salt), iter(entries)
        at, rows = [NO_ROWS], [records_of([])]
        beside: dict[int, SettledPosition | None] = {}
        while chunk := dict(islice(rest, CHUNK)):
            packed = PackedPositions.of(chunk)
            at.append(held._pairs.number(packed.pairs))
            rows.append(packed.records)
            for row, number in enumerate(at[-1].tolist() if beside or packed.beside else ()):
                if row in packed.beside or number in beside:
                    beside[number] = packed.beside.get(row)
        # All at once: rows that grow by and by have room for more than there are.
        held._rows = held._rows.replaced(np.concatenate(at), np.concatenate(rows), 0, NO_ROWS)
        held._beside = held._beside.replaced(beside)
        held._size = len(held._pairs)
        return held

    def replaced(self, changes: Mapping[Pair, SettledPosition | None]) -> Self:
        """The positions with every one of ``changes``, and without those for which it has None."""
        return self.rewritten(PackedPositions.of(changes))

    def rewritten(self, changes: PackedPositions) -> Self:
        """The positions with every one of ``changes``, and without those of which it says that there is none."""
        pairs, rows = self._pairs, self._rows
        if not self._size:  # of which there may be one for everybody: what comes now stands by itself
            pairs, rows = PairTable(pairs.salt), SharedRows(ROW_BYTES)
        there = changes.there
        if not there.all():  # who is to go and never was there gets no number
            known = there | (pairs.find(changes.pairs) >= 0)
            changes = changes if known.all() else changes.chosen(np.flatnonzero(known))
        if not len(changes.pairs):
            return self
        old = len(pairs)
        at = pairs.number(changes.pairs)
        fresh = np.arange(old, len(pairs))
        # So that older versions have no such row.
        rows = rows.replaced(fresh, _nothing(len(fresh)), 0, NO_ROWS)
        was = rows.take(at)
        later = type(self).__new__(type(self))
        later._pairs = pairs
        later._rows = rows.replaced(at, changes.records, 0, NO_ROWS)
        later._beside = self._beside.replaced(_beside(at, was, changes))
        later._size = self._size + int(is_there(changes.records).sum()) - int(is_there(was).sum())
        return later

    def found(self, pairs: Sequence[Pair]) -> list[SettledPosition | None]:
        """The position of each pair."""
        return self.packed(pairs).opened()

    def packed(self, pairs: Sequence[Pair]) -> PackedPositions:
        """The positions of these pairs."""
        return self._packed(pairs, self._pairs.find(pairs))

    def packed_since(self, earlier: Self, pairs: Sequence[Pair]) -> tuple[PackedPositions, PackedPositions]:
        """The positions of these pairs in an earlier version, and in this one."""
        if earlier._pairs is not self._pairs:
            return earlier.packed(pairs), self.packed(pairs)
        numbers = self._pairs.find(pairs)
        return earlier._packed(pairs, numbers), self._packed(pairs, numbers)

    def under(self, account: str) -> list[str]:
        """The instruments in which an account has a position."""
        numbers = self._pairs.under(account)
        return self._pairs.seconds(numbers[is_there(self._rows.take(numbers))])

    def _packed(self, pairs: Sequence[Pair], numbers: Ordinals) -> PackedPositions:
        held = np.flatnonzero(numbers >= 0)
        if len(held) == len(numbers):
            records = self._rows.take(numbers)
        else:
            records = _nothing(len(numbers))
            records[held] = self._rows.take(numbers[held])
        beside = np.flatnonzero(stands_beside(records))
        known = zip(beside.tolist(), numbers[beside].tolist(), strict=True)
        return PackedPositions(pairs, records, {row: self._beside[number] for row, number in known})

    def _chunks(self) -> Iterator[tuple[list[Pair], Ordinals]]:
        for start in range(0, len(self._pairs), CHUNK):
            numbers = np.arange(start, min(start + CHUNK, len(self._pairs)))
            yield self._pairs.pairs(start, start + len(numbers)), numbers

    def __getitem__(self, key: Pair) -> SettledPosition:
        (position,) = self.found([key])
        if position is None:
            raise KeyError(key)
        return position

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Pair]:
        for pairs, numbers in self._chunks():
            there = is_there(self._rows.take(numbers)).tolist()
            yield from (at for at, here in zip(pairs, there, strict=True) if here)

    def items(self) -> ItemsView[Pair, SettledPosition]:
        """Every pair with its position; those are opened chunk by chunk."""
        return _Items(self)

    def each(self) -> Iterator[tuple[Pair, SettledPosition]]:
        """The same."""
        for pairs, numbers in self._chunks():
            for at, position in self._packed(pairs, numbers).by_pair().items():
                if position is not None:
                    yield at, position


class _Items(ItemsView[Pair, SettledPosition]):
    __slots__ = ()
    _mapping: SettledPositions

    def __iter__(self) -> Iterator[tuple[Pair, SettledPosition]]:
        return self._mapping.each()


def _nothing(count: int) -> Records:
    return records_of([NOTHING]).repeat(count, axis=0)


def _beside(at: Ordinals, was: Records, changes: PackedPositions) -> dict[int, SettledPosition | None]:
    """What changes among the positions that are kept beside, by number."""
    touched = np.flatnonzero(stands_beside(changes.records) | stands_beside(was))
    return {number: changes.beside.get(row) for row, number in zip(touched.tolist(), at[touched].tolist(), strict=True)}
