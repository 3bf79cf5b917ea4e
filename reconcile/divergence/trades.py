"""The single trades behind a difference: the ledger's fills against a statement's lines.

Trades are matched in this order, and each takes part once:

1. By id. What the ledger holds under one id (legs, less what was taken back) is held against what the statement lists under it.
2. One against many: a trade that one side lists whole and the other in parts. A statement's lines that name an order are taken
   together when the ledger has a fill by that id; else an unbroken run in time, of the same account, instrument and side, within
   ``window_us``, whose quantity and value add up to exactly the one trade. Two trades with other ids and like terms are *not* taken for
   one: ids are what identity is.

Matched trades may still differ in fees. Everything left is missing on one side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec

WINDOW_US: Final = 60_000_000


class Trade(msgspec.Struct, frozen=True, kw_only=True):
    """One trade as a side lists it. Integers at the instrument's decimals, ``fee`` at those of ``fee_asset``; ``side`` +1 bought, -1
    sold. ``fee_named``: whether the fact itself names its fee's asset. ``place``: ``file:line``, or ``lane#seq[row]``. ``group``: the
    order that a statement's line belongs to, if it says one."""

    id: str
    account: str
    instrument: str
    side: int
    qty: int
    price: int
    fee: int = 0
    fee_asset: str = ""
    fee_named: bool = True
    ts_us: int = 0
    place: str = ""
    group: str = ""
    venue: str = ""
    id_space: str = "trade"
    leg: str = ""


class TradeGap(msgspec.Struct, frozen=True):
    """Trades that are not the same on both sides. ``field``: the first thing that differs; ``fill`` when one side has none."""

    field: Literal["fill", "account", "side", "qty", "price", "fees"]
    ours: tuple[Trade, ...]
    theirs: tuple[Trade, ...]

    @property
    def first(self) -> Trade:
        """A trade of the side that has one."""
        return (self.ours or self.theirs)[0]


class Matched(msgspec.Struct, frozen=True):
    """``same``: trades of ours that agree; ``split``: how many of them one against many."""

    gaps: tuple[TradeGap, ...]
    same: int
    split: int


def match_trades(ours: Iterable[Trade], theirs: Iterable[Trade], window_us: int = WINDOW_US) -> Matched:
    """Hold the ledger's trades against a statement's. Gaps come sorted by account, instrument and id."""
    left, right = _by_id(ours), _by_id(theirs)
    pairs = [(left.pop(key), right.pop(key)) for key in sorted(left.keys() & right.keys())]
    lone_left = [trade for some in left.values() for trade in some]
    lone_right = [trade for some in right.values() for trade in some]
    runs = [*_by_order(lone_left, lone_right), *_runs(lone_left, lone_right, window_us)]
    runs += [(ours, theirs) for theirs, ours in _runs(lone_right, lone_left, window_us)]
    gaps: list[TradeGap] = []
    same = 0
    for mine, other in (*pairs, *runs):
        field = _differs(mine, other)
        same += len(mine) if field is None else 0
        if field is not None:
            gaps.append(TradeGap(field, tuple(mine), tuple(other)))
    gaps += [TradeGap("fill", (trade,), ()) for trade in lone_left]
    gaps += [TradeGap("fill", (), (trade,)) for trade in lone_right]
    gaps.sort(key=lambda gap: (gap.first.account, gap.first.instrument, gap.first.id))
    return Matched(tuple(gaps), same, len(runs))


def _by_id(trades: Iterable[Trade]) -> dict[tuple[str, str], list[Trade]]:
    out: dict[tuple[str, str], list[Trade]] = defaultdict(list)
    for trade in trades:
        out[trade.instrument, trade.id].append(trade)
    return dict(out)


def _differs(
    ours: Sequence[Trade], theirs: Sequence[Trade]
) -> Literal["account", "side", "qty", "price", "fees"] | None:
    """The first thing that differs between trades that are meant to be the same."""
    if {trade.account for trade in ours} != {trade.account for trade in theirs}:
        return "account"
    qty, other = _qty(ours), _qty(theirs)
    if qty != other:
        return "side" if qty == -other else "qty"
    if _value(ours) != _value(theirs):
        return "price"
    return None if fees(ours) == fees(theirs) else "fees"


def _qty(trades: Iterable[Trade]) -> int:
    return sum(trade.side * trade.qty for trade in trades)


def _value(trades: Iterable[Trade]) -> int:
    return sum(trade.side * trade.qty * trade.price for trade in trades)


def fees(trades: Iterable[Trade]) -> dict[str, int]:
    """Fees by asset, zeros left out."""
    out: dict[str, int] = {}
    for trade in trades:
        out[trade.fee_asset] = out.get(trade.fee_asset, 0) + trade.fee
    return {asset: fee for asset, fee in sorted(out.items()) if fee}


def _by_order(ours: list[Trade], theirs: list[Trade]) -> list[tuple[list[Trade], list[Trade]]]:
    """Lines of one order against the ledger's fill by the order's id. What is matched leaves the lists."""
    orders: dict[tuple[str, str], list[Trade]] = defaultdict(list)
    for trade in theirs:
        if trade.group:
            orders[trade.instrument, trade.group].append(trade)
    out = []
    for trade in list(ours):
        parts = orders.pop((trade.instrument, trade.id), None)
        if parts:
            out.append(([trade], parts))
            ours.remove(trade)
            for part in parts:
                theirs.remove(part)
    return out


def _runs(whole: list[Trade], parts: list[Trade], window_us: int) -> list[tuple[list[Trade], list[Trade]]]:
    """Each of ``whole`` against a run of two or more of ``parts`` that adds up to it. What is matched leaves the lists."""
    lots: dict[tuple[str, str, int], list[Trade]] = defaultdict(list)
    for trade in sorted(parts, key=lambda trade: (trade.ts_us, trade.id)):
        lots[trade.account, trade.instrument, trade.side].append(trade)
    out = []
    for one in sorted(whole, key=lambda trade: (trade.ts_us, trade.id)):
        lot = lots.get((one.account, one.instrument, one.side), [])
        run = _run(one, lot, window_us)
        if run:
            out.append(([one], run))
            whole.remove(one)
            for part in run:
                lot.remove(part)
                parts.remove(part)
    return out


def _run(one: Trade, lot: Sequence[Trade], window_us: int) -> list[Trade]:
    """Two ends of a window over the lot: quantities are above zero, so it only ever moves on."""
    near = [trade for trade in lot if abs(trade.ts_us - one.ts_us) <= window_us]
    start, qty = 0, 0
    for end, trade in enumerate(near, 1):
        qty += trade.qty
        while qty > one.qty:
            qty -= near[start].qty
            start += 1
        run = near[start:end]
        if qty == one.qty and len(run) > 1 and _value(run) == _value([one]):
            return run
    return []
