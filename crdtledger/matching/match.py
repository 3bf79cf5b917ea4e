"""Matching one incoming order against a book: what venues mean by their order types, over quantity that may be only probably there.

Price-time priority: the best level first, in it the earliest. A trade is at the maker's price. The kinds, as exchanges have them:

- *limit* trades at its price or better, and rests with what is left. *Market* does so too, bounded by the worst price that every order
  names, but never rests.
- *ioc* (immediate or cancel): what does not trade at once is cancelled.
- *fok* (fill or kill): all at once or nothing. Only firm quantity counts: all-or-nothing cannot be promised of what others may refuse.
- *post-only* is refused if it would trade at once. *Reduce-only* trades no more than brings the account's position to zero; the rest of
  it is cancelled. *gtt* (good till time) is refused when its time is past.
- *Self-match prevention*, by account: an order that meets one of its own account is stopped there and what is left of it cancelled (cancel
  newest, the default of most venues: the incoming order is homed here, the resting one perhaps not). ``skip`` passes the resting one over
  instead, and may leave the book crossed with itself.

How probable the quantity of a maker is, a ``Judge`` says: as much of it firm, as much tentative with a survival in ppm. Tentative
quantity whose survival is below the order's ``min_survival`` is passed over, named in ``passed``, and the walk goes on: the order's own
price bounds what that can cost. A maker may give a firm and a tentative part, which become two proposals.

``match`` takes what it proposes off the book. What comes of a proposal (recorded, refused) is the desk's affair.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import msgspec

from crdtledger.ledger.facts import TimeInForce
from crdtledger.matching.book import Book, Resting, Side
from crdtledger.matching.orders import Name

FIRM: Final = 0
"""The survival written on a firm match."""

_OWN: Final = "it met an order of its own account"

SelfMatch: TypeAlias = Literal["cancel-newest", "skip"]


class Judgement(msgspec.Struct, frozen=True, gc=False):
    """Of a maker's open quantity, ``firm`` may be taken for sure and ``tentative`` with ``survival`` (ppm)."""

    firm: int
    tentative: int = 0
    survival: int = 0


Judge: TypeAlias = Callable[[Resting, int], Judgement]
"""(maker, how much of it is wanted at most) -> what may be taken of it."""


class Incoming(msgspec.Struct, frozen=True, gc=False):
    """The order to match, with what of it is open. Fields as in ``facts.Order``. ``position``: signed, what a reduce-only order reduces."""

    account: str
    side: int
    qty: int
    price: int
    tif: TimeInForce = "gtc"
    market: bool = False
    post_only: bool = False
    reduce_only: bool = False
    expires_us: int = 0
    min_survival: int = 0
    self_match: SelfMatch = "cancel-newest"
    position: int = 0


class Proposal(msgspec.Struct, frozen=True, gc=False):
    """Take ``qty`` of ``maker`` at ``price``. ``survival``: ``FIRM``, or the ppm of a tentative one."""

    maker: Name
    qty: int
    price: int
    survival: int = FIRM


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What became of an incoming order: proposals, ``rest`` that goes on resting, ``cancelled`` that does not, with the ``reason``.
    ``passed``: (maker, qty) whose survival was too low: rights could be asked for. The quantities add up to what came in."""

    proposals: tuple[Proposal, ...] = ()
    rest: int = 0
    cancelled: int = 0
    reason: str = ""
    passed: tuple[tuple[Name, int], ...] = ()


def match(book: Book, order: Incoming, judge: Judge | None = None, now_us: int = 0, limit: int = 1 << 30) -> Outcome:
    """Match ``order`` now, and take what it gets off the book. Without a ``judge`` everything is firm. At most ``limit`` proposals are
    made; an order stopped by that rests with what is left, whatever its kind, and can be matched on. It never raises for a kind of order.
    """
    if order.expires_us and order.expires_us <= now_us:
        return Outcome(cancelled=order.qty, reason="its time is past")
    qty = order.qty
    if order.reduce_only:
        qty = min(qty, max(0, -order.side * order.position))
        if not qty:
            return Outcome(cancelled=order.qty, reason="there is no position to reduce")
    side = book.side(-order.side)
    if order.post_only:
        best = side.best()
        if best is not None and order.side * (order.price - best.price) >= 0:
            return Outcome(cancelled=order.qty, reason="post-only, and it would trade at once")
        return _ended(order, qty, (), "", ())
    if order.tif == "fok" and _firm(side, order, qty, judge) < qty:
        return Outcome(cancelled=order.qty, reason="fill or kill, and not all of it can be had for sure")
    if judge is None and order.self_match == "cancel-newest":
        taken, left, met = book.sweep(order.side, order.account, qty, order.price)
        return _ended(order, left, tuple([Proposal(*one) for one in taken]), _OWN if met else "", ())
    return _walk(book, side, order, qty, judge or _all_firm, limit)


def _all_firm(resting: Resting, wanted: int) -> Judgement:
    return Judgement(resting.qty)


def _firm(side: Side, order: Incoming, wanted: int, judge: Judge | None) -> int:
    """How much of ``wanted`` can be had for sure."""
    sure = 0
    for level in side.ordered():
        if order.side * (order.price - level.price) < 0:
            break
        for resting in level.orders():
            if resting.account == order.account:
                if order.self_match == "cancel-newest":
                    return sure
                continue
            sure += resting.qty if judge is None else min(resting.qty, judge(resting, wanted - sure).firm)
            if sure >= wanted:
                return sure
    return sure


def _walk(book: Book, side: Side, order: Incoming, qty: int, judge: Judge, limit: int) -> Outcome:
    """The general way: level by level and order by order, with a judgement for each."""
    proposals: list[Proposal] = []
    passed: list[tuple[Name, int]] = []
    reason = ""
    for level in side.ordered():
        if not qty or reason or order.side * (order.price - level.price) < 0:
            break
        for resting in level.orders():
            if not qty:
                break
            if len(proposals) + 2 > limit:
                return Outcome(
                    tuple(proposals), rest=qty, cancelled=order.qty - _sum(proposals) - qty, passed=tuple(passed)
                )
            judged = judge(resting, qty)
            if not judged.firm and not judged.tentative:
                continue  # not ours to match, or nothing to be had
            if resting.account == order.account:
                if order.self_match == "skip":
                    continue
                reason = _OWN
                break
            firm = min(qty, judged.firm, resting.qty)
            likely = min(qty - firm, judged.tentative, resting.qty - firm)
            if order.tif == "fok":
                likely = 0
            if likely and judged.survival < max(order.min_survival, 1):
                passed.append((resting.name, likely))
                likely = 0
            if firm:
                proposals.append(Proposal(resting.name, firm, level.price))
            if likely:
                proposals.append(Proposal(resting.name, likely, level.price, judged.survival))
            if firm + likely:
                qty -= firm + likely
                book.set(resting.name, resting.qty - firm - likely)
    return _ended(order, qty, tuple(proposals), reason, tuple(passed))


def _sum(proposals: list[Proposal]) -> int:
    return sum(proposal.qty for proposal in proposals)


def _ended(
    order: Incoming, left: int, proposals: tuple[Proposal, ...], reason: str, passed: tuple[tuple[Name, int], ...]
) -> Outcome:
    """``left`` of what was matched on rests or is cancelled, by the kind of the order; what reduce-only cut off is cancelled."""
    traded = sum([proposal.qty for proposal in proposals])
    if left and not reason and (order.market or order.tif in ("ioc", "fok")):
        reason = "nothing more to trade with at its price"
    rest = 0 if reason else left
    cancelled = order.qty - traded - rest
    if cancelled and not reason:
        reason = "it would do more than reduce the position"
    return Outcome(proposals, rest, cancelled, reason if cancelled else "", passed)
