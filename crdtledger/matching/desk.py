"""The matching desk of one node: events in, instructions out; no clock, no disk, no sockets.

It stands between what lanes say and what the recorder writes, and is decoupled from both by bounded queues: ``offer`` takes an event or
says that it is full (lanes keep: offer it again), ``work`` goes through what was offered while there is room for instructions, ``take``
hands them out. They are recorded in that order. The desk counts on that, and goes on as if they were recorded already.

The rules (DESIGN section 7, docs/decisions/0017):

* A node matches the orders that are homed here, as takers. Of two orders that cross, the later by place is the taker; so of two homes that
  see each other's order late exactly one matches. A post-only order never takes: it is cancelled if it turns out to be the later.
* A match is firm over quantity that is held here: the maker is homed here, or its quantity is shared to here. Otherwise it is tentative,
  and carries the survival that ``Survival`` gives it.
* The home of a maker answers each tentative match when it sees it, so its lane decides every race between matches and cancels. It accepts
  as much as is left, or refuses and says why.
* A taker's open quantity is without its unanswered matches; a refusal gives it back, and the taker, if it rests, is matched on; with what
  was refused only after a while, each time twice as long: whoever refuses for ever is asked ever more seldom.
* To amend is to enter an order that names the one it replaces: that is closed by it, and the new one has its own quantity and place.
* A reduce-only order rests with all of its quantity; its home lets it trade only as far as the position goes, at every match anew.
* Quantity of others' orders held here goes home as soon as their cancel is seen.
* Until ``begin`` is called the desk only listens: a node that starts reads its lanes first, its own answers among them, or takes up what
  a view says they have come to (``resume``).

Bounds: ``DeskLimits``. Nothing that was recorded is ever dropped; a full desk takes no events, and makes no tentative matches beyond
``unanswered``. An order stopped by ``proposals`` goes on at the next tick.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from crdtledger.ledger.facts import Accept, Cancel, FactId, Match, Order, Share
from crdtledger.matching.answers import reducible, stands
from crdtledger.matching.book import Book, Resting
from crdtledger.matching.events import (
    Asked,
    AskFor,
    DeskEvent,
    Ended,
    Heard,
    Holds,
    Record,
    Seen,
    Tick,
    Unrecorded,
)
from crdtledger.matching.match import FIRM, Incoming, Judgement, SelfMatch, match
from crdtledger.matching.orders import BUY, SELL, Name
from crdtledger.matching.queues import DeskLimits, DeskQueues
from crdtledger.matching.sharing import SharePolicy, Shares
from crdtledger.matching.standing import Standing, Standings
from crdtledger.matching.survival import Estimate, Survival
from crdtledger.matching.watching import watch

_NOTHING = Judgement(0)

Cell: TypeAlias = tuple[str, str]
"""(account, instrument)."""


class MatchingDesk(DeskQueues):
    """The desk of ``node``. ``ids``: fresh ids for the facts it writes."""

    def __init__(
        self,
        node: str,
        ids: Iterator[FactId],
        survival: Survival,
        limits: DeskLimits | None = None,
        sharing: SharePolicy | None = None,
        self_match: SelfMatch = "cancel-newest",
    ) -> None:
        super().__init__(limits or DeskLimits())
        self._node = node
        self._ids = ids
        self._survival = survival
        self._shares = Shares(node, ids, sharing or SharePolicy())
        self._self_match = self_match
        self._standings = Standings()
        self._books: dict[str, Book] = {}
        self._positions: dict[Cell, int] = {}
        self._asked: dict[FactId, Estimate] = {}  # our unanswered tentative matches, with what was thought of each
        self._unanswered: dict[Name, None] = {}  # matches of others that we have to answer
        self._dry: dict[
            Name, tuple[int, int]
        ] = {}  # makers of which a home gave less than asked -> ask when, how long after
        self._wished: dict[Name, int] = {}  # makers of which we asked for a share -> when
        self._expiring: dict[Name, int] = {}
        self._unfinished: dict[Name, None] = {}  # our orders that were stopped by the limit of proposals
        self._live = False

    # -- what can be looked at ------------------------------------------------------------------------------

    @property
    def node(self) -> str:
        """Whose desk this is."""
        return self._node

    @property
    def survival(self) -> Survival:
        """The model that says how likely a match is to stand."""
        return self._survival

    @property
    def unanswered(self) -> int:
        """Our tentative matches that wait for an answer."""
        return len(self._asked)

    def book(self, instrument: str) -> Book:
        """The book as seen from here. To be looked at only."""
        return self._books.setdefault(instrument, Book())

    def standing(self, name: Name) -> Standing | None:
        """What is known of an order. To be looked at only."""
        return self._standings.orders.get(name)

    def asked(self, answer: Accept) -> Match | None:
        """The match that an answer is about, if it has been seen."""
        question = self._standings.matches.get((answer.match_home, answer.match))
        return question.match if question is not None else None

    # -- events ---------------------------------------------------------------------------------------------

    def resume(
        self, standings: Iterable[Standing], asked: Sequence[tuple[Name, Match]], before: MatchingDesk | None
    ) -> None:
        """Take up what lanes have come to, instead of reading them: orders, and tentative matches without an answer. ``before``: the desk
        whose place this one takes: what it thought of its own matches is learned from when their answers come, who wanted shares is known,
        and so is which orders a home would not give more of: else it would be asked again after every checkpoint."""
        for standing in standings:
            self._standings.orders[standing.name] = standing
            self._refresh((standing,))
            order = standing.order
            if order is None or standing.name[0] != self._node or standing.closed:
                continue
            if order.expires_us:
                self._expiring[standing.name] = order.expires_us
            if not standing.visible() and standing.held(self._node) and not order.hidden:
                self._unfinished[standing.name] = None  # an order of the moment that was not gone through yet
        for name, one in asked:
            self._standings.question(name).match = one
            if one.maker_home == self._node:
                self._unanswered[name] = None
        if before is not None:
            ours = (one.id for name, one in asked if name[0] == self._node)
            self._asked = {id: before._asked[id] for id in ours if id in before._asked}
            self._wished, self._dry = before._wished, before._dry
            self._shares.take_over(before._shares)

    def begin(self, now_us: int) -> None:
        """The lanes have been read: answer what waits for an answer, and match from here on."""
        self._live = True
        for name in list(self._unanswered):
            self._answer(name, now_us)
        for standing in list(self._standings.orders.values()):
            self._hand_back(standing)
        self._tick(now_us)

    def _step(self, event: DeskEvent, now_us: int) -> None:
        match event:
            case Seen():
                self._seen(event, now_us)
            case Heard():
                self._survival.heard(event.node, event.upto_us, now_us)
            case Tick():
                self._tick(now_us)
            case Asked():
                self._give(event, now_us)
            case Holds():
                self._positions[event.account, event.instrument] = event.qty
            case Unrecorded():
                if self._asked.pop(event.fact.id, None) is not None or event.fact.survival == FIRM:
                    self._refresh(self._standings.unapply(self._node, event.fact))
            case Ended():
                self._forget(event)

    def _forget(self, ended: Ended) -> None:
        for name in ended.orders:
            standing = self._standings.orders.get(name)
            if standing is not None and standing.order is not None and name in self.book(standing.order.instrument):
                self.book(standing.order.instrument).remove(name)
            for known in (self._dry, self._wished, self._expiring, self._unfinished):
                known.pop(name, None)
        self._standings.forget(ended.orders, ended.matches)

    def _seen(self, event: Seen, now_us: int) -> None:
        fact, writer = event.fact, event.node
        own = writer == self._node
        if own and self._live and self._standings.counts(writer, fact):
            return  # we wrote it, and went on as if it were recorded
        touched = self._standings.apply(writer, fact, event.place)
        self._refresh(touched)
        if not own:
            self._survival.recorded(writer, event.recorded_us, now_us)
            watch(self._survival, self._standings, event, self._node)
        match fact:
            case Order() if touched:
                self._order(touched[0], fact, own, now_us)
                for replaced in touched[1:]:
                    self._hand_back(replaced)
            case Cancel():
                self._hand_back(touched[0])
            case Match():
                name = (writer, fact.id)
                if fact.maker_home == self._node and self._standings.matches[name].open:
                    self._unanswered[name] = None
                    if self._live:
                        self._answer(name, now_us)
            case Accept():
                if own:
                    self._unanswered.pop((fact.match_home, fact.match), None)
                if fact.match_home == self._node:
                    self._answered(fact, now_us)
            case Share():
                if fact.node == fact.home:
                    self._dry.pop((fact.home, fact.order), None)
                if fact.node == self._node and self._live:
                    for standing in touched:
                        self._hand_back(standing)
                        if standing.order is not None:
                            self._uncross(standing.order.instrument, now_us)

    # -- our orders -----------------------------------------------------------------------------------------

    def _order(self, standing: Standing, order: Order, own: bool, now_us: int) -> None:
        if own and order.expires_us:
            self._expiring[standing.name] = order.expires_us
        if not self._live or order.hidden:
            return
        if own:
            self._match(standing, now_us)
            for share in self._shares.spread(standing, now_us):
                self._write(share)
        else:
            self._uncross(order.instrument, now_us)

    def _match(self, taker: Standing, now_us: int) -> None:
        """Match what is open of an order of ours, as the taker."""
        order, qty = taker.order, taker.held(self._node)
        if order is None or not qty:
            return
        book = self.book(order.instrument)
        incoming = self._incoming(order, taker, qty)
        thought: dict[Name, Estimate] = {}

        def judge(maker: Resting, wanted: int) -> Judgement:
            return self._judge(taker, maker, wanted, book, thought, now_us)

        limit = 1 << 30 if order.tif == "fok" else self._limits.proposals
        outcome = match(book, incoming, judge, now_us, limit)
        for proposal in outcome.proposals:
            home, maker = proposal.maker
            fact = Match(
                id=next(self._ids),
                taker=order.id,
                maker_home=home,
                maker=maker,
                qty=proposal.qty,
                price=proposal.price,
                survival=proposal.survival,
            )
            if proposal.survival != FIRM:
                self._asked[fact.id] = thought[proposal.maker]
            self._write(fact, (home,) if home != self._node else ())
        if outcome.cancelled and not outcome.rest:
            self._write(Cancel(id=next(self._ids), order=order.id), reason=outcome.reason)
        elif outcome.rest and not taker.visible():
            self._unfinished[taker.name] = None
        for name, missing in outcome.passed:
            self._wish(name, missing, now_us)

    def _wish(self, maker: Name, missing: int, now_us: int) -> None:
        """Ask for a share, but not again and again."""
        asked_us = self._wished.get(maker)
        if asked_us is not None and now_us - asked_us < self._limits.patience_us:
            return
        if len(self._wished) >= self._limits.unanswered:
            del self._wished[next(iter(self._wished))]
        self._wished[maker] = now_us
        self._put(AskFor(maker, missing))

    def _incoming(self, order: Order, taker: Standing, qty: int) -> Incoming:
        terms = (order.tif, order.market, order.post_only, order.reduce_only, order.expires_us, order.min_survival)
        return Incoming(order.account, taker.sign, qty, order.price, *terms, self._self_match, self._position(taker))

    def _judge(
        self, taker: Standing, maker: Resting, wanted: int, book: Book, thought: dict[Name, Estimate], now_us: int
    ) -> Judgement:
        standing = self._standings.orders[maker.name]
        assert taker.place is not None
        if maker.place > taker.place:
            return _NOTHING  # it came later: its home matches it with ours
        firm = standing.held(self._node)
        if maker.name[0] == self._node:
            assert standing.order is not None
            return Judgement(
                min(firm, reducible(standing, self._position(standing))) if standing.order.reduce_only else firm
            )
        free = standing.free()
        if not free and wanted > firm:
            self._wish(maker.name, wanted - firm, now_us)  # others hold it: none of them may be there to match it
        if (
            not free
            or wanted <= firm
            or now_us < self._dry.get(maker.name, (0, 0))[0]
            or len(self._asked) + len(thought) >= self._limits.unanswered
        ):
            return Judgement(firm)
        estimate = self._survival.estimate(standing, min(wanted - firm, free), book, now_us)
        thought[maker.name] = estimate
        return Judgement(firm, free, estimate.ppm)

    def _uncross(self, instrument: str, now_us: int) -> None:
        """Match on those of our orders that rest although they cross: something earlier turned up, or was too unlikely before."""
        book = self.book(instrument)
        bid, offer = book.best(BUY), book.best(SELL)
        if bid is None or offer is None or bid < offer:
            return
        for sign, against in ((BUY, offer), (SELL, bid)):
            for level in list(book.side(sign).ordered()):
                if sign * (level.price - against) < 0:
                    break
                for resting in level.orders():
                    standing = self._standings.orders[resting.name]
                    if resting.name[0] == self._node and standing.order is not None:
                        if standing.order.post_only:
                            self._withdraw_if_later(standing, book)
                        else:
                            self._match(standing, now_us)

    def _withdraw_if_later(self, standing: Standing, book: Book) -> None:
        level = book.side(-standing.sign).best()
        assert standing.order is not None
        assert standing.place is not None
        if level is not None and any(maker.place < standing.place for maker in level.orders()):
            self._write(
                Cancel(id=next(self._ids), order=standing.order.id), reason="post-only, and an earlier order crosses it"
            )

    def _answered(self, answer: Accept, now_us: int) -> None:
        """One of our tentative matches was answered."""
        estimate = self._asked.pop(answer.match, None)
        asked = self._standings.matches[self._node, answer.match].match
        if asked is None or not self._live:
            return
        if estimate is not None:
            self._survival.learn(estimate, answer.qty >= asked.qty, now_us)
        self._learn_what_is_left((asked.maker_home, asked.maker), answer.qty >= asked.qty, now_us)
        taker = self._standings.orders.get((self._node, asked.taker))
        if taker is None or not taker.held(self._node) or answer.qty >= asked.qty:
            return
        if taker.visible():
            self._match(taker, now_us)
        else:
            self._write(Cancel(id=next(self._ids), order=asked.taker), reason="what it met at once did not stand")

    def _learn_what_is_left(self, maker: Name, stood: bool, now_us: int) -> None:
        """A home that gives less than it was asked for is not asked again for a while; every time for twice as long."""
        _, waited_us = self._dry.pop(maker, (0, 0))
        if stood:
            return
        if len(self._dry) >= self._limits.unanswered:
            del self._dry[next(iter(self._dry))]
        wait_us = 2 * waited_us or self._limits.patience_us
        self._dry[maker] = now_us + wait_us, wait_us

    def _tick(self, now_us: int) -> None:
        if not self._live:
            return
        for name in [name for name, expires_us in self._expiring.items() if expires_us <= now_us]:
            del self._expiring[name]
            standing = self._standings.orders.get(name)
            if standing is not None and not standing.closed and standing.held(self._node):
                self._write(Cancel(id=next(self._ids), order=name[1]), reason="its time is past")
        unfinished, self._unfinished = self._unfinished, {}
        for name in unfinished:
            self._match(self._standings.of(name), now_us)
        for instrument in self._books:
            self._uncross(instrument, now_us)

    # -- our answers ----------------------------------------------------------------------------------------

    def _answer(self, name: Name, now_us: int) -> None:
        """Say how much of a match of another node stands: decided here, by the order of this lane."""
        self._unanswered.pop(name, None)
        asked = self._standings.matches[name].match
        assert asked is not None
        maker = self._standings.of((self._node, asked.maker))
        taker = self._standings.of((name[0], asked.taker))
        self._shares.wanted(maker, name[0], asked.qty, now_us)
        qty, reason = stands(asked, maker, taker, self._position(maker), now_us)
        answer = Accept(id=next(self._ids), match_home=name[0], match=name[1], qty=qty, reason=reason)
        self._write(answer, (name[0],), reason)

    def _position(self, standing: Standing) -> int:
        order = standing.order
        return self._positions.get((order.account, order.instrument), 0) if order is not None else 0

    # -- shares ---------------------------------------------------------------------------------------------

    def _give(self, asked: Asked, now_us: int) -> None:
        standing = self._standings.orders.get(asked.order)
        if standing is not None:
            for share in self._shares.give(standing, asked.node, asked.qty, now_us):
                self._write(share)

    def _hand_back(self, standing: Standing) -> None:
        if self._live:
            for share in self._shares.hand_back(standing):
                self._write(share, (share.home,))

    # -- writing --------------------------------------------------------------------------------------------

    def _write(self, fact: Match | Accept | Cancel | Share, deps: tuple[str, ...] = (), reason: str = "") -> None:
        """Have a fact recorded, and go on as if it were."""
        self._refresh(self._standings.apply(self._node, fact))
        self._put(Record(fact, deps, reason))

    def _refresh(self, touched: tuple[Standing, ...]) -> None:
        """Let the books show what is visible of these orders now."""
        for standing in touched:
            order = standing.order
            if order is None:
                continue
            book, visible = self.book(order.instrument), standing.visible()
            if standing.name in book:
                book.set(standing.name, visible)
            elif visible:
                book.add(standing.resting())
            if standing.closed and standing.name[0] == self._node:
                self._expiring.pop(standing.name, None)
