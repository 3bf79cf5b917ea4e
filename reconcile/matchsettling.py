"""The facts about orders of a cut, settled: step 6 of settlement, when everything else of the height is known.

Facts come in canonical order, within a batch by kind, then row. They say what they like; here it is held against what there is:

- An order stands under the definition that stands, for an account that its node may record. It is open at its home.
- A share moves no more than its writer holds; a cancel, or an amendment, closes what is open at the home, and what comes back later.
- A firm match takes no more than its writer holds of the maker, and than is open of the taker; a tentative one lays the taker's quantity
  aside and waits. The maker's home answers: as much of it stands as it accepts and has open. Who waits may wait for heights.
- What ``matching`` then clamps, to reserves and to what only reduces, is trimmed like the rest; nothing left is void. An adjustment on
  the match names both orders and why.
- Where evidence closes a lane, matches on its orders that wait are decided here, in canonical order, and its orders end; what waits for a
  taker of such a lane is void.
- Orders of instruments with call auctions wait for them (``auctionsettling``).

An order leaves the state when nothing of it is open and nothing waits for it. Its id stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from crdtledger.errors import decimal_text
from crdtledger.ledger.batch import Batch
from crdtledger.ledger.breaks import Break
from crdtledger.ledger.facts import ORDER_KINDS, Instrument, Kind
from crdtledger.ledger.orderfacts import Name, Stated, stated_facts
from crdtledger.ledger.ordermoney import tradeable
from crdtledger.ledger.seenids import SeenIds
from crdtledger.ledger.settled import Key
from crdtledger.ledger.settledparts import (
    Carried,
    PendingMatch,
    Reserved,
    SettledBalance,
    SettledOrder,
    SettledPosition,
)
from crdtledger.ledger.view import View

from .adjustments import (
    ACCEPTED,
    ACCEPTED_LESS,
    BEYOND_HOLDER,
    BEYOND_MAKER,
    BEYOND_TAKER,
    HOME_CLOSED,
    ITS_MODE,
    ITSELF,
    LOST_NAME,
    NO_DEFINITION,
    NO_MATCH,
    NO_ORDER,
    NOT_MET,
    REFUSED,
    Adjustment,
    Effect,
)
from .auctionsettling import Auctions, Cleared
from .cuts import Extension
from .matching import Exchange, Side
from .orderids import OrderIds
from .purses import Purses

Pair = tuple[str, str]
Open = dict[int, int]


class SettledMatches(NamedTuple):
    """What facts about orders have come to. Mappings hold what changed, None where something is gone; ``reserves`` are all."""

    orders: Mapping[Name, SettledOrder | None]
    pending: Mapping[Name, PendingMatch | None]
    carried: Mapping[Pair, Carried | None]
    prices: Mapping[str, int]
    positions: dict[Pair, SettledPosition | None]
    balances: dict[Pair, SettledBalance]
    reserves: dict[bytes, Mapping[Key, Reserved]]
    taken_from: set[tuple[bytes, Key]]
    used: dict[int, SeenIds]
    adjustments: list[Adjustment]
    breaks: list[Break]
    cleared: list[Cleared]


def concerns_orders(view: View, ordered: Sequence[Batch]) -> bool:
    """Whether there is anything to do here."""
    return bool(view.base.orders) or any(ORDER_KINDS & batch.body.tables.keys() for batch in ordered)


def settle_matches(
    view: View,
    ordered: Sequence[Batch],
    extension: Extension,
    height: int,
    positions: Mapping[Pair, SettledPosition | None],
    balances: Mapping[Pair, SettledBalance],
    reserves: Mapping[bytes, Mapping[Key, Reserved]],
    used: Mapping[int, SeenIds],
    salt: int,
) -> SettledMatches:
    """Settle what a height's batches, in canonical order, say of orders. ``reserves``: those of lanes closed now are in it still."""
    purses = Purses(view.genesis, view.base, balances, reserves)
    exchange = Exchange(view.genesis, view.base, purses, positions)
    matches = _Matches(view, height, exchange, used, salt)
    auctions = Auctions(matches, purses, height)
    for batch in ordered:
        auctions.seen(batch)
        matches.settle(batch, auctions)
    auctions.clear()
    matches.close(extension)
    carried, prices = exchange.carrying.finish()
    return SettledMatches(
        matches.changed_orders(),
        matches.changed_pending(),
        carried,
        prices,
        exchange.positions,
        {**balances, **purses.balances()},
        purses.reserves(),
        purses.touched(),
        matches.ids.used,
        [*matches.ids.adjustments, *matches.adjustments],
        matches.ids.breaks,
        auctions.cleared,
    )


class _Matches:
    """The orders of a height being settled. ``open``: by order, what each member holds of it."""

    def __init__(self, view: View, height: int, exchange: Exchange, used: Mapping[int, SeenIds], salt: int) -> None:
        self.view, self.genesis, self.height, self.exchange = view, view.genesis, height, exchange
        self.ids = OrderIds(view.genesis, used, salt)
        self.orders: dict[Name, SettledOrder] = dict(view.base.orders)
        self.pending: dict[Name, PendingMatch] = dict(view.base.pending)
        self.adjustments: list[Adjustment] = []
        self._members = {member.name: index for index, member in enumerate(view.genesis.nodes)}
        self._number = 0
        self._at: tuple[Batch, Stated] | None = None

    # -- the next state -------------------------------------------------------------------------------------

    def changed_orders(self) -> dict[Name, SettledOrder | None]:
        """Orders that are other than they were; None for those that are done."""
        waiting = {name for match in self.pending.values() for name in (match.maker, match.taker)}
        before, changed = self.view.base.orders, dict[Name, SettledOrder | None]()
        for name in sorted({*self.orders, *before}):
            order = self.orders.get(name)
            if order is not None and not order.open and name not in waiting:
                order = None
            if order is not before.get(name):
                changed[name] = order
        return changed

    def changed_pending(self) -> dict[Name, PendingMatch | None]:
        """Waiting matches that are new, and None for those that wait no more."""
        before = self.view.base.pending
        gone: dict[Name, PendingMatch | None] = dict.fromkeys(sorted(before.keys() - self.pending.keys()))
        return gone | {name: match for name, match in self.pending.items() if name not in before}

    # -- facts ----------------------------------------------------------------------------------------------

    def settle(self, batch: Batch, auctions: Auctions) -> None:
        """Settle a batch's facts about orders."""
        kinds = ORDER_KINDS & batch.body.tables.keys()
        if not kinds:
            return
        node = self.genesis.by_id[batch.lane.node].name
        fresh = {kind: self.ids.fresh(batch, kind, node) for kind in sorted(kinds)}
        handlers: dict[Kind, Callable[[Stated], None]] = {
            Kind.ORDER: self._order,
            Kind.CANCEL: self._cancel,
            Kind.MATCH: self._match,
            Kind.ACCEPT: self._accept,
            Kind.SHARE: self._share,
            Kind.REVEAL: auctions.reveal,
        }
        self._auctions = auctions
        for fact in stated_facts(batch.body, self.genesis, node):
            if fact.row in fresh[fact.kind]:
                self._at = batch, fact
                handlers[fact.kind](fact)

    def adjust(self, effect: Effect, cause: str, detail: str = "") -> None:
        """What became of the fact at hand."""
        assert self._at is not None
        batch, fact = self._at
        place = (batch.key, batch.seq, int(fact.kind), 1, ((fact.row, 1),))
        self.adjustments.append(Adjustment(effect, cause, *place, detail))

    # -- orders ---------------------------------------------------------------------------------------------

    def definition(self, order: SettledOrder) -> Instrument:
        """What an order that stands is for."""
        return self.view.catalog.definitions[order.terms.definition]

    def _order(self, fact: Stated) -> None:
        assert self._at is not None
        assert fact.terms is not None
        batch, terms = self._at[0], fact.terms
        standing = self.view.catalog.standing(terms.instrument)
        if standing != terms.definition:
            self.adjust("voided", NO_DEFINITION if standing is None else LOST_NAME)
            return
        definition = self.view.catalog.definitions[standing]
        why = tradeable(definition, self.genesis)
        if why or (terms.hidden and definition.mode != "auction"):
            self.adjust("voided", why or ITS_MODE)
            return
        if terms.amends:
            self._shut((fact.name[0], terms.amends))
        place = (batch.header.clock, batch.key, batch.seq, fact.row)
        home = self._members[fact.name[0]]
        self.orders[fact.name] = SettledOrder(terms=terms, place=place, height=self.height, open=((home, terms.qty),))

    def _cancel(self, fact: Stated) -> None:
        order = self.orders.get(fact.about)
        if order is None:
            self.adjust("voided", NO_ORDER)
        elif self._auctions.binds(order):
            self.adjust("voided", self._auctions.binds(order))
        else:
            self._shut(fact.about)

    def _shut(self, name: Name) -> None:
        order = self.orders.get(name)
        if order is not None and not self._auctions.binds(order):
            held = dict(order.open)
            held.pop(self._members[name[0]], None)
            self.orders[name] = msgspec.structs.replace(order, open=_packed(held), closed=True)

    def held(self, name: Name, member: int) -> int:
        """What a member holds of an order."""
        return next((qty for index, qty in self.orders[name].open if index == member), 0)

    def hold(self, name: Name, member: int, change: int) -> None:
        """Give a member more or less of an order. What comes back to the home of a closed one is closed."""
        order = self.orders[name]
        if order.closed and change > 0 and member == self._members[name[0]]:
            return
        held = dict(order.open)
        held[member] = held.get(member, 0) + change
        self.orders[name] = msgspec.structs.replace(order, open=_packed(held))

    def _share(self, fact: Stated) -> None:
        giver, taker = self._members[fact.name[0]], self._members.get(fact.node)
        if fact.about not in self.orders or taker is None:
            self.adjust("voided", NO_ORDER)
            return
        qty = min(fact.qty, self.held(fact.about, giver))
        self.hold(fact.about, giver, -qty)
        self.hold(fact.about, taker, qty)
        if qty < fact.qty:
            self.adjust("trimmed" if qty else "voided", BEYOND_HOLDER)

    # -- matches --------------------------------------------------------------------------------------------

    def _match(self, fact: Stated) -> None:
        maker, taker = self.orders.get(fact.about), self.orders.get(fact.taker)
        why = self._hinders(maker, taker, fact) if maker and taker else NO_ORDER
        if why:
            self.adjust("voided", why, self._words(fact.about, fact.taker, 0, fact.qty))
            return
        writer = self._members[fact.name[0]]
        if fact.firm:
            held, left = self.held(fact.about, writer), self.held(fact.taker, writer)
            qty = min(fact.qty, held, left)
            why = BEYOND_HOLDER if held <= left else BEYOND_TAKER
            stands, clamped = self.trade(fact.about, fact.taker, qty, fact.price, writer) if qty else (0, "")
            self.hold(fact.taker, writer, -stands)
            if stands < fact.qty:
                self._cut(fact, stands, clamped or why)
            return
        qty = min(fact.qty, self.held(fact.taker, writer))
        if qty < fact.qty:
            self._cut(fact, qty, BEYOND_TAKER)
        if qty:
            self._number += 1
            self.hold(fact.taker, writer, -qty)
            assert self._at is not None
            place = (self._at[0].key, self._at[0].seq, fact.row)
            self.pending[fact.name] = PendingMatch(
                taker=fact.taker,
                maker=fact.about,
                held=qty,
                qty=fact.qty,
                price=fact.price,
                height=self.height,
                number=self._number,
                place=place,
                survival=fact.survival,
            )

    def _hinders(self, maker: SettledOrder, taker: SettledOrder, fact: Stated) -> str:
        """Why two orders cannot match so, or nothing."""
        one, other = maker.terms, taker.terms
        if not fact.firm and fact.about[0] == fact.name[0]:
            return NOT_MET
        if (one.instrument, one.side) != (other.instrument, -other.side) or fact.price != one.price:
            return NOT_MET
        if (other.price - fact.price) * other.side < 0:
            return NOT_MET
        if one.account == other.account:
            return ITSELF
        return "" if self.definition(maker).mode == "continuous" else ITS_MODE

    def _cut(self, fact: Stated, stands: int, why: str) -> None:
        self.adjust("trimmed" if stands else "voided", why, self._words(fact.about, fact.taker, stands, fact.qty))

    def _words(self, maker: Name, taker: Name, stands: int, of: int) -> str:
        """Both orders of a match, and how much of it stands."""
        order = self.orders.get(maker) or self.orders.get(taker)
        decimals = self.definition(order).qty_decimals if order else 0
        quantities = f"{decimal_text(stands, decimals)} of {decimal_text(of, decimals)}"
        return f"{quantities}: maker {'/'.join(maker)}, taker {'/'.join(taker)}"

    def trade(self, maker: Name, taker: Name, qty: int, price: int, holder: int) -> tuple[int, str]:
        """Match up to ``qty`` of what ``holder`` holds of the maker: (how much stands, what clamped it). The caller sees to the taker's
        quantity."""
        definition = self.definition(self.orders[maker])
        stands, why, made, took = self.exchange.trade(
            definition,
            Side(maker, self.orders[maker], definition.maker_fee_ppm),
            Side(taker, self.orders[taker], definition.taker_fee_ppm),
            qty,
            price,
        )
        self.orders[maker], self.orders[taker] = made, took
        self.hold(maker, holder, -stands)
        return stands, why

    def _accept(self, fact: Stated) -> None:
        match = self.pending.get(fact.about)
        if match is None or match.maker[0] != fact.name[0]:
            self.adjust("voided", NO_MATCH)
            return
        self._decide(fact.about, min(fact.qty, match.held), REFUSED if not fact.qty else ACCEPTED_LESS, ACCEPTED)

    def _decide(self, name: Name, accepted: int, less: str, stood: str) -> None:
        """End a match's waiting: as much of it stands as is accepted, open at the maker's home, and can be paid for."""
        match = self.pending.pop(name)
        home = self._members[match.maker[0]]
        had = self.held(match.maker, home)
        qty = min(accepted, had)
        stands, clamped = self.trade(match.maker, match.taker, qty, match.price, home) if qty else (0, "")
        self.hold(match.taker, self._members[match.taker[0]], match.held - stands)
        lane, seq, row = match.place
        at = (lane, seq, int(Kind.MATCH), 1, ((row, 1),), self._words(match.maker, match.taker, stands, match.held))
        if stands < match.held:
            why = clamped or (BEYOND_MAKER if had < accepted else less)
            self.adjustments.append(Adjustment("trimmed" if stands else "voided", why, *at))
        elif match.height < self.height:
            self.adjustments.append(Adjustment("counted", stood, *at))

    # -- lanes that end ---------------------------------------------------------------------------------------

    def close(self, extension: Extension) -> None:
        """End the orders of lanes that evidence closes now."""
        if not extension.closed:
            return
        closed = extension.closed.keys()
        for name in sorted(self.pending, key=lambda name: (self.pending[name].height, self.pending[name].number)):
            match = self.pending[name]
            if self.orders[match.taker].lane in closed or match.place[0] in closed:
                self._decide(name, 0, HOME_CLOSED, HOME_CLOSED)
            elif self.orders[match.maker].lane in closed:
                self._decide(name, match.held, HOME_CLOSED, HOME_CLOSED)
        for name in sorted(name for name, order in self.orders.items() if order.lane in closed):
            order = self.orders[name]
            if order.open:
                _, lane, seq, row = order.place
                place = (lane, seq, int(Kind.ORDER), 1, ((row, 1),))
                self.adjustments.append(Adjustment("expired", HOME_CLOSED, *place))
            self.orders[name] = msgspec.structs.replace(order, open=(), closed=True)


def _packed(held: Open) -> tuple[tuple[int, int], ...]:
    return tuple(sorted((member, qty) for member, qty in held.items() if qty))
