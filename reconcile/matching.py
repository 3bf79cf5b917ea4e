"""One match, settled: how much of it can stand, and what moves between its two accounts.

``trade`` clamps first: to what only reduces a position where an order says so, then to what each order's reserve can still pay. Then
value moves as docs/decisions/0017 has it: cash and base asset at once, margins behind contracts, fees to the beneficiary; the
positions of both accounts count it like a fill. What is drawn is rounded up once per order (``ordermoney``), so a reserve that holds
what its orders may need suffices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from crdtledger.ledger.facts import Instrument
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.orderfacts import Name
from crdtledger.ledger.ordermoney import Drawn, Tally, due, fee_of, grown, reserve_asset, total
from crdtledger.ledger.reference import divide_half_even
from crdtledger.ledger.settled import SettledState
from crdtledger.ledger.settledparts import SettledOrder, SettledPosition

from .adjustments import MAKERS_RESERVE, REDUCES_ONLY, TAKERS_RESERVE
from .carrying import Carrying
from .entries import Entry, after
from .purses import Purses

Pair = tuple[str, str]


_NOTHING = SettledPosition()


class Side(NamedTuple):
    """One order of a match: its name, as it is, and the fee it pays."""

    name: Name
    order: SettledOrder
    fee_ppm: int


class Exchange:
    """Settles matches one after the other. ``positions``: those that the height's fills changed; changed on."""

    def __init__(
        self,
        genesis: Genesis,
        state: SettledState,
        purses: Purses,
        positions: Mapping[Pair, SettledPosition | None],
    ) -> None:
        self._genesis, self._state, self._purses = genesis, state, purses
        self.positions = dict(positions)
        self.carrying = Carrying(genesis, state, purses)

    def trade(
        self, definition: Instrument, maker: Side, taker: Side, qty: int, price: int
    ) -> tuple[int, str, SettledOrder, SettledOrder]:
        """(how much stands, why not more, the maker and the taker after it)."""
        cause = ""
        for side, beyond in ((maker, MAKERS_RESERVE), (taker, TAKERS_RESERVE)):
            room = self._reducible(side.order, qty)
            if room < qty:
                qty, cause = room, REDUCES_ONLY
            room = self._affordable(definition, side, qty, price)
            if room < qty:
                qty, cause = room, beyond
        if not qty:
            return 0, cause, maker.order, taker.order
        buyer, seller = (maker, taker) if maker.order.terms.side > 0 else (taker, maker)
        bought, takes = self._draw(definition, buyer, qty, price)
        sold, gives = self._draw(definition, seller, qty, price)
        fees = takes.fees + gives.fees
        if definition.type in ("spot", "option"):
            fee = min(fee_of(definition, self._genesis, sold.tally) - sold.drawn.fees, takes.paid)
            sold = _charged(sold, fee)
            gives = Drawn(gives.paid, gives.margin, fee)
            self._land(seller, definition.settlement, takes.paid - fee)
            fees += fee
        if definition.type == "spot":
            self._land(buyer, definition.base, gives.paid)
        else:
            self.carrying.trade(buyer.order, buyer.name[0], definition, qty, price, takes.margin)
            self.carrying.trade(seller.order, seller.name[0], definition, qty, price, gives.margin)
        beneficiary = self._genesis.policies.beneficiary
        if isinstance(beneficiary, str):
            self._purses.land(beneficiary, definition.settlement, None, fees)
        self._count(definition, buyer.order, qty, price, takes.fees)
        self._count(definition, seller.order, qty, price, gives.fees)
        return (qty, cause, bought, sold) if buyer is maker else (qty, cause, sold, bought)

    def _land(self, side: Side, asset: str, amount: int) -> None:
        self._purses.land(side.order.terms.account, asset, side.name[0], amount)

    # -- clamps ---------------------------------------------------------------------------------------------

    def _reducible(self, order: SettledOrder, qty: int) -> int:
        if not order.terms.reduce_only:
            return qty
        held = self._position(order.terms.account, order.terms.instrument).qty
        return min(qty, max(0, -held * order.terms.side))

    def _position(self, account: str, instrument: str) -> SettledPosition:
        at = (account, instrument)
        position = self.positions[at] if at in self.positions else self._state.positions.get(at)
        return position or _NOTHING

    def _affordable(self, definition: Instrument, side: Side, qty: int, price: int) -> int:
        """The most of ``qty`` that the order's reserve can pay for. What it must pay never falls with the quantity."""
        left = self._purses.left(side.order, reserve_asset(definition, side.order.terms.side))

        def pays(some: int) -> bool:
            tally = self._after(definition, side, some, price)
            return total(due(definition, self._genesis, side.order.terms.side, tally, side.order.drawn)) <= left

        return qty if pays(qty) else _most(pays, qty)

    def _after(self, definition: Instrument, side: Side, qty: int, price: int) -> Tally:
        terms, opens = side.order.terms, 0
        if definition.type in ("perp", "future") or (definition.type == "option" and terms.side < 0):
            opens = self.carrying.opens(terms.account, definition, terms.side, qty)
        return grown(definition, self._genesis, side.order.tally, qty, price, opens, side.fee_ppm)

    # -- moves ----------------------------------------------------------------------------------------------

    def _draw(self, definition: Instrument, side: Side, qty: int, price: int) -> tuple[SettledOrder, Drawn]:
        """Take what the match draws out of the order's reserve: (the order after it, what was drawn)."""
        order = side.order
        tally = self._after(definition, side, qty, price)
        drawn = due(definition, self._genesis, order.terms.side, tally, order.drawn)
        self._purses.take(order, total(drawn))
        whole = Drawn(order.drawn.paid + drawn.paid, order.drawn.margin + drawn.margin, order.drawn.fees + drawn.fees)
        return msgspec.structs.replace(order, tally=tally, drawn=whole), drawn

    def _count(self, definition: Instrument, order: SettledOrder, qty: int, price: int, fee: int) -> None:
        """Count one side of a match in its account's position, like a fill."""
        at = (order.terms.account, definition.name)
        before = self._position(*at)
        value = position_value(definition, self._genesis, qty, price)
        entry = Entry(before.qty, before.cost, before.realised)
        entry = after(entry, [(order.terms.side * qty, value)], definition.inverse)
        sums = (
            {"bought": before.bought + qty, "value_bought": before.value_bought + value}
            if order.terms.side > 0
            else {"sold": before.sold + qty, "value_sold": before.value_sold + value}
        )
        position = msgspec.structs.replace(
            before,
            **sums,
            fees=before.fees + fee,
            fills=before.fills + 1,
            cost=entry.cost,
            realised=entry.realised,
        )
        self.positions[at] = None if position == _NOTHING else position


def position_value(definition: Instrument, genesis: Genesis, qty: int, price: int) -> int:
    """What a match adds to the values of a position, in its units: as ``reference.fold_values`` has it for a fill."""
    if not definition.inverse:
        return qty * price * definition.contract_size
    exponent = genesis.asset_decimals[definition.settlement] + definition.price_decimals
    exponent -= definition.qty_decimals + definition.contract_decimals
    return divide_half_even(qty * definition.contract_size * 10 ** max(exponent, 0), price * 10 ** max(-exponent, 0))


def _charged(order: SettledOrder, fee: int) -> SettledOrder:
    drawn = order.drawn
    return msgspec.structs.replace(order, drawn=Drawn(drawn.paid, drawn.margin, drawn.fees + fee))


def _most(holds: Callable[[int], bool], below: int) -> int:
    """The greatest number from 0 up to, and without, ``below`` for which ``holds`` does; what holds for more holds for less."""
    low, high = 0, below
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
