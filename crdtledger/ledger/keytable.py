"""A hash table of 128-bit keys, worked a whole column at a time.

Deduplication and cell look-up ask the same question of thousands of keys at once: which of these have been seen, and
under which number? The table answers with dense ordinals (0, 1, 2 ... in order of first sight), so callers keep their
payload in plain arrays beside it. Open addressing with triangular probing; every probe round is one pass over the
still undecided keys, and rounds are few at a load of at most one half.

Slots are picked with a secret salt, so that a peer who chooses ids cannot choose collisions. The salt shows in nothing
but the order of slots: ordinals do not depend on it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

U64 = np.uint64
EMPTY = np.int64(-1)
WORD = (1 << 64) - 1
FEW = 8
"""Up to this many keys are looked up one by one."""

Column = npt.NDArray[np.uint64]
Ordinals = npt.NDArray[np.int64]


class KeyTable:
    """128-bit keys, each with its ordinal. ``len`` is the number of distinct keys."""

    __slots__ = ("_high", "_low", "_mask", "_salt", "_slots", "size")

    def __init__(self, salt: int = 0, capacity: int = 64) -> None:
        self._salt = U64(salt | 1)
        self.size = 0
        self._high = np.empty(capacity, np.uint64)
        self._low = np.empty(capacity, np.uint64)
        self._allocate(2 * capacity)

    def __len__(self) -> int:
        return self.size

    @property
    def nbytes(self) -> int:
        """Memory held by the table's arrays."""
        return self._high.nbytes + self._low.nbytes + self._slots.nbytes

    def keys(self, start: int, stop: int) -> tuple[Column, Column]:
        """The keys with ordinals ``start`` up to ``stop``, not to be written to."""
        return self._high[start:stop], self._low[start:stop]

    def _allocate(self, slots: int) -> None:
        slots = 1 << max(6, (slots - 1).bit_length())
        self._slots = np.full(slots, EMPTY, np.int64)
        self._mask = U64(slots - 1)

    def _home(self, high: Column, low: Column) -> Column:
        x = (high ^ self._salt) * U64(0x9E3779B97F4A7C15) + low
        x = (x ^ (x >> U64(29))) * (self._salt | U64(0xBF58476D1CE4E5B9))
        home: Column = (x ^ (x >> U64(32))) & self._mask
        return home

    def find(self, high: Column, low: Column) -> Ordinals:
        """The ordinal of each key, -1 where it was never inserted."""
        if len(high) <= FEW:
            return np.array([self._find_one(*key) for key in zip(high.tolist(), low.tolist(), strict=True)], np.int64)
        found = np.full(len(high), EMPTY, np.int64)
        slot = self._home(high, low)
        undecided = np.arange(len(high))
        step = U64(0)
        while len(undecided):
            holder = self._slots[slot[undecided]]
            undecided, holder = undecided[holder >= 0], holder[holder >= 0]
            same = (self._high[holder] == high[undecided]) & (self._low[holder] == low[undecided])
            found[undecided[same]] = holder[same]
            undecided = undecided[~same]
            step += U64(1)
            slot[undecided] = (slot[undecided] + step) & self._mask
        return found

    def insert(self, high: Column, low: Column) -> tuple[Ordinals, npt.NDArray[np.bool_]]:
        """The ordinal of each key, and whether this row is the first ever to show it.

        Of equal keys within one call the first row counts as new.
        """
        rows = len(high)
        self._reserve(rows)
        if rows <= FEW:
            pairs = [self._insert_one(*key) for key in zip(high.tolist(), low.tolist(), strict=True)]
            return np.array([n for n, _ in pairs], np.int64), np.array([fresh for _, fresh in pairs], np.bool_)
        first_free = self.size
        ordinal = np.full(rows, EMPTY, np.int64)
        new = np.zeros(rows, np.bool_)
        slot = self._home(high, low)
        undecided = np.arange(rows)
        # Rows that claim a free slot hold it under a provisional number (row + first_free) until all are placed.
        step = U64(0)
        while len(undecided):
            at = slot[undecided]
            holder = self._slots[at]
            free = holder < 0
            if free.any():
                claimants = undecided[free][::-1]  # reversed: of several claims on one slot, numpy keeps the last
                self._slots[slot[claimants]] = claimants + first_free
                self._high_low_put(claimants, high, low, first_free)
                holder = self._slots[at]
                winners = free & (holder == undecided + first_free)
                new[undecided[winners]] = True
            same = (self._high[holder] == high[undecided]) & (self._low[holder] == low[undecided])
            ordinal[undecided[same]] = holder[same]
            undecided = undecided[~same]
            step += U64(1)
            slot[undecided] = (slot[undecided] + step) & self._mask
        return self._settle(ordinal, new, high, low, first_free), new

    # A column costs some forty numpy calls however short it is; a few keys are cheaper one by one.

    def _probe(self, high: int, low: int) -> tuple[int, int]:
        """(slot, ordinal) of one key; the ordinal is -1 and the slot free where the key is not held."""
        mask = len(self._slots) - 1
        slot = self._home_one(high, low)
        step = 0
        while True:
            holder = int(self._slots[slot])
            if holder < 0 or (self._high[holder] == high and self._low[holder] == low):
                return slot, holder
            step += 1
            slot = (slot + step) & mask

    def _home_one(self, high: int, low: int) -> int:
        """``_home`` for one key."""
        salt = int(self._salt)
        x = ((high ^ salt) * 0x9E3779B97F4A7C15 + low) & WORD
        x = ((x ^ (x >> 29)) * (salt | 0xBF58476D1CE4E5B9)) & WORD
        return (x ^ (x >> 32)) & (len(self._slots) - 1)

    def _find_one(self, high: int, low: int) -> int:
        return self._probe(high, low)[1]

    def _insert_one(self, high: int, low: int) -> tuple[int, bool]:
        slot, holder = self._probe(high, low)
        if holder >= 0:
            return holder, False
        ordinal = self.size
        self._slots[slot] = ordinal
        self._high[ordinal], self._low[ordinal] = high, low
        self.size += 1
        return ordinal, True

    def _high_low_put(self, rows: Ordinals, high: Column, low: Column, first_free: int) -> None:
        self._high[rows + first_free] = high[rows]
        self._low[rows + first_free] = low[rows]

    def _settle(
        self, ordinal: Ordinals, new: npt.NDArray[np.bool_], high: Column, low: Column, first_free: int
    ) -> Ordinals:
        """Replace provisional numbers by dense ordinals, in row order, in the result and in the slots."""
        fresh = np.flatnonzero(new)
        dense = np.full(len(new), EMPTY, np.int64)
        dense[fresh] = first_free + np.arange(len(fresh))
        if len(fresh) and fresh[-1] != len(fresh) - 1:
            slots = self._slots_of(fresh + first_free, high[fresh], low[fresh])
            self._slots[slots] = dense[fresh]
            self._high[dense[fresh]] = high[fresh]
            self._low[dense[fresh]] = low[fresh]
        self.size += len(fresh)
        provisional = ordinal >= first_free
        ordinal[provisional] = dense[ordinal[provisional] - first_free]
        return ordinal

    def _slots_of(self, numbers: Ordinals, high: Column, low: Column) -> Column:
        """The slot that holds each of ``numbers``, which are all present."""
        slot = self._home(high, low)
        undecided = np.arange(len(numbers))
        step = U64(0)
        while len(undecided):
            undecided = undecided[self._slots[slot[undecided]] != numbers[undecided]]
            step += U64(1)
            slot[undecided] = (slot[undecided] + step) & self._mask
        return slot

    def _reserve(self, rows: int) -> None:
        need = self.size + rows
        if need > len(self._high):
            capacity = max(need, 2 * len(self._high))
            for name in ("_high", "_low"):
                grown = np.empty(capacity, np.uint64)
                grown[: self.size] = getattr(self, name)[: self.size]
                setattr(self, name, grown)
        if 2 * need > len(self._slots):
            self._allocate(4 * need)
            self._rehash()

    def _rehash(self) -> None:
        high, low = self._high[: self.size], self._low[: self.size]
        slot = self._home(high, low)
        undecided = np.arange(self.size)
        step = U64(0)
        while len(undecided):
            free = undecided[self._slots[slot[undecided]] < 0]
            self._slots[slot[free]] = free
            undecided = undecided[self._slots[slot[undecided]] != undecided]
            step += U64(1)
            slot[undecided] = (slot[undecided] + step) & self._mask
