"""What lanes say of each order and each match, added up: counters that do not care in which order the lanes are read.

An order's open quantity is a bounded counter with one writer at a time (docs/decisions/0017). ``at[node]`` is what ``node`` holds of it:
the home starts with all of it, a share moves some, and each match takes from its writer's part (of the taker always, of the maker if it
is firm) or, once accepted, from the home's. ``asked`` is what tentative matches ask for and nobody has answered yet.

All of it is sums, so two nodes that have seen the same facts have the same standings, and the same books, whatever came first. A fact
that is seen before the order it speaks of is counted until the order comes. Nothing is refused or clamped here but what is shown:
honest homes never let a part fall below nothing, and settlement judges the others.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from crdtledger.ledger.facts import Accept, Cancel, Match, Order, Share
from crdtledger.matching.match import FIRM
from crdtledger.matching.orders import BUY, SELL, Name, OpenOrder, Place

Fact: TypeAlias = Order | Cancel | Share | Match | Accept
"""The facts that matching reads."""


class Standing:
    """One order as seen so far. ``order`` and ``place`` are None until it is; ``closed``: its home cancelled it, or
    entered another one that amends it."""

    __slots__ = ("asked", "at", "closed", "name", "order", "place", "sign")

    def __init__(self, name: Name) -> None:
        self.name = name
        self.order: Order | None = None
        self.place: Place | None = None
        self.sign = 0
        self.closed = False
        self.at: dict[str, int] = {}
        self.asked = 0

    def move(self, node: str, qty: int) -> None:
        """What ``node`` holds grows by ``qty``, which may be negative."""
        self.at[node] = self.at.get(node, 0) + qty

    def held(self, node: str) -> int:
        """What ``node`` may match firmly. Nothing once the home has cancelled: what others hold then goes back."""
        return 0 if self.closed else max(0, self.at.get(node, 0))

    def free(self) -> int:
        """What the home holds and nobody has asked for yet: what a tentative match may hope for."""
        return 0 if self.closed else max(0, self.at.get(self.name[0], 0) - self.asked)

    def visible(self) -> int:
        """What of it a book shows: 0 if it is not seen yet, cancelled, or of a kind that never rests."""
        order = self.order
        if order is None or self.closed or order.market or order.tif in ("ioc", "fok") or order.hidden:
            return 0
        home = self.name[0]
        return self.free() + sum(max(0, qty) for node, qty in self.at.items() if node != home)

    def resting(self) -> OpenOrder:
        """The order as a book takes it, with what is visible."""
        assert self.order is not None
        assert self.place is not None
        order = self.order
        return OpenOrder(self.name, order.account, self.sign, order.price, self.visible(), self.place)


class Question(msgspec.Struct):
    """One match as seen so far: the match, its answer, either may come first."""

    match: Match | None = None
    answer: Accept | None = None

    @property
    def open(self) -> bool:
        """Whether it is a tentative match that nobody has answered."""
        return self.match is not None and self.match.survival != FIRM and self.answer is None


class Standings:
    """All orders and matches seen and not forgotten."""

    def __init__(self) -> None:
        self.orders: dict[Name, Standing] = {}
        self.matches: dict[Name, Question] = {}

    def of(self, name: Name) -> Standing:
        """The standing of an order, begun if nothing was seen of it."""
        standing = self.orders.get(name)
        if standing is None:
            self.orders[name] = standing = Standing(name)
        return standing

    def question(self, name: Name) -> Question:
        """The state of a match, begun if nothing was seen of it."""
        return self.matches.setdefault(name, Question())

    def apply(self, writer: str, fact: Fact, place: Place | None = None) -> tuple[Standing, ...]:
        """Count a fact of the lane of ``writer``, once. Answers with the orders that it touches."""
        match fact:
            case Order():
                standing = self.of((writer, fact.id))
                if standing.order is not None:
                    return ()  # the first under an id stands, of matches and answers too
                standing.order, standing.place = fact, place
                standing.sign = BUY if fact.side == "buy" else SELL
                standing.move(writer, fact.qty)
                if fact.amends is None:
                    return (standing,)
                replaced = self.of((writer, fact.amends))
                replaced.closed = True
                return standing, replaced
            case Cancel():
                standing = self.of((writer, fact.order))
                standing.closed = True
                return (standing,)
            case Share():
                standing = self.of((fact.home, fact.order))
                standing.move(writer, -fact.qty)
                standing.move(fact.node, fact.qty)
                return (standing,)
            case Match():
                question = self.question((writer, fact.id))
                if question.match is not None:
                    return ()
                question.match = fact
                return self._count(writer, question, fact, 1)
            case Accept():
                question = self.question((fact.match_home, fact.match))
                asked = question.match
                if question.answer is not None:
                    return ()
                if asked is None:
                    question.answer = fact
                    return ()
                self._count(fact.match_home, question, asked, -1)
                question.answer = fact
                return self._count(fact.match_home, question, asked, 1)

    def counts(self, writer: str, fact: Fact) -> bool:
        """Whether a fact of a lane whose facts this desk writes has been counted: its cancels, matches, answers and shares have when it
        wrote them."""
        match fact:
            case Order():
                standing = self.orders.get((writer, fact.id))
                return standing is not None and standing.order is not None
            case Cancel():
                standing = self.orders.get((writer, fact.order))
                return standing is not None and standing.closed
            case Share():
                return True
            case Match():
                question = self.matches.get((writer, fact.id))
                return question is not None and question.match is not None
            case Accept():
                question = self.matches.get((fact.match_home, fact.match))
                return question is not None and question.answer is not None

    def unapply(self, writer: str, fact: Match) -> tuple[Standing, ...]:
        """A match of ``writer`` was not recorded after all."""
        question = self.matches.pop((writer, fact.id))
        return self._count(writer, question, fact, -1)

    def _count(self, writer: str, question: Question, match: Match, sign: int) -> tuple[Standing, Standing]:
        """Add what a match takes, or with -1 take it back out."""
        maker, taker = self.of((match.maker_home, match.maker)), self.of((writer, match.taker))
        if match.survival == FIRM:
            taker.move(writer, -sign * match.qty)
            maker.move(writer, -sign * match.qty)
        elif question.answer is None:
            taker.move(writer, -sign * match.qty)
            maker.asked += sign * match.qty
        else:
            stands = min(question.answer.qty, match.qty)
            taker.move(writer, -sign * stands)
            maker.move(match.maker_home, -sign * stands)
        return maker, taker

    def forget(self, orders: tuple[Name, ...], matches: tuple[Name, ...]) -> None:
        """Settlement has ended these: nothing more will be said of them."""
        for name in orders:
            self.orders.pop(name, None)
        for name in matches:
            self.matches.pop(name, None)
