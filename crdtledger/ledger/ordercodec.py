"""Orders in the encoding of a settled state, and what decoding takes for granted of amounts: nothing.

Everything in it must be able to stand: orders under definitions that stand, quantities that add up, matches whose orders are there,
contracts of which as many are bought as sold. ``InvalidProof`` otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from crdtledger.errors import InvalidProof
from crdtledger.ledger.batch import LANE_BYTES, MAX_SEQ, parse_lane
from crdtledger.ledger.body import MAX_FACTS, is_text
from crdtledger.ledger.clock import MAX_TIMESTAMP
from crdtledger.ledger.facts import COMMITMENT, MAX_AMOUNT, PPM, TIFS
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.orderfacts import Name, Terms
from crdtledger.ledger.ordermoney import Drawn, Tally
from crdtledger.ledger.settledparts import Carried, Definition, PendingMatch, SettledOrder

if TYPE_CHECKING:
    from crdtledger.ledger.settled import SettledState

WHERE: Final = "settled state"
_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,79}")

_Lane = Annotated[bytes, msgspec.Meta(min_length=LANE_BYTES, max_length=LANE_BYTES)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)]
_Row = Annotated[int, msgspec.Meta(ge=0, lt=MAX_FACTS)]
_Qty = Annotated[int, msgspec.Meta(ge=1, le=MAX_AMOUNT)]
_Ppm = Annotated[int, msgspec.Meta(ge=0, le=PPM)]


class _Order(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    home: str
    id: str
    terms: Terms
    place: tuple[Annotated[int, msgspec.Meta(ge=0, le=MAX_TIMESTAMP)], _Lane, _Count, _Row]
    height: _Count
    open: tuple[tuple[int, _Qty], ...]
    closed: bool
    tally: tuple[str, str, str, str]
    drawn: tuple[str, str, str]
    shown: tuple[_Qty, _Qty] | None


class _Pending(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    name: Name
    taker: Name
    maker: Name
    held: _Qty
    qty: _Qty
    price: _Qty
    height: _Count
    number: _Count
    place: tuple[_Lane, _Count, _Row]
    survival: _Ppm


class Wire(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What matching has left in a state, sorted."""

    orders: tuple[_Order, ...]
    pending: tuple[_Pending, ...]
    carried: tuple[tuple[str, str, int, str], ...]
    prices: tuple[tuple[str, _Qty], ...]


def need(holds: bool, why: str) -> bool:
    """InvalidProof unless it holds."""
    if not holds:
        raise InvalidProof(WHERE, why)
    return True


def amount_of(text: str, least: int | None = 0) -> int:
    """The number that canonical decimal text spells."""
    # A state of many cells has some millions of these: what is wrong is put into words only when something is.
    if not _NUMBER.fullmatch(text):
        raise InvalidProof(WHERE, f"{text[:40]!r} is no amount")
    number = int(text)
    if least is not None and number < least:
        raise InvalidProof(WHERE, f"an amount of {number}")
    return number


def encode(state: SettledState) -> Wire:
    """The state's orders, matches, positions carried and settlement prices as they are spelt."""
    return Wire(
        tuple(_order(*name, state.orders[name]) for name in sorted(state.orders)),
        tuple(_Pending(name, *msgspec.structs.astuple(state.pending[name])) for name in sorted(state.pending)),
        tuple((*at, held.qty, str(held.margin)) for at, held in sorted(state.carried.items())),
        tuple(sorted(state.prices.items())),
    )


def _order(home: str, id: str, held: SettledOrder) -> _Order:
    tally, drawn = msgspec.structs.astuple(held.tally), msgspec.structs.astuple(held.drawn)
    return _Order(
        home,
        id,
        held.terms,
        held.place,
        held.height,
        held.open,
        held.closed,
        (str(tally[0]), str(tally[1]), str(tally[2]), str(tally[3])),
        (str(drawn[0]), str(drawn[1]), str(drawn[2])),
        held.shown,
    )


def decode(wire: Wire, genesis: Genesis, standing: Mapping[str, Definition]) -> dict[str, Any]:
    """The fields of a state by name. ``standing``: the definitions that stand, by name."""
    orders = {(one.home, one.id): _opened(one, genesis, standing) for one in wire.orders}
    pending = {one.name: _opened_pending(one, genesis, orders) for one in wire.pending}
    asking: dict[Name, int] = {}
    for match in pending.values():
        asking[match.taker] = asking.get(match.taker, 0) + match.held
    for name, order in orders.items():
        used = order.tally.filled + asking.get(name, 0) + sum(qty for _, qty in order.open)
        need(used <= order.terms.qty, f"order {name} has more than its quantity")
    carried = {(account, name): Carried(qty, amount_of(margin)) for account, name, qty, margin in wire.carried}
    contracts: dict[str, int] = {}
    for (account, instrument), held in carried.items():
        derivative = instrument in standing and standing[instrument].instrument.type != "spot"
        need(derivative and is_text(account), f"contracts of {instrument!r}, which is no derivative here")
        need(held.qty != 0, "nothing is carried")
        contracts[instrument] = contracts.get(instrument, 0) + held.qty
    need(not any(contracts.values()), "more contracts are bought than sold")
    prices = dict(wire.prices)
    need(
        all(name in standing and standing[name].instrument.type in ("perp", "future") for name in prices),
        "a price of nothing",
    )
    missing = {name for _, name in carried if standing[name].instrument.type in ("perp", "future")} - prices.keys()
    need(not missing, "contracts are carried at no price")
    return {"orders": orders, "pending": pending, "carried": carried, "prices": prices}


def _opened(one: _Order, genesis: Genesis, standing: Mapping[str, Definition]) -> SettledOrder:
    terms = one.terms
    what = f"order {one.home}/{one.id[:40]}"
    need(one.home in genesis.by_name and _is_id(one.id) and _is_id(terms.reserve), f"{what} is of nobody")
    need(parse_lane(one.place[1]).node == genesis.by_name[one.home].id, f"{what} is in another node's lane")
    known = terms.instrument in standing and standing[terms.instrument].digest == terms.definition
    need(known, f"{what} is for what does not stand")
    sound = abs(terms.side) == 1 and 1 <= terms.qty <= MAX_AMOUNT and 1 <= terms.price <= MAX_AMOUNT
    sound &= 0 <= terms.expires_us <= MAX_AMOUNT and 0 <= terms.min_survival <= PPM and terms.tif in TIFS
    sound &= is_text(terms.account) and (not terms.amends or _is_id(terms.amends))
    sound &= not terms.hidden or COMMITMENT.fullmatch(terms.hidden) is not None
    need(sound, f"{what} says what no order may")
    holders = [member for member, _ in one.open]
    need(
        holders == sorted(set(holders)) and all(0 <= m < len(genesis.nodes) for m in holders),
        f"{what} is held by nobody",
    )
    shown = one.shown is None or (bool(terms.hidden) and one.shown[0] <= terms.qty)
    need(shown, f"{what} shows what it does not hide")
    return SettledOrder(
        terms=terms,
        place=one.place,
        height=one.height,
        open=one.open,
        closed=one.closed,
        tally=Tally(*(amount_of(text) for text in one.tally)),
        drawn=Drawn(*(amount_of(text) for text in one.drawn)),
        shown=one.shown,
    )


def _opened_pending(one: _Pending, genesis: Genesis, orders: Mapping[Name, SettledOrder]) -> PendingMatch:
    home, id = one.name
    need(home in genesis.by_name and _is_id(id), "a match is of nobody")
    need(one.taker[0] == home and one.taker in orders and one.maker in orders, f"match {home}/{id[:40]} has no orders")
    need(one.maker[0] != home and one.held <= one.qty, f"match {home}/{id[:40]} waits for nobody")
    need(parse_lane(one.place[0]).node == genesis.by_name[home].id, f"match {home}/{id[:40]} is in another node's lane")
    return PendingMatch(
        taker=one.taker,
        maker=one.maker,
        held=one.held,
        qty=one.qty,
        price=one.price,
        height=one.height,
        number=one.number,
        place=one.place,
        survival=one.survival,
    )


def _is_id(id: str) -> bool:
    return bool(id) and is_text(id)
