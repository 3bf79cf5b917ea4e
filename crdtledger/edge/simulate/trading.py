"""What a node's clients can say of orders, read off the node's view: which orders meet, who must be answered, what is held here.

``Floor`` lists what an honest client would do next, and writes it as clients do. It decides nothing: who calls it picks, and may ask for
more than there is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from crdtledger.edge.core import NodeCore
from crdtledger.edge.simulate.writing import Json
from crdtledger.errors import decimal_text
from crdtledger.ledger.factkeys import key_of
from crdtledger.ledger.facts import Instrument, Kind
from crdtledger.ledger.ordermoney import reserve_asset
from crdtledger.ledger.orderrows import MatchRow, OrderRow

PROMISE_PPM = 500_000
"""The survival that tentative matches are given: no figure depends on it."""


class Deal(NamedTuple):
    """Two orders that meet. ``firm``: the node holds some of the maker; ``most``: how much of it may be matched."""

    maker: OrderRow
    taker: OrderRow
    firm: bool
    most: int


class Question(NamedTuple):
    """A tentative match that the node must answer, and how much of it may stand."""

    match: MatchRow
    most: int


class Floor:
    """The orders as the node of ``core`` sees them now."""

    def __init__(self, core: NodeCore) -> None:
        self._core, self._view, self._node = core, core.replica.view, core.name
        self._rows = self._view.order_rows()

    # -- what there is --------------------------------------------------------------------------------------

    def own(self) -> list[OrderRow]:
        """This node's orders of which something is open."""
        return [row for row in self._rows if row.home == self._node and row.state == "open"]

    def held(self) -> list[tuple[OrderRow, int]]:
        """Orders of which this node holds something, and how much."""
        return [(row, qty) for row in self._rows for node, qty in row.held if node == self._node]

    def deals(self) -> list[Deal]:
        """Which orders of this node meet which of anybody, the oldest maker first."""
        takers = [(row, qty) for row, qty in self.held() if row.home == self._node]
        makers = sorted((row for row in self._rows if row.open), key=lambda row: row.place)
        return [deal for maker in makers for taker, left in takers for deal in self._deal(maker, taker, left)]

    def _deal(self, maker: OrderRow, taker: OrderRow, left: int) -> Iterator[Deal]:
        crosses = (taker.price - maker.price) * taker.side >= 0
        meets = (maker.instrument, maker.side) == (taker.instrument, -taker.side) and maker.account != taker.account
        if crosses and meets:
            held = dict(maker.held)
            firm = self._node in held
            most = min(left, held.get(self._node if firm else maker.home, 0))
            if most:
                yield Deal(maker, taker, firm, most)

    def questions(self) -> list[Question]:
        """What this node was asked and has not answered."""
        open_here = {row.id: qty for row, qty in self.held() if row.home == self._node}
        asked = [row for row in self._view.match_rows() if row.maker_home == self._node and row.state == "tentative"]
        return [Question(row, min(row.qty, open_here.get(row.maker, 0))) for row in asked]

    def reserves(self, reserve: str) -> bool:
        """Whether this node's lane holds a reserve of that name."""
        high, low = key_of(Kind.RESERVE, reserve)
        keys = (np.array([high], np.uint64), np.array([low], np.uint64))
        return self._view.rights.reserve(self._core.recorder.lane.key, keys) is not None

    # -- what is said ---------------------------------------------------------------------------------------

    def match(self, id: str, deal: Deal, qty: int, firm: bool) -> Json:
        told = {"taker": deal.taker.id, "maker_home": deal.maker.home, "maker": deal.maker.id}
        survival = 0 if firm else PROMISE_PPM
        return self._units(deal.maker.instrument, "match", id, {**told, "survival": survival}, qty, deal.maker.price)

    def accept(self, id: str, question: Question, qty: int, reason: str = "") -> Json:
        told = {"match_home": question.match.home, "match": question.match.id, "reason": reason}
        return self._units(question.match.instrument, "accept", id, told, qty)

    def share(self, id: str, order: OrderRow, node: str, qty: int) -> Json:
        told = {"home": order.home, "order": order.id, "node": node}
        return self._units(order.instrument, "share", id, told, qty)

    def order(self, id: str, instrument: str, account: str, side: str, qty: int, price: int) -> Json:
        """An order on the reserve that is called after its account and asset."""
        definition = self._definition(instrument)
        asset = reserve_asset(definition, 1 if side == "buy" else -1)
        told = {"account": account, "side": side, "reserve": f"{account}/{asset}"}
        return self._units(instrument, "order", id, told, qty, price)

    def _definition(self, name: str) -> Instrument:
        definition = self._view.catalog.definition(name)
        assert definition is not None
        return definition

    def _units(
        self, instrument: str, kind: str, id: str, told: dict[str, Any], qty: int, price: int | None = None
    ) -> Json:
        definition = self._definition(instrument)
        fact = {"kind": kind, "id": id, "instrument": instrument, **told}
        fact["qty"] = decimal_text(qty, definition.qty_decimals)
        if price is not None:
            fact["price"] = decimal_text(price, definition.price_decimals)
        return fact
