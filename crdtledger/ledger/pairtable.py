"""Numbers for pairs of names: 0, 1, 2 ... in order of first sight, looked up many at a time, and found by their first name too.

Each name is kept once, and a pair as the numbers of its two names (``keytable``). The pairs of one first name are chained, the newest
first. Nothing is ever taken away, so whoever keeps something in rows by these numbers may share one table between versions of it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from crdtledger.ledger.keytable import Column, KeyTable, Ordinals
from crdtledger.ledger.sharedmap import Pair


class _Names:
    """Texts by number, and numbers by text."""

    __slots__ = ("numbers", "texts")

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.texts: list[str] = []

    def find(self, texts: Iterable[str], count: int) -> Column:
        """The number of each text; what no pair has in it where there is none."""
        get = self.numbers.get
        return np.fromiter((get(text, -1) for text in texts), np.int64, count).view(np.uint64)

    def number(self, texts: Iterable[str], count: int) -> Column:
        """The number of each text, which gets one where there is none."""
        numbers, known = self.numbers, self.texts
        for text in texts:
            if text not in numbers:
                numbers[text] = len(known)
                known.append(text)
        return self.find(texts, count)


class PairTable:
    """Pairs, each with its number. ``salt``: places slots, and shows in nothing (``keytable``)."""

    __slots__ = ("_before", "_firsts", "_keys", "_newest", "_seconds", "salt")

    def __init__(self, salt: int = 0) -> None:
        self.salt = salt
        self._keys = KeyTable(salt, half=np.uint32)  # there are no more names than pairs
        self._firsts, self._seconds = _Names(), _Names()
        # Of every first name its newest pair, and of every pair the one before it of the same first name: its number plus one, or 0.
        self._newest, self._before = array("I"), array("I")

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, pairs: Sequence[Pair]) -> Ordinals:
        """The number of each pair, -1 where it has none."""
        count = len(pairs)
        firsts, seconds = [first for first, _ in pairs], [second for _, second in pairs]
        return self._keys.find(self._firsts.find(firsts, count), self._seconds.find(seconds, count))

    def number(self, pairs: Sequence[Pair]) -> Ordinals:
        """The number of each pair, which gets one where it has none."""
        count = len(pairs)
        firsts, seconds = [first for first, _ in pairs], [second for _, second in pairs]
        high, low = self._firsts.number(firsts, count), self._seconds.number(seconds, count)
        numbers, new = self._keys.insert(high, low)
        newest, before = self._newest, self._before
        newest.extend([0] * (len(self._firsts.texts) - len(newest)))
        for number, first in enumerate(high[new].tolist(), len(before) + 1):
            before.append(newest[first])
            newest[first] = number
        return numbers

    def pairs(self, start: int, stop: int) -> list[Pair]:
        """The pairs with numbers from ``start`` up to ``stop``."""
        firsts, seconds = self._firsts.texts, self._seconds.texts
        high, low = self._keys.keys(start, stop)
        return [(firsts[one], seconds[two]) for one, two in zip(high.tolist(), low.tolist(), strict=True)]

    def under(self, first: str) -> npt.NDArray[np.int64]:
        """The numbers of all pairs with this first name."""
        found: list[int] = []
        known = self._firsts.numbers.get(first)
        link = 0 if known is None else self._newest[known]
        while link:
            found.append(link - 1)
            link = self._before[link - 1]
        return np.array(found, np.int64)

    def second(self, number: int) -> str:
        """The second name of the pair with this number."""
        return self.pairs(number, number + 1)[0][1]
