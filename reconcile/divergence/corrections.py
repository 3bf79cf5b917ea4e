"""The exact facts that would close a break, as ``crdtledger record`` takes them.

Their ids follow from what they correct and what they make of it, and from nothing else: worked out again, at another node or another
day, they are the same facts, and recording a fact twice counts once.

A fill is immutable. What is wrong with one is put right by taking it back (a bust carries its full terms) and recording it anew under
the same trade id in a leg of its own, so that the trade keeps its name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from crdtledger.errors import decimal_text
from crdtledger.ledger.identity import digest
from crdtledger.ledger.idwindow import CORRECTION
from reconcile.divergence.breakrow import Correction
from reconcile.divergence.trades import Trade, TradeGap

ID_SPACE = CORRECTION


class Units(msgspec.Struct, frozen=True):
    """An instrument's decimals, and those of every asset."""

    price_decimals: int
    qty_decimals: int
    assets: Mapping[str, int]


def trade_correction(
    gap: TradeGap,
    units: Units,
    venue: str,
    taken_back: Mapping[str, int] = {},
    if_true: str = "if the statement is right",
) -> Correction:
    """What makes the ledger say what the other side says. ``taken_back``: how often a fill of a trade id was busted before; what was
    busted cannot come again, so each time it is another leg."""
    busts = tuple(_fact("bust", trade, units) for trade in gap.ours)
    if not gap.theirs:
        return Correction("if the venue is right, take the fill back", busts)
    spent = Counter(trade.id for trade in gap.ours) + Counter(taken_back)
    fills = tuple(_fact("fill", _booked(trade, venue, _leg(trade, spent[trade.id])), units) for trade in gap.theirs)
    if not busts:
        return Correction("record the fill that the statement has", fills)
    return Correction(f"{if_true}, take the fill back and record it with the other terms", busts + fills)


def position_correction(
    break_id: str,
    account: str,
    instrument: str,
    gap: int,
    units: Units,
    venue: str,
    price: int | None,
    stated: Iterable[int | None],
    taken_back: int = 0,
) -> Correction:
    """The trade of ``gap`` (ledger less statement) that makes the quantities equal, at the newest mark. ``stated``: both sides' quantities,
    so that another difference another day is another trade. ``taken_back``: how often the trade for these quantities was busted before;
    what was busted cannot come again, so each time it is another trade."""
    if not gap:
        return Correction("ask the venue for its trades: a sum alone does not say which fact is wrong")
    side = "sell" if gap > 0 else "buy"
    qty = decimal_text(abs(gap), units.qty_decimals)
    if price is None:
        return Correction(
            f"{side} {qty} {instrument} for {account}: there is no mark to book it at, so record one first"
        )
    fact = {
        "kind": "fill",
        "venue": venue,
        "trade_id": "recon-" + _name((break_id, *stated, *(["again", taken_back] if taken_back else []))),
        "id_space": ID_SPACE,
        "instrument": instrument,
        "account": account,
        "side": side,
        "qty": qty,
        "price": decimal_text(price, units.price_decimals),
    }
    return Correction(f"if the statement is right, book {side} {qty} {instrument} at the newest mark", (fact,))


def booked_already(trade_id: str) -> Correction:
    """What to do where the trade that would close a break counts already: recorded again it would change nothing."""
    return Correction(
        f"nothing to record: {trade_id}, which made these same quantities equal before, counts already. See what has moved it since, "
        "or take that trade back (a bust of it), and compare again"
    )


def mark_correction(
    instrument: str, source: str, price: str | None, ts_us: int, sequence: int, fresh: str
) -> Correction:
    """A mark of ``source`` at ``price``, which is what ``fresh`` says; no fact without a price."""
    if price is None:
        return Correction(f"have {source} mark {instrument} again: nobody has a newer price")
    fact = {
        "kind": "mark",
        "instrument": instrument,
        "source": source,
        "price": price,
        "ts_us": ts_us,
        "sequence": sequence,
    }
    return Correction(f"mark it at what {fresh} says, or stop using {source}", (fact,))


def _booked(trade: Trade, venue: str, leg: str) -> Trade:
    return msgspec.structs.replace(trade, venue=trade.venue or venue, leg=leg)


def _leg(trade: Trade, taken_back: int) -> str:
    if not taken_back:
        return ""
    terms = (taken_back, trade.account, trade.side, trade.qty, trade.price, trade.fee, trade.fee_asset)
    return "fix-" + _name(terms)


def _name(parts: tuple[Any, ...]) -> str:
    return digest("correction", msgspec.msgpack.encode([str(part) for part in parts])).hex()[:12]


def _fact(kind: str, trade: Trade, units: Units) -> dict[str, Any]:
    fact: dict[str, Any] = {
        "kind": kind,
        "venue": trade.venue,
        "trade_id": trade.id,
        "id_space": trade.id_space,
        "instrument": trade.instrument,
        "account": trade.account,
        "side": "buy" if trade.side > 0 else "sell",
        "qty": decimal_text(trade.qty, units.qty_decimals),
        "price": decimal_text(trade.price, units.price_decimals),
    }
    if trade.leg:
        fact["leg"] = trade.leg
    if trade.fee:
        fact["fee"] = decimal_text(trade.fee, units.assets[trade.fee_asset])
    if trade.fee_asset and trade.fee_named:
        fact["fee_asset"] = trade.fee_asset
    if trade.ts_us:
        fact["ts_us"] = trade.ts_us
    return fact
