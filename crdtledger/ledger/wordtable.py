"""A hash table of 64-bit words, worked a whole column at a time, that is small: a word takes its 8 bytes and 5 to 9 of slots.

It answers what ``keytable`` answers, with dense ordinals (0, 1, 2 ... in order of first sight), for what is kept long and looked up by the
thousand, not by the million: a slot is an ordinal and nothing else, and up to seven eighths of the slots are taken. So whatever stands in a
slot has its word looked at, keys are probed in more rounds, and growing hashes every word anew.

Slots are picked with a secret salt, which shows in nothing but their order, and by triangular probing: as in ``keytable``.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from crdtledger.ledger.growing import Growing
from crdtledger.ledger.keytable import FEW, HALF, ORDINAL, STRETCH, WORD, Column, Ordinals

_LEAST: Final = 64
_MIXER, _MORE = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9


class WordTable:
    """Words, each with its ordinal. ``len`` is the number of distinct words, below 2**32."""

    __slots__ = ("_salt", "_size", "_slots", "_words")

    def __init__(self, salt: int = 0) -> None:
        """No words."""
        self._salt = salt & WORD | 1
        self._size = 0
        self._words = Growing(np.uint64)
        self._slots = np.zeros(_LEAST, np.uint32)  # an ordinal plus one; 0 is free

    def __len__(self) -> int:
        return self._size

    def words(self, start: int, stop: int) -> Column:
        """The words with ordinals from ``start`` up to ``stop``, copied."""
        return self._words.items[start : min(stop, self._size)].copy()

    def at(self, ordinals: Ordinals) -> Column:
        """The words with these ordinals, which are held."""
        return self._words.items[ordinals]

    def find(self, words: Column) -> Ordinals:
        """The ordinal of each word, -1 where it was never inserted."""
        if len(words) <= FEW:
            return np.array([self._probe(word) for word in words.tolist()], np.int64)
        ordinal = np.full(len(words), -1)
        undecided, slot, step = np.arange(len(words)), self._homes(words), 0
        while len(undecided) > FEW:
            holder = self._slots[slot].astype(np.int64) - 1
            taken = (holder >= 0).nonzero()[0]
            undecided, slot, holder = undecided[taken], slot[taken], holder[taken]
            same = self._words.items[holder] == words[undecided]
            ordinal[undecided[same]] = holder[same]
            step += 1
            undecided, slot = undecided[~same], self._after(slot[~same], step)
        for row in undecided.tolist():
            ordinal[row] = self._probe(int(words[row]))
        return ordinal

    def insert(self, words: Column) -> tuple[Ordinals, npt.NDArray[np.bool_]]:
        """The ordinal of each word, and whether this row is the first ever to show it."""
        ordinal, new = self.find(words), np.zeros(len(words), np.bool_)
        missing = (ordinal < 0).nonzero()[0]
        if len(missing):
            told = words[missing]
            ordered = np.sort(told)
            if (ordered[1:] != ordered[:-1]).all():  # as whoever has them in a dict tells them
                ordinal[missing], new[missing] = np.arange(self._size, self._size + len(told)), True
            else:
                _, first, which = np.unique(told, return_index=True, return_inverse=True)
                numbers = np.empty(len(first), np.int64)
                numbers[np.argsort(first)] = np.arange(self._size, self._size + len(first))
                ordinal[missing], new[missing[first]] = numbers[which], True
            self._append(words[new])
        return ordinal, new

    def _append(self, words: Column) -> None:
        """Enter words that are not held, each once."""
        start, size = self._size, self._size + len(words)
        if size > int(ORDINAL):
            raise OverflowError(f"{size} words, and a table numbers at most {int(ORDINAL)}")
        self._words.reserve(size, start)
        self._words.items[start:size] = words
        self._size = size
        if 8 * size > 7 * len(self._slots):
            self._slots = np.zeros(1 << (8 * size // 7).bit_length(), np.uint32)
            start = 0
        for begin in range(start, size, STRETCH):
            self._place(begin, min(begin + STRETCH, size))

    def _place(self, start: int, stop: int) -> None:
        """Have free slots hold these ordinals."""
        slots, slot, step = self._slots, self._homes(self._words.items[start:stop]), 0
        entries = np.arange(start + 1, stop + 1, dtype=np.uint32)
        while len(entries):
            free = (slots[slot] == 0).nonzero()[0]
            slots[slot[free]] = entries[free]
            lost = (slots[slot] != entries).nonzero()[0]
            step += 1
            entries, slot = entries[lost], self._after(slot[lost], step)

    def _after(self, slot: Ordinals, step: int) -> Ordinals:
        return (slot + step) & (len(self._slots) - 1)

    def _homes(self, words: Column) -> Ordinals:
        salt = np.uint64(self._salt)
        x = (words ^ salt) * np.uint64(_MIXER)
        x = (x ^ (x >> np.uint64(29))) * (salt | np.uint64(_MORE))
        return ((x >> HALF) & np.uint64(len(self._slots) - 1)).view(np.int64)

    # As in ``keytable``: a few are cheaper one by one.

    def _probe(self, word: int) -> int:
        """The ordinal of one word, -1 where it is not held."""
        mask, step = len(self._slots) - 1, 0
        slot = self._home(word)
        while (holder := int(self._slots[slot]) - 1) >= 0 and int(self._words.items[holder]) != word:
            step += 1
            slot = (slot + step) & mask
        return holder

    def _home(self, word: int) -> int:
        """``_homes`` for one word."""
        x = (word ^ self._salt) * _MIXER & WORD
        x = (x ^ (x >> 29)) * (self._salt | _MORE) & WORD
        return x >> int(HALF) & (len(self._slots) - 1)
