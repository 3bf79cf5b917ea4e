"""A hash table of 128-bit keys, worked a whole column at a time.

Deduplication and cell look-up ask the same question of thousands of keys at once: which of these have been seen, and
under which number? The table answers with dense ordinals (0, 1, 2 ... in order of first sight), so callers keep their
payload in plain arrays beside it. Open addressing with triangular probing; every probe round is one pass over the
still undecided keys, and rounds are few at a load of at most one half.

A slot holds 32 bits of its key's hash, the mark, beside the ordinal, and a key's home is the top of its mark. So a key that was
never seen, which is what most are, costs the one line of memory that its slot is in: the keys are looked at only where marks are
equal. And growing reads the slots from one end to the other and writes them in the same order; no key is touched, nothing is hashed.

Slots are picked with a secret salt, so that a peer who chooses ids cannot choose collisions. The salt shows in nothing
but the order of slots: ordinals do not depend on it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crdtledger.ledger.growing import Growing

U64 = np.uint64
NONE = np.int64(-1)
WORD = (1 << 64) - 1
HALF = U64(32)
LOWER = (1 << 32) - 1
ORDINAL = U64(LOWER)
"""The half of a slot that holds the ordinal, plus one: 0 is a free slot."""
FEW = 8
"""Up to this many keys are looked up one by one."""
NEAR = 1 << 16
"""So many keys are put in at a time: the lines of memory that their slots are in stay in a cache meanwhile."""
STRETCH = 1 << 15
"""So many slots are moved at a time when the table grows: they, and what is computed of them, stay in a core's cache."""

Column = npt.NDArray[np.uint64]
Ordinals = npt.NDArray[np.int64]


class KeyTable:
    """128-bit keys, each with its ordinal. ``len`` is the number of distinct keys, below 2**32."""

    __slots__ = ("_keys", "_salt", "_shift", "_slots", "size")

    def __init__(self, salt: int = 0, capacity: int = 64) -> None:
        self._salt = U64(salt | 1)
        self.size = 0
        self._keys = Growing(np.uint64, 2)
        self._keys.reserve(capacity, 0)
        self._allocate(2 * capacity)

    def __len__(self) -> int:
        return self.size

    @property
    def nbytes(self) -> int:
        """Memory held by the table's arrays."""
        return self._keys.nbytes + self._slots.nbytes

    def keys(self, start: int, stop: int) -> tuple[Column, Column]:
        """The keys with ordinals ``start`` up to ``stop``, not to be written to, and not to be kept: they stand in the table's way."""
        return self._keys.items[start:stop, 0], self._keys.items[start:stop, 1]

    def _allocate(self, slots: int) -> None:
        bits = max(6, (slots - 1).bit_length())
        self._slots = np.zeros(1 << bits, np.uint64)
        self._shift = U64(32 - bits)

    def _marks(self, high: Column, low: Column) -> Column:
        """32 bits of each key's hash."""
        x = high ^ self._salt
        x *= U64(0x9E3779B97F4A7C15)
        x += low
        shifted = x >> U64(29)
        x ^= shifted
        x *= self._salt | U64(0xBF58476D1CE4E5B9)
        np.right_shift(x, HALF, out=shifted)
        x ^= shifted
        x &= ORDINAL
        return x

    def _homes(self, marks: Column) -> Ordinals:
        return (marks >> self._shift).view(np.int64)

    def holds(self, high: int, low: int) -> bool:
        """Whether one key was inserted."""
        return self._probe(high, low)[1] >= 0

    def find(self, high: Column, low: Column) -> Ordinals:
        """The ordinal of each key, -1 where it was never inserted."""
        if len(high) <= FEW:
            return np.array([self._probe(*key)[1] for key in zip(high.tolist(), low.tolist(), strict=True)], np.int64)
        return self._seek(high, low, self._marks(high, low))[1]

    def _seek(self, high: Column, low: Column, marks: Column) -> tuple[Ordinals, Ordinals]:
        """(slot, ordinal) of each key; the ordinal is -1 and the slot free where the key is not held."""
        mask = len(self._slots) - 1
        slot, ordinal = self._homes(marks), np.full(len(marks), NONE)
        held = self._slots[slot]
        undecided = held.nonzero()[0]
        held = held[undecided]
        step = 0
        while len(undecided):
            alike = (held >> HALF == marks[undecided]).nonzero()[0]
            if len(alike):
                rows, holders = undecided[alike], (held[alike] & ORDINAL).view(np.int64) - 1
                keys = self._keys.items[holders]
                same = (keys[:, 0] == high[rows]) & (keys[:, 1] == low[rows])
                ordinal[rows[same]] = holders[same]
                still = np.ones(len(undecided), np.bool_)
                still[alike[same]] = False
                undecided = undecided[still]
            step += 1
            slot[undecided] = at = (slot[undecided] + step) & mask
            held = self._slots[at]
            taken = held.nonzero()[0]
            undecided, held = undecided[taken], held[taken]
            if len(undecided) <= FEW:
                for row in undecided.tolist():
                    slot[row], ordinal[row] = self._probe(int(high[row]), int(low[row]))
                break
        return slot, ordinal

    def insert(self, high: Column, low: Column) -> tuple[Ordinals, npt.NDArray[np.bool_]]:
        """The ordinal of each key, and whether this row is the first ever to show it.

        Of equal keys within one call the first row counts as new.
        """
        if len(high) <= FEW:
            pairs = [self.number(*key) for key in zip(high.tolist(), low.tolist(), strict=True)]
            return np.array([n for n, _ in pairs], np.int64), np.array([fresh for _, fresh in pairs], np.bool_)
        self._reserve(len(high))
        if len(high) <= NEAR:
            return self._insert(high, low)
        parts = [self._insert(high[at : at + NEAR], low[at : at + NEAR]) for at in range(0, len(high), NEAR)]
        return np.concatenate([ordinal for ordinal, _ in parts]), np.concatenate([new for _, new in parts])

    # Columns are picked by the numbers of their rows (``take``), which takes numpy a fifth of what a mask does.

    def _insert(self, high: Column, low: Column) -> tuple[Ordinals, npt.NDArray[np.bool_]]:
        """``insert`` where there is room for all."""
        # Rows are numbered as if all were new, and no two equal.
        ordinal, new = np.arange(self.size, self.size + len(high)), np.ones(len(high), np.bool_)
        self._put(self.size, high, low)
        marks = self._marks(high, low)
        place, mask, step = self._homes(marks), len(self._slots) - 1, 0
        entries = (marks << HALF) + (ordinal + 1).view(np.uint64)
        held = self._claim(place, entries)
        rows = (held != entries).nonzero()[0]
        slot, mine, held = place.take(rows), entries.take(rows), held.take(rows)
        while len(rows):
            # Who finds a slot taken looks whether it is by the same key, and goes on to the next one if not.
            alike = (held ^ mine <= ORDINAL).nonzero()[0]
            if len(alike):
                again, holders = rows.take(alike), (held.take(alike) & ORDINAL).view(np.int64) - 1
                keys = self._keys.items.take(holders, axis=0)
                same = ((keys[:, 0] == high.take(again)) & (keys[:, 1] == low.take(again))).nonzero()[0]
                ordinal[again[same]], new[again[same]] = holders[same], False
                mine[alike[same]] = 0
                still = mine.nonzero()[0]
                rows, slot, mine = rows.take(still), slot.take(still), mine.take(still)
            step += 1
            slot = (slot + step) & mask
            held = self._claim(slot, mine)
            place[rows] = slot
            lost = (held != mine).nonzero()[0]
            rows, slot, mine, held = rows.take(lost), slot.take(lost), mine.take(lost), held.take(lost)
        if new.all():
            self.size += len(new)
        else:
            self._close_ranks(new, ordinal, place, entries, (high, low))
        return ordinal, new

    def _claim(self, slot: Ordinals, entries: Column) -> Column:
        """Put entries into those of the slots that are free; what each holds then. Of several that come to one the first stays."""
        held: Column = self._slots.take(slot)
        free = (held == 0).nonzero()[0][::-1]  # numpy keeps the last
        at = slot.take(free)
        self._slots[at] = entries.take(free)
        held[free] = self._slots.take(at)
        return held

    def _close_ranks(
        self,
        new: npt.NDArray[np.bool_],
        ordinal: Ordinals,
        place: Ordinals,
        entries: Column,
        keys: tuple[Column, Column],
    ) -> None:
        """Number the new rows densely, and with them the rows of this call that repeat one of them."""
        told = ~new
        gaps, again = np.cumsum(told), told.nonzero()[0]
        again = again[ordinal[again] >= self.size]
        ordinal[again] -= gaps[ordinal[again] - self.size]
        first = int(np.argmin(new))
        moved = new[first:].nonzero()[0] + first
        gaps = gaps.take(moved)
        ordinal[moved] -= gaps
        self._slots[place.take(moved)] = entries.take(moved) - gaps.view(np.uint64)
        self._put(self.size + first, keys[0].take(moved), keys[1].take(moved))
        self.size += first + len(moved)

    def _put(self, first: int, high: Column, low: Column) -> None:
        """Note keys under the ordinals from ``first`` on."""
        self._keys.items[first : first + len(high)].T[:] = high, low

    # A column costs some forty numpy calls however short it is; a few keys are cheaper one by one.

    def _probe(self, high: int, low: int) -> tuple[int, int]:
        """(slot, ordinal) of one key; the ordinal is -1 and the slot free where the key is not held."""
        mask = len(self._slots) - 1
        mark = self._mark(high, low)
        slot = mark >> self._shift.item()
        step = 0
        while True:
            entry = self._slots.item(slot)
            holder = (entry & LOWER) - 1
            if not entry or (entry >> 32 == mark and self._keys.items[holder].tolist() == [high, low]):
                return slot, holder
            step += 1
            slot = (slot + step) & mask

    def _mark(self, high: int, low: int) -> int:
        """``_marks`` for one key."""
        salt = self._salt.item()
        x = ((high ^ salt) * 0x9E3779B97F4A7C15 + low) & WORD
        x = ((x ^ (x >> 29)) * (salt | 0xBF58476D1CE4E5B9)) & WORD
        return (x ^ (x >> 32)) & LOWER

    def number(self, high: int, low: int) -> tuple[int, bool]:
        """``insert`` of one key."""
        self._reserve(1)
        slot, holder = self._probe(high, low)
        if holder >= 0:
            return holder, False
        ordinal = self.size
        self._slots[slot] = self._mark(high, low) << 32 | (ordinal + 1)
        self._keys.items[ordinal] = high, low
        self.size += 1
        return ordinal, True

    def _reserve(self, rows: int) -> None:
        need = self.size + rows
        if need > int(ORDINAL):
            raise OverflowError(f"{need} keys, and a table numbers at most {int(ORDINAL)}")
        self._keys.reserve(need, self.size)
        if 2 * need > len(self._slots):
            self._widen(2 * need)

    def _widen(self, slots: int) -> None:
        """Move every entry to a table of at least ``slots`` slots."""
        before = self._slots
        self._allocate(slots)
        mask = len(self._slots) - 1
        for start in range(0, len(before), STRETCH):
            entries = before[start : start + STRETCH]
            entries = entries[entries != 0]
            slot = self._homes(entries >> HALF)
            step = 0
            while len(entries):
                free = np.flatnonzero(self._slots[slot] == 0)
                self._slots[slot[free]] = entries[free]
                lost = np.flatnonzero(self._slots[slot] != entries)
                step += 1
                entries, slot = entries[lost], (slot[lost] + step) & mask
