"""The settled positions, by (account, instrument's name): rows of bytes, of which successive heights share one table.

    before.found([("A", "BTCUSDT")])                            # positions, None where there is none
    after = before.replaced({("A", "BTCUSDT"): position, ...})  # None takes one away

A position is an object only while somebody looks at it, so whoever looks at many asks for many at once. Its pair of names has a number
(``pairtable``), and its row of ``ROW_BYTES`` stands there (``sharedrows``, which says how versions stand to each other). Nothing wraps:
a position whose figures do not fit, or that has fees in other assets, is kept beside the rows as it is, and its row says so. Figures that
are values have 80 bits, since their decimals are the price's and the quantity's together; quantities and fees 64, the number of fills 32.

A row that is taken away stays where it is and says that nothing is there: its pair keeps its number, as the ids of its fills stay taken.
"""

from __future__ import annotations

import struct
from collections.abc import ItemsView, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from crdtledger.ledger.keytable import Ordinals
from crdtledger.ledger.pairtable import PairTable
from crdtledger.ledger.settledparts import SettledPosition
from crdtledger.ledger.sharedmap import Pair, SharedMap
from crdtledger.ledger.sharedrows import NO_ROWS, Records, SharedRows

CHUNK: Final = 512
"""So many positions are objects at a time when all are opened, or entered."""

_ROW: Final = struct.Struct("<4Q4h3qi")
"""value_bought, value_sold, cost, realised: their lower 64 bits, then what is above; bought, sold, fees; fills."""
ROW_BYTES: Final = _ROW.size
_FILLS: Final = 4
_LOW: Final = (1 << 64) - 1
# What stands for the number of fills where the row says something else; a position with such a number is kept beside.
_ABSENT, _BESIDE = -(1 << 31), 1 - (1 << 31)
_NOTHING: Final = _ROW.pack(*(0,) * 11, _ABSENT)
_ELSEWHERE: Final = _ROW.pack(*(0,) * 11, _BESIDE)


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
        at, rows = [NO_ROWS], [b""]
        beside: dict[int, SettledPosition | None] = {}
        while chunk := dict(islice(rest, CHUNK)):
            at.append(held._pairs.number(list(chunk)))
            packed = [_packed(position) for position in chunk.values()]
            rows.append(b"".join(packed))
            for number, position, row in zip(at[-1].tolist(), chunk.values(), packed, strict=True):
                if row is _ELSEWHERE or number in beside:
                    beside[number] = position if row is _ELSEWHERE else None
        # All at once: rows that grow by and by have room for more than there are.
        held._rows = held._rows.replaced(np.concatenate(at), _records(b"".join(rows)), 0, NO_ROWS)
        held._beside = held._beside.replaced(beside)
        held._size = len(held._pairs)
        return held

    def replaced(self, changes: Mapping[Pair, SettledPosition | None]) -> Self:
        """The positions with every one of ``changes``, and without those for which it has None."""
        put = {at: position for at, position in changes.items() if position is not None}
        pairs, rows = self._pairs, self._rows
        if not self._size:  # of which there may be one for everybody: what comes now stands by itself
            pairs, rows = PairTable(pairs.salt), SharedRows(ROW_BYTES)
        old = len(pairs)
        gone = pairs.find([at for at, position in changes.items() if position is None])
        at = np.concatenate([pairs.number(list(put)), gone[gone >= 0]])
        if not len(at):
            return self
        fresh = np.arange(old, len(pairs))
        rows = rows.replaced(
            fresh, _records(_NOTHING * len(fresh)), 0, NO_ROWS
        )  # so that older versions have no such row
        records = [_packed(position) for position in put.values()]
        records += [_NOTHING] * (len(at) - len(put))
        now, was = _records(b"".join(records)), rows.take(at)
        later = type(self).__new__(type(self))
        later._pairs = pairs
        later._rows = rows.replaced(at, now, 0, NO_ROWS)
        later._beside = self._beside.replaced(_beside(at, was, now, list(put.values())))
        later._size = self._size + int(_there(now).sum()) - int(_there(was).sum())
        return later

    def found(self, pairs: Sequence[Pair]) -> list[SettledPosition | None]:
        """The position of each pair."""
        numbers = self._pairs.find(pairs)
        held = numbers >= 0
        if held.all():
            return self._opened(numbers)
        opened = iter(self._opened(numbers[held]))
        return [next(opened) if here else None for here in held.tolist()]

    def under(self, account: str) -> list[str]:
        """The instruments in which an account has a position."""
        numbers = self._pairs.under(account)
        return [self._pairs.second(number) for number in numbers[_there(self._rows.take(numbers))].tolist()]

    def _opened(self, numbers: Ordinals) -> list[SettledPosition | None]:
        opened: list[SettledPosition | None] = []
        for at, row in enumerate(_ROW.iter_unpack(self._rows.take(numbers).tobytes())):
            bought_value, sold_value, cost, realised, high_bought, high_sold, high_cost, high_realised, *_ = row
            *_, bought, sold, fees, fills = row
            if fills == _ABSENT:
                opened.append(None)
            elif fills == _BESIDE:
                opened.append(self._beside[int(numbers[at])])
            else:
                opened.append(
                    SettledPosition(
                        bought=bought,
                        sold=sold,
                        value_bought=bought_value | high_bought << 64,
                        value_sold=sold_value | high_sold << 64,
                        fees=fees,
                        fills=fills,
                        cost=cost | high_cost << 64,
                        realised=realised | high_realised << 64,
                    )
                )
        return opened

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
            there = _there(self._rows.take(numbers)).tolist()
            yield from (at for at, here in zip(pairs, there, strict=True) if here)

    def items(self) -> ItemsView[Pair, SettledPosition]:
        """Every pair with its position; those are opened chunk by chunk."""
        return _Items(self)

    def each(self) -> Iterator[tuple[Pair, SettledPosition]]:
        """The same."""
        for pairs, numbers in self._chunks():
            for at, position in zip(pairs, self._opened(numbers), strict=True):
                if position is not None:
                    yield at, position


class _Items(ItemsView[Pair, SettledPosition]):
    __slots__ = ()
    _mapping: SettledPositions

    def __iter__(self) -> Iterator[tuple[Pair, SettledPosition]]:
        return self._mapping.each()


def _packed(held: SettledPosition) -> bytes:
    """The row of a position, which says that it is kept beside where it does not fit."""
    if held.other_fees or held.fills <= _BESIDE:
        return _ELSEWHERE
    bought, sold, cost, realised = held.value_bought, held.value_sold, held.cost, held.realised
    lows = (bought & _LOW, sold & _LOW, cost & _LOW, realised & _LOW)
    try:
        return _ROW.pack(
            *lows, bought >> 64, sold >> 64, cost >> 64, realised >> 64, held.bought, held.sold, held.fees, held.fills
        )
    except struct.error:
        return _ELSEWHERE


def _beside(
    at: Ordinals, was: Records, now: Records, put: Sequence[SettledPosition]
) -> dict[int, SettledPosition | None]:
    """What changes among the positions that are kept beside; ``put`` are those of the first rows."""
    is_beside = _fills(now) == _BESIDE
    numbers, some = at.tolist(), is_beside.tolist()
    touched = np.flatnonzero(is_beside | (_fills(was) == _BESIDE)).tolist()
    return {numbers[row]: put[row] if some[row] else None for row in touched}


def _records(raw: bytes) -> Records:
    return np.frombuffer(raw, np.uint8).reshape(-1, ROW_BYTES)


def _fills(records: Records) -> npt.NDArray[np.int32]:
    last: npt.NDArray[np.int32] = np.ascontiguousarray(records[:, -_FILLS:]).view("<i4")[:, 0]
    return last


def _there(records: Records) -> npt.NDArray[np.bool_]:
    there: npt.NDArray[np.bool_] = _fills(records) != _ABSENT
    return there
