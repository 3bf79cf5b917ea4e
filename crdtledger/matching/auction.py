"""A call auction: one price for all, as a pure function of the *set* of orders. Every replica that holds the same set computes the same
clearing, byte for byte, in whatever order the orders reached it.

The price, by the four rules that stock exchanges publish for their call auctions (London Stock Exchange, Guide to the Trading System,
auction price determination; Xetra market model, price determination in auctions; they agree). Each rule only breaks ties of the one before:

1. *Maximum volume*: what can trade at a price is the smaller of what is bid at it or above and what is offered at it or below.
2. *Minimum imbalance*: the least that is left over, on either side.
3. *Market pressure*: if every price that remains leaves buyers over, the highest; if every one leaves sellers over, the lowest.
4. *Reference price*: of what remains, the nearest to the reference price. Without a reference, the lowest.

Prices are integers, and every integer is a candidate, not only the limits of orders: between two limits demand and supply are constant, so
only limits, and one price on either side of each, need looking at. Where buyers are left over at a price and sellers at the next one, by
the same least amount, both remain for rule 4.

Who gets how much: at the price, the side with more is rationed. First market orders, then limit orders from the better limit to the worse,
equals by place (time in their homes' lanes), then by name. No order gets more than its quantity or a price beyond its limit; a market
order, too, names the worst price it takes and is not in the auction beyond it.

An account may stand on both sides. The price is the same for both, so it gains nothing; taking its orders out would let it move
the price for others by withdrawing itself. What it would trade with itself is named in ``own``: settlement moves nothing for that part.

What is not here: which instrument is auctioned and when, whose hidden orders were opened in time (see ``commitment``), fees.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import Final

import msgspec

from crdtledger.matching.orders import BUY, SELL, Name, OpenOrder, Place, name_key

_encoder: Final = msgspec.msgpack.Encoder()


class Allocation(msgspec.Struct, frozen=True):
    """The order ``name`` of ``account`` trades ``qty`` at the clearing's price. More than 0."""

    name: Name
    account: str
    side: int
    qty: int


class Pair(msgspec.Struct, frozen=True):
    """``qty`` goes from the order ``seller`` to the order ``buyer``."""

    buyer: Name
    seller: Name
    qty: int


class Clearing(msgspec.Struct, frozen=True):
    """What an auction comes to. Without a trade ``price`` is None and the rest is empty.

    ``imbalance``: bid less offered at the price, so positive if buyers are left over. ``bought`` and ``sold`` add up to ``volume``
    each, and stand in the order of priority. ``own``: (account, qty) that it would trade with itself, sorted by account.
    """

    price: int | None = None
    volume: int = 0
    imbalance: int = 0
    bought: tuple[Allocation, ...] = ()
    sold: tuple[Allocation, ...] = ()
    own: tuple[tuple[str, int], ...] = ()

    def encode(self) -> bytes:
        """The clearing as bytes: equal bytes, equal clearings."""
        return _encoder.encode(self)

    def pairs(self) -> tuple[Pair, ...]:
        """Who trades with whom, if somebody must be named: both sides in order of priority, each filled from the other's first.

        It names at most one pair fewer than there are allocations. Every pair has the same price, so nothing depends on it.
        """
        out: list[Pair] = []
        sellers = iter(self.sold)
        seller, offered = None, 0
        for buyer in self.bought:
            wanted = buyer.qty
            while wanted:
                if not offered:
                    seller = next(sellers)
                    offered = seller.qty
                assert seller is not None
                qty = min(wanted, offered)
                out.append(Pair(buyer.name, seller.name, qty))
                wanted -= qty
                offered -= qty
        return tuple(out)


def clear(orders: Iterable[OpenOrder], reference_price: int | None = None) -> Clearing:
    """The clearing of a set of orders. An order that appears twice counts once; of two with one name, the first in the order of their
    encoding. Orders of quantity or price 0 or less take no part.
    """
    unique: dict[Name, OpenOrder] = {}
    for order in sorted(orders, key=_encoder.encode):
        if order.qty > 0 and order.price > 0:
            unique.setdefault(order.name, order)
    buys = [order for order in unique.values() if order.side == BUY]
    sells = [order for order in unique.values() if order.side == SELL]
    found = _price(buys, sells, reference_price)
    if found is None:
        return Clearing()
    price, volume, imbalance = found
    bought = _ration([order for order in buys if order.price >= price], volume)
    sold = _ration([order for order in sells if order.price <= price], volume)
    return Clearing(price, volume, imbalance, bought, sold, _own(bought, sold))


def _price(buys: list[OpenOrder], sells: list[OpenOrder], reference: int | None) -> tuple[int, int, int] | None:
    """(price, volume, imbalance), or None if nothing trades."""
    limits = {order.price for order in buys} | {order.price for order in sells}
    prices = sorted(limits | {p + 1 for p in limits} | {p - 1 for p in limits if p > 1})
    bid, offered = _bid(buys, prices), _offered(sells, prices)
    volume = max(map(min, bid, offered), default=0)
    if volume == 0:
        return None
    left = [(p, b - o) for p, b, o in zip(prices, bid, offered, strict=True) if min(b, o) == volume]
    least = min(abs(over) for _, over in left)
    left = [(p, over) for p, over in left if abs(over) == least]
    (low, over_low), (high, over_high) = left[0], left[-1]
    if over_low > 0 and over_high > 0:
        low, over_low = high, over_high
    elif over_low < 0 and over_high < 0:
        high = low
    elif over_low > 0:  # buyers are left over below, sellers above: only the two prices where that turns remain
        low = max(p for p, over in left if over > 0)
        high = min(p for p, over in left if over < 0)
    price = low if reference is None else min(max(reference, low), high)
    return price, volume, over_low if price == low else over_high


def _bid(buys: list[OpenOrder], prices: list[int]) -> list[int]:
    """What is bid at each of the rising ``prices`` or above."""
    at: dict[int, int] = {}
    for order in buys:
        at[order.price] = at.get(order.price, 0) + order.qty
    return list(accumulate(at.get(price, 0) for price in reversed(prices)))[::-1]


def _offered(sells: list[OpenOrder], prices: list[int]) -> list[int]:
    """What is offered at each of the rising ``prices`` or below."""
    at: dict[int, int] = {}
    for order in sells:
        at[order.price] = at.get(order.price, 0) + order.qty
    return list(accumulate(at.get(price, 0) for price in prices))


def priority(order: OpenOrder) -> tuple[bool, int, Place, tuple[str, str]]:
    """What orders of one side are served by, first the least: market orders, the better limit, the earlier place, the name."""
    return not order.market, 0 if order.market else -order.side * order.price, order.place, name_key(order.name)


def _ration(orders: list[OpenOrder], volume: int) -> tuple[Allocation, ...]:
    out = []
    for order in sorted(orders, key=priority):
        qty = min(order.qty, volume)
        if not qty:
            break
        out.append(Allocation(order.name, order.account, order.side, qty))
        volume -= qty
    return tuple(out)


def _own(bought: tuple[Allocation, ...], sold: tuple[Allocation, ...]) -> tuple[tuple[str, int], ...]:
    sums: dict[str, list[int]] = {}
    for allocation in (*bought, *sold):
        both = sums.setdefault(allocation.account, [0, 0])
        both[allocation.side == SELL] += allocation.qty
    return tuple((account, min(both)) for account, both in sorted(sums.items()) if min(both))
