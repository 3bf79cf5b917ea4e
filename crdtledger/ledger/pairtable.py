"""Numbers for pairs of names: 0, 1, 2 ... in order of first sight, looked up many at a time, and found by their first name too.

Each name is kept once, and a pair as a word of the numbers of its two names (``wordtable``). The pairs of one first name are chained, the
newest first. Nothing is ever taken away, so whoever keeps something in rows by these numbers may share one table between versions of it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from crdtledger.ledger.keytable import HALF, ORDINAL, Column, Ordinals
from crdtledger.ledger.sharedmap import Pair
from crdtledger.ledger.wordtable import WordTable


class _Names:
    """Texts by number, and numbers by text."""

    __slots__ = ("numbers", "texts")

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.texts: list[str] = []

    def find(self, texts: Iterable[str], count: int) -> Ordinals:
        """The number of each text; -1 where there is none, which is in no pair's word."""
        get = self.numbers.get
        return np.fromiter((get(text, -1) for text in texts), np.int64, count)

    def number(self, texts: Iterable[str], count: int) -> Ordinals:
        """The number of each text, which gets one where there is none."""
        numbers, known = self.numbers, self.texts
        for text in texts:
            if text not in numbers:
                numbers[text] = len(known)
                known.append(text)
        return self.find(texts, count)


class PairTable:
    """Pairs, each with its number; there are less than 2**31 names. ``salt``: places slots, and shows in nothing."""

    __slots__ = ("_before", "_firsts", "_newest", "_seconds", "_words", "salt")

    def __init__(self, salt: int = 0) -> None:
        self.salt = salt
        self._words = WordTable(salt)
        self._firsts, self._seconds = _Names(), _Names()
        # Of every first name its newest pair, and of every pair the one before it of the same first name: its number plus one, or 0.
        self._newest, self._before = array("I"), array("I")

    def __len__(self) -> int:
        return len(self._words)

    def find(self, pairs: Sequence[Pair]) -> Ordinals:
        """The number of each pair, -1 where it has none."""
        count = len(pairs)
        firsts, seconds = [first for first, _ in pairs], [second for _, second in pairs]
        return self._words.find(_words(self._firsts.find(firsts, count), self._seconds.find(seconds, count)))

    def number(self, pairs: Sequence[Pair]) -> Ordinals:
        """The number of each pair, which gets one where it has none."""
        count = len(pairs)
        firsts, seconds = [first for first, _ in pairs], [second for _, second in pairs]
        one, two = self._firsts.number(firsts, count), self._seconds.number(seconds, count)
        numbers, new = self._words.insert(_words(one, two))
        newest, before = self._newest, self._before
        newest.extend([0] * (len(self._firsts.texts) - len(newest)))
        for number, first in enumerate(one[new].tolist(), len(before) + 1):
            before.append(newest[first])
            newest[first] = number
        return numbers

    def pairs(self, start: int, stop: int) -> list[Pair]:
        """The pairs with numbers from ``start`` up to ``stop``."""
        firsts, seconds = self._firsts.texts, self._seconds.texts
        words = self._words.words(start, stop)
        numbers = zip((words >> HALF).tolist(), (words & ORDINAL).tolist(), strict=True)
        return [(firsts[one], seconds[two]) for one, two in numbers]

    def under(self, first: str) -> npt.NDArray[np.int64]:
        """The numbers of all pairs with this first name."""
        found: list[int] = []
        known = self._firsts.numbers.get(first)
        link = 0 if known is None else self._newest[known]
        while link:
            found.append(link - 1)
            link = self._before[link - 1]
        return np.array(found, np.int64)

    def seconds(self, numbers: Ordinals) -> list[str]:
        """The second names of the pairs with these numbers."""
        texts = self._seconds.texts
        return [texts[number] for number in (self._words.at(numbers) & ORDINAL).tolist()]


def _words(firsts: Ordinals, seconds: Ordinals) -> Column:
    return (firsts << 32 | seconds).view(np.uint64)
