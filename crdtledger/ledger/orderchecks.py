"""What an honest node refuses to write about orders, before it is signed; and which lanes the rest leans on.

Facts of one call are looked at one after the other, each as if those before it were recorded. A node refuses what it knows to be
beyond what is open here, beyond what a reserve holds for all orders on it, or about orders it has not seen. It does not judge what is
wise: whether an order is post-only, must be filled whole or may only reduce is for who matches.

``leans``: lane -> the last seq in it that something written here stands on: the other order of a match, a share that was received, a
match that is answered, a refusal that made quantity free again, a definition that is not settled. They become deps, so that settlement
takes up what they name before what leans on it, and nothing that an honest node wrote is cut off for want of it.
"""

from __future__ import annotations

import numpy as np

from crdtledger.errors import (
    BadInput,
    InsufficientOpen,
    InsufficientReserve,
    UnknownOrder,
    UnknownReserve,
)
from crdtledger.ledger.commitment import opens
from crdtledger.ledger.factkeys import key_of
from crdtledger.ledger.facts import Instrument, Kind
from crdtledger.ledger.orderfacts import Name, Stated, Terms
from crdtledger.ledger.ordermoney import reserve_asset, tradeable
from crdtledger.ledger.orders import Record
from crdtledger.ledger.reserveneeds import Meaning, Need, need_of
from crdtledger.ledger.view import View


class OrderChecks:
    """Checks of one call at ``node``, which writes ``lane``. ``commits``: something was written that may cost."""

    def __init__(self, view: View, lane: bytes, node: str) -> None:
        self._view, self._orders, self._lane, self._node = view, view.orders, lane, node
        self._scratch: dict[Name, Record] = {}
        self._changed: set[Name] = set()  # of those, since reserves were last looked at
        self._needs: dict[Name, Need] = {}
        self._more: dict[tuple[bytes, str], dict[Meaning, int]] = {}  # what they need beyond what the view says
        self._matches: dict[Name, Stated] = {}
        self._answered: set[Name] = set()
        self.leans: dict[bytes, int] = {}
        self.commits = False

    def check(self, fact: Stated) -> None:
        """Look at one fact. Raises a ``CallerError`` that says what is wrong, and what to do."""
        handlers = {
            Kind.ORDER: self._order,
            Kind.CANCEL: self._cancel,
            Kind.MATCH: self._match,
            Kind.ACCEPT: self._accept,
            Kind.SHARE: self._share,
            Kind.REVEAL: self._reveal,
        }
        self.commits |= fact.kind not in (Kind.CANCEL, Kind.REVEAL)
        handlers[fact.kind](fact)

    # -- what is known --------------------------------------------------------------------------------------

    def _get(self, name: Name) -> Record:
        if name not in self._scratch:
            record = self._orders.get(name)
            if record is None:
                raise UnknownOrder(kind="order", node=name[0], id=name[1])
            self._scratch[name] = record.copy()
        self._changed.add(name)
        return self._scratch[name]

    def _lean(self, lane: bytes, seq: int) -> None:
        if lane != self._lane and seq:
            self.leans[lane] = max(seq, self.leans.get(lane, 0))

    def _lean_on(self, record: Record, holder: bool) -> None:
        """Lean on an order's own batch, and on what gave this node what it holds of it."""
        if not record.settled:
            self._lean(record.place[1], record.place[2])
        for lane, seq in record.gained.get(self._node, {}).items() if holder else ():
            self._lean(lane, seq)

    def _terms(self, record: Record) -> tuple[Terms, Instrument]:
        terms = record.terms
        assert terms is not None
        definition = self._view.catalog.definitions.get(terms.definition)
        if definition is None or self._view.catalog.standing(terms.instrument) != terms.definition:
            why = f"it is for a definition of {terms.instrument!r} that does not stand here"
            raise BadInput(what=f"order {record.id!r} of {record.home}", where="facts", why=why)
        return terms, definition

    def _need_open(self, record: Record, qty: int, node: str) -> None:
        """``InsufficientOpen`` unless ``node`` holds ``qty`` of an order."""
        if record.open_at(node) < qty:
            _, definition = self._terms(record)
            others = {other: record.open_at(other) for other in record.held if other != self._node}
            raise InsufficientOpen(
                order=f"{record.home}/{record.id}",
                requested=qty,
                held_here=record.open_at(self._node),
                held_elsewhere=others,
                decimals=definition.qty_decimals,
            )

    # -- facts ----------------------------------------------------------------------------------------------

    def _order(self, fact: Stated) -> None:
        terms = fact.terms
        assert terms is not None
        record = Record(fact.name)
        record.terms, record.place = terms, (0, self._lane, 0, fact.row)
        record.held = {self._node: terms.qty}
        _, definition = self._terms(record)
        why = tradeable(definition, self._view.genesis)
        if terms.hidden and definition.mode != "auction":
            why = "only an instrument with call auctions takes hidden orders"
        if definition.mode == "auction" and terms.tif in ("ioc", "fok"):
            why = "an order for a call auction waits for it: gtc or gtt"
        if (terms.tif == "gtt") != bool(terms.expires_us):
            why = "expires_us goes with tif gtt"
        if why:
            raise BadInput(what=f"order {record.id!r}", where="facts", why=why)
        if terms.amends:
            self._get((self._node, terms.amends)).closers += 1
        place = self._view.catalog.defined_at(terms.instrument)
        if place is not None:
            self._lean(place.lane, place.seq)
        self._scratch[fact.name] = record
        self._changed.add(fact.name)
        self._check_reserve(record)

    def _cancel(self, fact: Stated) -> None:
        record = self._get(fact.about)
        self._lean_on(record, holder=True)
        record.closers += 1

    def _share(self, fact: Stated) -> None:
        record = self._get(fact.about)
        if fact.node == self._node:
            raise BadInput(what=f"node {fact.node!r}", where="facts", why="a node cannot share with itself")
        self._need_open(record, fact.qty, self._node)
        self._lean_on(record, holder=True)
        record.hold(self._node, -fact.qty)
        record.hold(fact.node, fact.qty)

    def _reveal(self, fact: Stated) -> None:
        record = self._get(fact.about)
        terms, _ = self._terms(record)
        why = "it is revealed already" if terms.hidden and record.shown else opens(fact, terms)
        if why:
            raise BadInput(what=f"order {record.id!r}", where="facts", why=why)

    def _match(self, fact: Stated) -> None:
        maker, taker = self._get(fact.about), self._get(fact.taker)
        (offered, definition), (wanted, _) = self._terms(maker), self._terms(taker)
        why = ""
        if (offered.instrument, offered.side) != (wanted.instrument, -wanted.side):
            why = "the two orders are not the two sides of one instrument"
        elif fact.price != offered.price or (wanted.price - fact.price) * wanted.side < 0:
            why = "a match is at the maker's price, and no worse than the taker's"
        elif offered.account == wanted.account:
            why = f"{offered.account} would trade with itself"
        elif definition.mode != "continuous":
            why = "the instrument trades in call auctions"
        elif not fact.firm and maker.home == self._node:
            why = "the maker's home is here: a match on its order is firm, its survival 0"
        if why:
            raise BadInput(what=f"match {fact.name[1]!r}", where="facts", why=why)
        self._need_open(taker, fact.qty, self._node)
        self._need_open(maker, fact.qty, self._node if fact.firm else maker.home)
        self._lean_on(taker, holder=True)
        self._lean_on(maker, holder=fact.firm)
        taker.hold(self._node, -fact.qty)
        self._matches[fact.name] = fact
        if fact.firm:
            maker.hold(self._node, -fact.qty)
            maker.trade(fact.qty, fact.price, True)
            taker.trade(fact.qty, fact.price, False)
        else:
            maker.asked += fact.qty
            taker.hope(fact.qty, fact.price)
        for record in (maker, taker):
            if record.home == self._node:
                self._check_reserve(record)

    def _accept(self, fact: Stated) -> None:
        asked, pending = self._orders.match(fact.about), self._orders.pending(fact.about)
        if asked is None and pending is None:
            raise UnknownOrder(kind="match", node=fact.about[0], id=fact.about[1])
        if asked is not None:
            maker, qty, firm, price = asked.about, asked.qty, asked.firm, asked.price
        else:
            assert pending is not None
            maker, qty, firm, price = pending.maker, pending.held, False, pending.price
        why = ""
        if maker[0] != self._node:
            why = f"its maker's home is {maker[0]}: only it can answer"
        elif firm:
            why = "it is firm: there is nothing to answer"
        elif self._orders.answer(fact.about) is not None or fact.about in self._answered:
            why = "it is answered already"
        elif fact.qty > qty:
            why = "more than was asked for"
        if why:
            raise BadInput(what=f"match {fact.about[1]!r} of {fact.about[0]}", where="facts", why=why)
        self._answered.add(fact.about)
        place = self._orders.place(Kind.MATCH, fact.about)
        if place is not None:
            self._lean(*place)
        if fact.qty:
            record = self._get(maker)
            self._need_open(record, fact.qty, self._node)
            self._lean_on(record, holder=True)
            record.hold(self._node, -fact.qty)
            record.asked -= qty
            record.trade(fact.qty, price, True)

    # -- reserves -------------------------------------------------------------------------------------------

    def _check_reserve(self, record: Record) -> None:
        """Refuse unless the reserve that an order of this node names holds what all orders on it may need."""
        terms, definition = self._terms(record)
        lane, asset = record.place[1], reserve_asset(definition, terms.side)
        high, low = key_of(Kind.RESERVE, terms.reserve)
        found = self._view.rights.reserve(lane, (np.array([high], np.uint64), np.array([low], np.uint64)))
        if found is None:
            why = "this lane holds no such reserve; it is recorded in a call before the order's, on the same node"
            raise UnknownReserve(reserve=terms.reserve, why=why)
        cell, left = found
        if self._view.catalog.cell_name(cell) != (terms.account, asset):
            account, held = self._view.catalog.cell_name(cell)
            why = f"it holds {held} of {account}; this order draws {asset} of {terms.account}"
            raise UnknownReserve(reserve=terms.reserve, why=why)
        needed = self._needed(lane, terms.reserve)
        if needed > left:
            raise InsufficientReserve(
                reserve=terms.reserve,
                asset=asset,
                needed=needed,
                left=left,
                decimals=self._view.genesis.asset_decimals[asset],
            )

    def _needed(self, lane: bytes, reserve: str) -> int:
        """What all orders on a reserve may yet draw, those of this call as they are by now."""
        catalog = self._view.catalog
        for name in self._changed:
            need = need_of(self._scratch[name], self._view.genesis, catalog.definitions)
            before = self._needs.get(name)
            if before is None and (known := self._orders.get(name)) is not None:
                before = need_of(known, self._view.genesis, catalog.definitions)
            for one, sign in ((before, -1), (need, 1)):
                if one is not None:
                    here = self._more.setdefault((one.lane, one.reserve), {})
                    here[one.meaning] = here.get(one.meaning, 0) + sign * one.amount
            self._needs[name] = need
        self._changed.clear()
        needs = self._orders.needs(lane, reserve, catalog.definitions)
        more = self._more.get((lane, reserve), {})
        # An order under a definition that does not stand needs nothing: nothing that names it will count.
        standing = [one for one in needs.keys() | more.keys() if catalog.standing(one[0]) == one[1]]
        return sum(needs.get(one, 0) + more.get(one, 0) for one in standing)
