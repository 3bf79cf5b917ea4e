"""Runs an agent (``crdtledger.matching.agents``) as a client of a node: what the node tells goes in, facts to be recorded come out. Pure.

    agency = Agency(MarketMaker(MakerConfig()), "MAKER", definition, "node-1", "m")
    book = client.request(api.Book("BTC-PERP", "MAKER"))
    client.record(agency.act(book, client.query("matches", account="MAKER"), belief, now_us))

Whoever runs it asks, records and repeats, as often as it likes. The agent is told of a match once it stands (firm, or accepted by the
maker's home), and of what settlement takes back of it. Several agencies of one account, each at a node of its own, count for themselves:
each has its part of whatever limit the account has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from crdtledger.errors import decimal_text
from crdtledger.ledger.decimals import to_minor
from crdtledger.ledger.facts import Instrument
from crdtledger.matching.agents import Agent, Enter, View
from crdtledger.matching.book import Book
from crdtledger.matching.orders import BUY, SELL, Name, OpenOrder

Row = Mapping[str, Any]
SIGNS: Final = {"buy": BUY, "sell": SELL}


class Agency:
    """One agent that trades for ``account`` at the node called ``home``. ``prefix``: what the ids of its orders begin with; nobody else's
    at this node do."""

    def __init__(self, agent: Agent, account: str, definition: Instrument, home: str, prefix: str) -> None:
        self.agent = agent
        self._account, self._definition, self._home, self._prefix = account, definition, home, prefix
        self._entered = 0
        self._told: dict[Name, int] = {}  # match -> how much of it the agent was told of

    def act(self, book: Row, matches: Sequence[Row], belief: float, now_us: int) -> list[dict[str, Any]]:
        """The facts to be recorded, given the answers to ``api.Book`` and ``matches`` for this account. ``belief`` as in ``View``."""
        self._tell(matches)
        mine = [row for row in book["mine"] if row["home"] == self._home]
        own = {
            (self._home, row["id"]): (SIGNS[row["side"]], self._qty(row["open"]), self._price(row["price"]))
            for row in mine
        }
        pending = tuple(
            (self._side(row), self._qty(row["qty"]), row["survival"])
            for row in matches
            if row["status"] == "tentative" and self._side(row) and row["home"] == self._home
        )
        seen = Book(self._level(number, row) for number, row in enumerate(book["levels"]))
        out = []
        for action in self.agent.act(View(now_us, seen, dict(own), pending, belief)):
            if isinstance(action, Enter):
                self._entered += 1
                out.append(self._order(f"{self._prefix}{self._entered}", action))
            else:
                out.append({"kind": "cancel", "id": f"cancel {action.order[1]}", "order": action.order[1]})
        return out

    def _tell(self, matches: Iterable[Row]) -> None:
        """Tell the agent what stands that it does not know of, and what stands no more."""
        known = self._told
        self._told = {}
        for row in matches:
            side, name = self._side(row), (row["home"], row["id"])
            if not side:
                continue
            stands = self._qty(row["stands"])
            if stands != known.get(name, 0):
                self.agent.filled(side, stands - known.get(name, 0), self._price(row["price"]))
            self._told[name] = stands

    def _side(self, row: Row) -> int:
        """On which side of a match an order of this agency is, 0 for none."""
        for home, id in ((row["home"], row["taker"]), (row["maker_home"], row["maker"])):
            if home == self._home and str(id).startswith(self._prefix):
                return BUY if str(id).endswith("b") else SELL
        return 0

    def _order(self, id: str, action: Enter) -> dict[str, Any]:
        """The side is in the id, so that a match says what it was without its order."""
        return {
            "kind": "order",
            "id": f"{id}{action.side[0]}",
            "account": self._account,
            "instrument": self._definition.name,
            "side": action.side,
            "qty": decimal_text(action.qty, self._definition.qty_decimals),
            "price": decimal_text(action.price, self._definition.price_decimals),
            "tif": action.tif,
            "min_survival": action.min_survival,
        }

    def _level(self, number: int, row: Row) -> OpenOrder:
        """A level of a book, which tells no names, as an order."""
        place = (number, b"", 0, 0)
        return OpenOrder(("", number), "", SIGNS[row["side"]], self._price(row["price"]), self._qty(row["qty"]), place)

    def _qty(self, text: str) -> int:
        return to_minor(text, self._definition.qty_decimals)

    def _price(self, text: str) -> int:
        return to_minor(text, self._definition.price_decimals)
