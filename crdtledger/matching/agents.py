"""Agents: what decides to quote and to take, behind an interface of two methods.

    act(view) -> list[Action]       look at the local book, and say which orders to enter and which to withdraw
    filled(side, qty, price)        a match of one of its orders stands: firm, or accepted

An agent sees what its node sees and nothing else: a book that is late, positions that may still move. Whoever runs it calls ``act`` when
it likes (on a timer, on a change), enters and withdraws orders through its node, and draws the randomness that an agent is given.

``MarketMaker`` quotes as Avellaneda and Stoikov do ("High-frequency trading in a limit order book", Quantitative Finance 8, 2008,
equations 29 and 30): around a reservation price that moves against its inventory, r = s - q g v, at a half spread of g v / 2 + ln(1 + g /
k) / g, where ``v`` is the variance of the price over the horizon, ``g`` the risk aversion and ``k`` how fast interest falls with
distance. Two things are added. Its inventory limit is a right: the node may hold no more than its part of the account's limit, and every
open order counts as traded, so that in a partition the parts together never exceed the limit. And it sizes quotes by survival: what it
expects of the matches that are still unanswered counts towards its inventory with the probability that they stand.

``Taker`` trades at once with what it sees, at random or towards what it believes the price to be.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, Protocol, TypeAlias

import msgspec

from crdtledger.ledger.facts import TimeInForce
from crdtledger.matching.book import Book
from crdtledger.matching.orders import BUY, SELL, Name

Uniform: TypeAlias = Callable[[], float]
"""A draw from [0, 1)."""


class View(msgspec.Struct, frozen=True):
    """What an agent sees. ``open``: its own orders that rest (name -> (side, open qty, price)). ``pending``: its unanswered tentative
    matches as (side, qty, survival in ppm). ``belief``: what it believes the price to be, in price units."""

    now_us: int
    book: Book
    open: dict[Name, tuple[int, int, int]]
    pending: tuple[tuple[int, int, int], ...]
    belief: float


class Enter(msgspec.Struct, frozen=True):
    """Enter an order."""

    side: Literal["buy", "sell"]
    qty: int
    price: int
    tif: TimeInForce = "gtc"
    min_survival: int = 0


class Withdraw(msgspec.Struct, frozen=True):
    """Cancel an order of ours."""

    order: Name


Action: TypeAlias = Enter | Withdraw


class Agent(Protocol):
    """See the module."""

    def act(self, view: View) -> list[Action]: ...

    def filled(self, side: int, qty: int, price: int) -> None: ...


class MakerConfig(msgspec.Struct, frozen=True):
    """``limit``: this node's part of the inventory limit. ``lot``: the size of a quote. ``levels`` on each side, ``step`` apart in price.
    ``variance``: of the price over the horizon. ``aversion``, ``decay``: ``g`` and ``k`` of the module. ``tolerance``: quotes that are
    no further from where they should be stay."""

    limit: int = 100
    lot: int = 5
    levels: int = 2
    step: int = 2
    variance: float = 16.0
    aversion: float = 0.02
    decay: float = 0.5
    tolerance: int = 0


class MarketMaker:
    """See the module. ``inventory`` is what it holds here, signed."""

    def __init__(self, config: MakerConfig) -> None:
        self._config = config
        self.inventory = 0

    def filled(self, side: int, qty: int, price: int) -> None:
        self.inventory += side * qty

    def act(self, view: View) -> list[Action]:
        config = self._config
        expected = self.inventory + sum(side * qty * ppm for side, qty, ppm in view.pending) / 1_000_000
        risk = config.aversion * config.variance
        centre = view.belief - expected * risk
        half = risk / 2 + math.log1p(config.aversion / config.decay) / config.aversion
        out: list[Action] = []
        for sign, side in ((BUY, "buy"), (SELL, "sell")):
            first = math.floor(centre - half) if sign == BUY else math.ceil(centre + half)
            wanted = {first - sign * config.step * level: config.lot for level in range(config.levels)}
            standing = {name: (qty, price) for name, (at, qty, price) in view.open.items() if at == sign}
            for name, (_, price) in standing.items():
                near = next((target for target in wanted if abs(target - price) <= config.tolerance), None)
                if near is None:
                    out.append(Withdraw(name))
                else:
                    del wanted[near]
            # Withdrawn orders count until they are gone: a match of them may be on its way.
            room = self.room(sign, view)
            for price, lot in wanted.items():
                qty = min(lot, room)
                if qty > 0 and price > 0:
                    out.append(Enter("buy" if side == "buy" else "sell", qty, price))
                    room -= qty
        return out

    def room(self, sign: int, view: View) -> int:
        """How much more may be bought (or sold) here if everything open and pending on that side trades."""
        open_qty = sum(qty for at, qty, _ in view.open.values() if at == sign)
        pending = sum(qty for at, qty, _ in view.pending if at == sign)
        return max(0, self._config.limit - sign * self.inventory - open_qty - pending)


class TakerConfig(msgspec.Struct, frozen=True):
    """``most``: the largest order. ``informed``: how often it trades towards its belief, and not at all if nothing is to be gained; at
    random otherwise. ``slip``: how far beyond the best price it goes. ``min_survival``: of its orders, ppm."""

    most: int = 6
    informed: float = 0.4
    slip: int = 0
    min_survival: int = 0


class Taker:
    """See the module. ``uniform`` draws."""

    def __init__(self, config: TakerConfig, uniform: Uniform) -> None:
        self._config = config
        self._uniform = uniform
        self.inventory = 0

    def filled(self, side: int, qty: int, price: int) -> None:
        self.inventory += side * qty

    def act(self, view: View) -> list[Action]:
        config, uniform = self._config, self._uniform
        bid, offer = view.book.best(BUY), view.book.best(SELL)
        sign = BUY if uniform() < 0.5 else SELL
        if uniform() < config.informed:
            cheap, dear = offer is not None and offer < view.belief, bid is not None and bid > view.belief
            if not cheap and not dear:
                return []
            sign = BUY if cheap else SELL
        best = offer if sign == BUY else bid
        if best is None:
            return []
        qty = 1 + int(uniform() * config.most)
        return [
            Enter("buy" if sign == BUY else "sell", qty, max(1, best + sign * config.slip), "ioc", config.min_survival)
        ]
