"""Contracts that matches have made: who carries how many, the margin behind them, and what a new settlement price moves.

Every contract of a perpetual or a future is carried at one price, the instrument's settlement price: that of its last match of the
height. So, at the end of a height, with V(q, p) the value of q contracts at p, signed like q,

    gain  =  V(now, new price) - V(before, old price) - sum of V(traded, its price)          inverse contracts: the negative of it

Linear gains add up to 0 exactly, inverse ones but for their rounding. Who loses pays, rounded up to minor units: first from what
closing sets free in this height, then from the margin, then from the reserves of the orders that traded in it. What is missing is his
shortfall. What was collected, no unit more or less, goes to those who gain, in proportion to their gains, rounded down and the rest by
largest remainder (names break ties): into the margin, or out of it where nothing is carried any more.

Closing sets margin free in proportion, rounded down; what closes everything sets all of it free. It lands at the home of the order that
closed. Options carry the margin of who sold them and have no settlement price: the premium was paid.
"""

from __future__ import annotations

from crdtledger.ledger.facts import Instrument
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.ordermoney import exact_value, minor_units
from crdtledger.ledger.settled import SettledState
from crdtledger.ledger.settledparts import Carried, SettledOrder

from .purses import Purses

Pair = tuple[str, str]


class _Position:
    """One (account, derivative) within a height. ``flow``: what was bought less what was sold, in exact value."""

    __slots__ = ("flow", "free", "free_at", "margin", "orders", "qty")

    def __init__(self, carried: Carried) -> None:
        self.qty, self.margin = carried.qty, carried.margin
        self.free = self.flow = 0
        self.free_at: str | None = None
        self.orders: dict[
            tuple[bytes, str], SettledOrder
        ] = {}  # one for each reserve, in the order in which they traded


class Carrying:
    """The contracts of a height being settled."""

    def __init__(self, genesis: Genesis, state: SettledState, purses: Purses) -> None:
        self._genesis, self._state, self._purses = genesis, state, purses
        self._positions: dict[Pair, _Position] = {}
        self._prices: dict[str, tuple[Instrument, int]] = {}
        self._assets: dict[str, str] = {}

    def _position(self, account: str, instrument: str) -> _Position:
        at = (account, instrument)
        if at not in self._positions:
            self._positions[at] = _Position(self._state.carried.get(at, Carried(0, 0)))
        return self._positions[at]

    def opens(self, account: str, definition: Instrument, side: int, qty: int) -> int:
        """How much of a trade would open contracts rather than close."""
        self._assets[definition.name] = definition.settlement
        held = self._position(account, definition.name).qty
        return max(0, qty - abs(held)) if held * side < 0 else qty

    def trade(self, order: SettledOrder, home: str, definition: Instrument, qty: int, price: int, margin: int) -> None:
        """Enter one side of a match; ``margin`` has been taken for it."""
        terms = order.terms
        position = self._position(terms.account, definition.name)
        closes = qty - self.opens(terms.account, definition, terms.side, qty)
        if closes:
            held = abs(position.qty)
            freed = position.margin if closes == held else position.margin * closes // held
            position.margin -= freed
            position.free += freed
            position.free_at = home
        position.qty += terms.side * qty
        position.margin += margin
        self._purses.margin(terms.account, definition.settlement, margin)
        if definition.type != "option":
            position.flow += terms.side * exact_value(definition, self._genesis, qty, price)
            position.orders.setdefault((order.lane, terms.reserve), order)
            self._prices[definition.name] = definition, price

    def finish(self) -> tuple[dict[Pair, Carried | None], dict[str, int]]:
        """Mark everything to the new settlement prices and let go what is free: (positions that changed, new prices)."""
        for definition, price in self._prices.values():
            self._mark(definition, price)
        changed: dict[Pair, Carried | None] = {}
        for (account, name), position in sorted(self._positions.items()):
            if not position.qty:
                position.free, position.margin = position.free + position.margin, 0
            self._purses.margin(account, self._assets[name], -position.free)
            self._purses.land(account, self._assets[name], position.free_at, position.free)
            changed[account, name] = Carried(position.qty, position.margin) if position.qty else None
        return changed, {name: price for name, (_, price) in self._prices.items()}

    def _mark(self, definition: Instrument, price: int) -> None:
        name, before = definition.name, self._state.prices.get(definition.name, price)
        for account, instrument in self._state.carried:
            if instrument == name:
                self._position(account, name)
        gains: dict[str, int] = {}
        for account in sorted(account for account, instrument in self._positions if instrument == name):
            position = self._positions[account, name]
            was = self._state.carried.get((account, name), Carried(0, 0)).qty
            gain = self._value(definition, position.qty, price) - self._value(definition, was, before) - position.flow
            gains[account] = -gain if definition.inverse else gain
        won = {account: gain for account, gain in gains.items() if gain > 0}
        if not won:
            return
        collected = sum(self._pay(account, definition, -gain) for account, gain in gains.items() if gain < 0)
        whole = sum(won.values())
        shares = {account: divmod(collected * gain, whole) for account, gain in won.items()}
        rest = collected - sum(share for share, _ in shares.values())
        largest = set(sorted(shares, key=lambda account: (-shares[account][1], account))[:rest])
        for account, (share, _) in shares.items():
            amount = share + (account in largest)
            position = self._positions[account, name]
            if position.qty:
                position.margin += amount
            else:
                position.free += amount
            self._purses.margin(account, definition.settlement, amount)

    def _value(self, definition: Instrument, qty: int, price: int) -> int:
        value = exact_value(definition, self._genesis, abs(qty), price)
        return value if qty > 0 else -value

    def _pay(self, account: str, definition: Instrument, loss: int) -> int:
        """Take a loss; how much of it was there to take."""
        position, asset = self._positions[account, definition.name], definition.settlement
        owed = due = minor_units(definition, self._genesis, loss)
        for pot in ("free", "margin"):
            part = min(due, getattr(position, pot))
            setattr(position, pot, getattr(position, pot) - part)
            self._purses.margin(account, asset, -part)
            due -= part
        for order in position.orders.values():
            part = min(due, self._purses.left(order, asset))
            self._purses.take(order, part)
            due -= part
        self._purses.owe(account, asset, due)
        return owed - due
