"""What a maker's home says to a match: how much of it stands, and why not more. A function of what its own lane has said so far."""

from __future__ import annotations

from crdtledger.ledger.facts import Match
from crdtledger.matching.standing import Standing


def stands(asked: Match, maker: Standing, taker: Standing, position: int, now_us: int) -> tuple[int, str]:
    """(how much of a match stands, why not all of it). ``position`` is that of the maker's account, for reduce-only orders."""
    order, by = maker.order, taker.order
    if order is None or by is None:
        return 0, "no such order"
    if maker.closed:
        return 0, "the order was cancelled"
    if by.instrument != order.instrument or by.side == order.side or asked.price != order.price:
        return 0, "the match is not on the order's terms"
    if maker.sign * (order.price - by.price) < 0:
        return 0, "the match is worse than its taker's limit"
    if by.account == order.account:
        return 0, "both orders are of one account"
    if order.expires_us and order.expires_us <= now_us:
        return 0, "the order's time is past"
    held = maker.held(maker.name[0])
    if order.reduce_only:
        held = min(held, reducible(maker, position))
    if held >= asked.qty:
        return asked.qty, ""
    return held, "only a part was left" if held else "nothing was left"


def reducible(standing: Standing, position: int) -> int:
    """How much of a reduce-only order brings ``position`` closer to zero."""
    return max(0, -standing.sign * position)
