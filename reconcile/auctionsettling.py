"""Call auctions at a height, and the hidden orders that take part in them.

An instrument with the mode ``auction`` clears at every height that ``auction_every`` divides, after all else of the height: one price for
all, by ``crdtledger.matching.auction``. No height is made of nothing, so none of them is left out. In it are the orders that were
settled ``reveal_window`` heights before or earlier, so nobody enters after the first reveal is due; hidden ones if they were revealed by
then. Both sides of a trade pay the maker's fee.

A hidden order belongs to the first auction that it is early enough for, and cannot be cancelled once that one's entries are closed.
If it is not revealed by then, it stays where it is until its own lane says something on a base of that height or later: only then is it
shown that its home knew the window to be over, and its bond (what the order might have drawn) goes to the beneficiary. A
reveal that comes late, from a lane that had not got so far, ends the order and costs nothing. So does the end of its lane.

What it does not prevent: whoever has seen the others' reveals may let his bond go rather than reveal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from crdtledger.ledger.batch import Batch
from crdtledger.ledger.body import split_id
from crdtledger.ledger.commitment import opens
from crdtledger.ledger.facts import Instrument, Kind
from crdtledger.ledger.orderfacts import Name, Stated
from crdtledger.ledger.ordermoney import reserve_asset, still_needed
from crdtledger.ledger.settledparts import SettledOrder
from crdtledger.matching.auction import clear
from crdtledger.matching.orders import OpenOrder

from .adjustments import (
    ENTRIES_CLOSED,
    FORFEITED,
    NO_ORDER,
    NOT_REVEALED,
    REVEALED_LATE,
    Adjustment,
)
from .matching import Side
from .purses import Purses

if TYPE_CHECKING:
    from .matchsettling import _Matches


class Cleared(NamedTuple):
    """Two orders that a call auction paired: ``qty`` by the clearing, of which ``stands`` what both could pay; ``why`` not more."""

    instrument: str
    buyer: Name
    seller: Name
    accounts: tuple[str, str]
    qty: int
    stands: int
    price: int
    why: str


def auction_of(order: SettledOrder, definition: Instrument) -> int:
    """The height of the first auction that an order is early enough for."""
    return -(-(order.height + definition.reveal_window) // definition.auction_every) * definition.auction_every


class Auctions:
    """The auctions of one height."""

    def __init__(self, matches: _Matches, purses: Purses, height: int) -> None:
        self._matches, self._purses, self._height = matches, purses, height
        self._genesis = matches.genesis
        self.cleared: list[Cleared] = []
        self._hidden: dict[bytes, set[Name]] = {}
        for name, order in matches.orders.items():
            if order.terms.hidden and order.shown is None:
                self._hidden.setdefault(order.lane, set()).add(name)

    def binds(self, order: SettledOrder) -> str:
        """Why a hidden order cannot be taken back any more, or nothing."""
        if not order.terms.hidden:
            return ""
        definition = self._matches.definition(order)
        closes = auction_of(order, definition) - definition.reveal_window
        return ENTRIES_CLOSED if order.shown is None and self._height > closes else ""

    def seen(self, batch: Batch) -> None:
        """Take bonds of orders whose lane knows, by this batch's base, that it should have revealed them."""
        for name in sorted(self._hidden.get(batch.key, ())):
            order = self._matches.orders[name]
            if (
                order.shown is None
                and order.open
                and batch.header.base[0] >= auction_of(order, self._matches.definition(order))
            ):
                self._forfeit(name, order)

    def _forfeit(self, name: Name, order: SettledOrder) -> None:
        definition, terms = self._matches.definition(order), order.terms
        asset = reserve_asset(definition, terms.side)
        needed = still_needed(definition, self._genesis, terms, order.tally, order.drawn, terms.qty)
        beneficiary = self._genesis.policies.beneficiary
        if isinstance(beneficiary, str):
            bond = min(needed, self._purses.left(order, asset))
            self._purses.take(order, bond)
            self._purses.land(beneficiary, asset, None, bond)
        _, lane, seq, row = order.place
        place = (lane, seq, int(Kind.ORDER), 1, ((row, 1),))
        self._matches.adjustments.append(Adjustment("expired", FORFEITED, *place))
        self._end(name)

    def _end(self, name: Name) -> None:
        order = self._matches.orders[name]
        self._matches.orders[name] = msgspec.structs.replace(order, open=(), closed=True)

    def reveal(self, fact: Stated) -> None:
        """Open a hidden order, if the fact does and comes in time."""
        order = self._matches.orders.get(fact.about)
        if order is None or not order.open or order.shown is not None:
            self._matches.adjust("voided", NO_ORDER)
            return
        why = opens(fact, order.terms)
        if why:
            self._matches.adjust("voided", NOT_REVEALED, why)
        elif self._height > auction_of(order, self._matches.definition(order)):
            self._matches.adjust("voided", REVEALED_LATE)
            self._end(fact.about)
        else:
            shown = (fact.qty, fact.price)
            self._matches.orders[fact.about] = msgspec.structs.replace(order, shown=shown)

    def clear(self) -> None:
        """Clear every instrument that has an auction at this height."""
        books: dict[str, list[Name]] = {}
        for name, order in self._matches.orders.items():
            definition = self._matches.definition(order)
            if definition.mode == "auction" and self._height % definition.auction_every == 0:
                early = order.height <= self._height - definition.reveal_window
                if early and order.open and (not order.terms.hidden or order.shown is not None):
                    books.setdefault(order.terms.instrument, []).append(name)
        for instrument in sorted(books):
            self._clear(instrument, books[instrument])

    def _clear(self, instrument: str, names: list[Name]) -> None:
        orders = self._matches.orders
        book = {_name(name): name for name in names}
        reference = self._matches.view.base.prices.get(instrument)
        clearing = clear((_open(name, orders[name]) for name in names), reference)
        if clearing.price is None:
            return
        for pair in clearing.pairs():
            buyer, seller = book[pair.buyer], book[pair.seller]
            definition = self._matches.definition(orders[buyer])
            accounts = (orders[buyer].terms.account, orders[seller].terms.account)
            if accounts[0] == accounts[1]:
                continue
            stands, why, bought, sold = self._matches.exchange.trade(
                definition,
                Side(buyer, orders[buyer], definition.maker_fee_ppm),
                Side(seller, orders[seller], definition.maker_fee_ppm),
                pair.qty,
                clearing.price,
            )
            orders[buyer], orders[seller] = bought, sold
            self.cleared.append(Cleared(instrument, buyer, seller, accounts, pair.qty, stands, clearing.price, why))
            for name in (buyer, seller):
                self._less(name, stands)

    def _less(self, name: Name, qty: int) -> None:
        """Take what was cleared from who holds it: the home first, then by member."""
        home = self._genesis.nodes.index(self._genesis.by_name[name[0]])
        for member, held in sorted(self._matches.orders[name].open, key=lambda one: (one[0] != home, one[0])):
            part = min(held, qty)
            self._matches.hold(name, member, -part)
            qty -= part


def _name(name: Name) -> tuple[str, int | str]:
    return name[0], split_id(name[1])


def _open(name: Name, order: SettledOrder) -> OpenOrder:
    terms = order.terms
    qty, price = sum(held for _, held in order.open), terms.price
    if order.shown is not None:
        qty, price = min(qty, order.shown[0] - order.tally.filled), order.shown[1]
    return OpenOrder(_name(name), terms.account, terms.side, price, qty, order.place, terms.market)
