"""Orders and matches as rows to be read: integers in minor units, the same bytes at every replica that holds the same facts.

What a row says of quantities is provisional like any other figure of a view: ``filled`` is settled, ``matched`` is not yet.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from crdtledger.ledger.orderfacts import Name
from crdtledger.ledger.orders import Orders, Record


class OrderRow(msgspec.Struct, frozen=True, kw_only=True):
    """One order. ``open``: all that can still be matched; ``held``: how much of it by which node, zeros left out. ``filled``: settled.
    ``matched``: firm or accepted, not settled. ``asked``: tentative matches on it without an answer; ``asking``: its own on others.

    ``place``: (clock, lane, seq, row), what orders of one price are sorted by. ``state``: ``open``; ``waiting`` (nothing is open, something
    unanswered); ``closed`` (cancelled or amended); ``filled``. ``shown``: (quantity, price) of a hidden order that was revealed.
    """

    home: str
    id: str
    account: str
    instrument: str
    definition: bytes
    side: int
    qty: int
    price: int
    tif: str
    market: bool
    post_only: bool
    reduce_only: bool
    expires_us: int
    min_survival: int
    reserve: str
    amends: str
    hidden: str
    open: int
    held: tuple[tuple[str, int], ...]
    filled: int
    matched: int
    asked: int
    asking: int
    state: Literal["open", "waiting", "closed", "filled"]
    place: tuple[int, bytes, int, int]
    shown: tuple[int, int] | None
    settled: bool

    @property
    def name(self) -> Name:
        return self.home, self.id


class MatchRow(msgspec.Struct, frozen=True, kw_only=True):
    """One match that is not settled. ``state``: ``firm``, ``tentative``, ``accepted`` or ``refused``; ``stands``: as much of it as is firm
    or accepted. ``settled``: a checkpoint has it, and its maker's home has not answered there. ``survival`` in ppm, 0 for a firm one."""

    home: str
    id: str
    taker: str
    maker_home: str
    maker: str
    instrument: str
    qty: int
    price: int
    survival: int
    stands: int
    state: Literal["firm", "tentative", "accepted", "refused"]
    reason: str
    settled: bool


def order_rows(orders: Orders) -> list[OrderRow]:
    """Every order that is known, sorted by home, then id."""
    records = (orders.get(name) for name in orders.names())
    return [_order(record) for record in records if record is not None]


def _order(record: Record) -> OrderRow:
    terms = record.terms
    assert terms is not None
    fields = msgspec.structs.asdict(terms)
    held = ((node, record.open_at(node)) for node in sorted(record.held))
    shown = record.shown[min(record.shown)][1:] if record.shown else None
    return OrderRow(
        home=record.home,
        id=record.id,
        **fields,
        open=record.open,
        held=tuple((node, qty) for node, qty in held if qty),
        filled=record.tally.filled,
        matched=record.matched,
        asked=record.asked,
        asking=record.asking,
        state=_state(record),
        place=record.place,
        shown=shown,
        settled=record.settled,
    )


def _state(record: Record) -> Literal["open", "waiting", "closed", "filled"]:
    if record.open:
        return "open"
    if record.asked or record.asking:
        return "waiting"
    return "closed" if record.closers else "filled"


def match_rows(orders: Orders) -> list[MatchRow]:
    """Every match that is not settled, or waits settled for its answer, sorted by its writer's node, then id."""
    return [_match(orders, name) for name in sorted({*orders.matches(), *orders.pending_names()})]


def _match(orders: Orders, name: Name) -> MatchRow:
    fact, pending = orders.match(name), orders.pending(name)
    if fact is not None:
        maker, taker, qty, price, survival = fact.about, fact.taker, fact.qty, fact.price, fact.survival
    else:
        assert pending is not None
        maker, taker, qty = pending.maker, pending.taker, pending.held
        price, survival = pending.price, pending.survival
    answer = orders.answer(name)
    order = orders.get(maker) or orders.get(taker)  # the maker may be done and settled
    stands = qty if fact is not None and fact.firm else min(answer.qty, qty) if answer else 0
    state: Literal["firm", "tentative", "accepted", "refused"]
    if fact is not None and fact.firm:
        state = "firm"
    elif answer is None:
        state = "tentative"
    else:
        state = "accepted" if stands else "refused"
    return MatchRow(
        home=name[0],
        id=name[1],
        taker=taker[1],
        maker_home=maker[0],
        maker=maker[1],
        instrument=order.terms.instrument if order is not None and order.terms is not None else "",
        qty=qty,
        price=price,
        survival=survival,
        stands=stands,
        state=state,
        reason=answer.text if answer else "",
        settled=fact is None,
    )
