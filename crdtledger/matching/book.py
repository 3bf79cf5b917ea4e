"""An order book: resting orders by price, then time. A pure structure: the same set of orders gives the same book, byte for byte.

Time is an order's place in its home's lane (``orders.Place``), not when it arrived here, so an order that arrives late is put between those
that came sooner. A book knows quantities and no rights: whose quantity may be taken how is judged beside it (``match``, ``desk``).

How it is built. Each side has a dict of levels by price and a heap of prices; each level a deque in order of time. What leaves is only
marked, and dropped when it comes to the front, or when the marked outnumber the rest: so adding in order of time, reducing and removing
cost the same however deep the book is, and the best level is at hand. An order that arrives late walks from the back to its place.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from crdtledger.matching.orders import BUY, SELL, Name, OpenOrder, Place, name_key

_encoder: Final = msgspec.msgpack.Encoder()
_KEPT_DEAD: Final = 16
"""As many marked orders, or empty levels, are not worth clearing away."""


class Resting:
    """An order in a book: ``qty`` is what of it is open now; 0 once it has left."""

    __slots__ = ("account", "level", "name", "place", "qty")

    def __init__(self, name: Name, account: str, place: Place, qty: int, level: Level) -> None:
        self.name = name
        self.account = account
        self.place = place
        self.qty = qty
        self.level = level


class Level:
    """The orders of one side at one price. ``qty`` is their sum; ``queue`` may hold some that have left."""

    __slots__ = ("dead", "price", "qty", "queue")

    def __init__(self, price: int) -> None:
        self.price = price
        self.qty = 0
        self.dead = 0
        self.queue: deque[Resting] = deque()

    def orders(self) -> list[Resting]:
        """Those that are open, in order of time."""
        return [resting for resting in self.queue if resting.qty]


class Depth(msgspec.Struct, frozen=True):
    """One level as it is shown: how much in how many orders."""

    price: int
    qty: int
    orders: int


class Side:
    """One side of a book. ``sign`` is ``BUY`` or ``SELL``. ``heap`` holds ``-sign * price``, so the best is first."""

    __slots__ = ("empty", "heap", "levels", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.levels: dict[int, Level] = {}
        self.heap: list[int] = []
        self.empty = 0

    def best(self) -> Level | None:
        """The best level that holds anything."""
        heap, levels = self.heap, self.levels
        while heap:
            level = levels[-self.sign * heap[0]]
            if level.qty:
                return level
            heapq.heappop(heap)
            del levels[level.price]
            self.empty -= 1
        return None

    def ordered(self) -> Iterator[Level]:
        """Levels that hold anything, the best first."""
        best = self.best()
        if best is None:
            return
        yield best
        for key in sorted(self.heap):  # only for who wants more than the best
            level = self.levels.get(-self.sign * key)
            if level is not None and level.qty and level is not best:
                yield level

    def emptied(self) -> None:
        """A level has just run empty: it stays, it may fill again, unless most are empty."""
        self.empty += 1
        if self.empty > _KEPT_DEAD + len(self.heap) // 2:
            self.levels = {price: level for price, level in self.levels.items() if level.qty}
            self.heap = sorted(-self.sign * price for price in self.levels)
            self.empty = 0


class Book:
    """The book of one instrument."""

    __slots__ = ("_resting", "_sides")

    def __init__(self, orders: Iterable[OpenOrder] = ()) -> None:
        self._sides = {BUY: Side(BUY), SELL: Side(SELL)}
        self._resting: dict[Name, Resting] = {}
        for order in orders:
            self.add(order)

    def __len__(self) -> int:
        return len(self._resting)

    def __contains__(self, name: Name) -> bool:
        return name in self._resting

    # -- changing -------------------------------------------------------------------------------------------

    def add(self, order: OpenOrder) -> None:
        """Enter an order with what of it is open. Raises ``ValueError`` if it is in, or has nothing open."""
        name, qty, place = order.name, order.qty, order.place
        if name in self._resting or qty <= 0:
            raise ValueError(f"{name}: in the book already, or nothing of it is open")
        side = self._sides[order.side]
        price = order.price
        level = side.levels.get(price)
        if level is None:
            side.levels[price] = level = Level(price)
            heapq.heappush(side.heap, -order.side * price)
        elif not level.qty:
            side.empty -= 1
        resting = Resting(name, order.account, place, qty, level)
        queue = level.queue
        if not queue or queue[-1].place < place:
            queue.append(resting)
        else:
            _insert(queue, resting)
        level.qty += qty
        self._resting[name] = resting

    def set(self, name: Name, qty: int) -> None:
        """From now on ``qty`` of a resting order is open, more or less than before. 0 takes it out. Raises ``KeyError``."""
        resting = self._resting[name]
        level = resting.level
        level.qty += qty - resting.qty
        resting.qty = qty
        if qty:
            return
        del self._resting[name]
        level.dead += 1
        if not level.qty:
            level.queue.clear()
            level.dead = 0
            self._side_of(level).emptied()
        elif level.dead > _KEPT_DEAD + len(level.queue) // 2:
            level.queue = deque(level.orders())
            level.dead = 0

    def reduce(self, name: Name, qty: int) -> None:
        """Take ``qty`` off a resting order; all of it takes it out. Raises ``KeyError``, and ``ValueError`` if less is open."""
        left = self._resting[name].qty - qty
        if left < 0:
            raise ValueError(f"{name}: less than {qty} is open")
        self.set(name, left)

    def remove(self, name: Name) -> None:
        """Take an order out. Raises ``KeyError``."""
        self.set(name, 0)

    def sweep(
        self, order_side: int, account: str, qty: int, price: int
    ) -> tuple[list[tuple[Name, int, int]], int, bool]:
        """Take up to ``qty`` at ``price`` or better off the other side, all of it firm, until an order of ``account`` is met.

        Answers with (maker, qty, price) of each taken, what is left, and whether such an order was met.
        """
        taken: list[tuple[Name, int, int]] = []
        side, known = self._sides[-order_side], self._resting
        while qty:
            level = side.best()
            if level is None or order_side * (price - level.price) < 0:
                break
            queue, at, before, met = level.queue, level.price, qty, False
            while qty and queue:
                resting = queue[0]
                has = resting.qty
                if has and resting.account == account:
                    met = True
                    break
                if has > qty:
                    taken.append((resting.name, qty, at))
                    resting.qty = has - qty
                    qty = 0
                    break
                queue.popleft()
                if has:
                    taken.append((resting.name, has, at))
                    qty -= has
                    resting.qty = 0
                    del known[resting.name]
                else:
                    level.dead -= 1
            level.qty -= before - qty
            if not level.qty:
                side.emptied()
            if met:
                return taken, qty, True
        return taken, qty, False

    def _side_of(self, level: Level) -> Side:
        buys = self._sides[BUY]
        return buys if buys.levels.get(level.price) is level else self._sides[SELL]

    # -- looking --------------------------------------------------------------------------------------------

    def open(self, name: Name) -> int:
        """What of an order is open here; 0 if it is not in the book."""
        resting = self._resting.get(name)
        return resting.qty if resting else 0

    def side(self, sign: int) -> Side:
        """The levels of one side: what a match walks along."""
        return self._sides[sign]

    def best(self, sign: int) -> int | None:
        """The best price of a side."""
        level = self._sides[sign].best()
        return level.price if level else None

    def levels(self, sign: int, depth: int) -> list[Depth]:
        """The best ``depth`` levels of a side, the best first."""
        out: list[Depth] = []
        for level in self._sides[sign].ordered():
            if len(out) == depth:
                break
            out.append(Depth(level.price, level.qty, len(level.orders())))
        return out

    def orders(self, account: str | None = None) -> list[OpenOrder]:
        """Every resting order, or those of one account: bids, then offers, by price, then time."""
        return [
            OpenOrder(r.name, r.account, sign, level.price, r.qty, r.place)
            for sign in (BUY, SELL)
            for level in self._sides[sign].ordered()
            for r in level.orders()
            if account is None or r.account == account
        ]

    def ahead(self, name: Name) -> int:
        """What stands before an order at its own price. Raises ``KeyError``."""
        target = self._resting[name]
        ahead = 0
        for resting in target.level.queue:
            if resting is target:
                break
            ahead += resting.qty
        return ahead

    def encode(self) -> bytes:
        """The book as bytes: equal bytes, equal books."""
        return _encoder.encode(self.orders())


def _insert(queue: deque[Resting], resting: Resting) -> None:
    """Put a late order between those that came sooner; equal places go by name."""
    key = resting.place, name_key(resting.name)
    at = len(queue)
    for earlier in reversed(queue):
        if (earlier.place, name_key(earlier.name)) < key:
            break
        at -= 1
    queue.insert(at, resting)
