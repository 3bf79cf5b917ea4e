"""A market for machines: three accounts, an instrument of each kind, and what desks say there.

Every node keeps a reserve of every account and asset, called by both (``A/USDT``), so a fact can be recorded anywhere.
"""

from __future__ import annotations

import functools
from typing import Any

from hypothesis import strategies as st

from crdtledger.edge.simulate import writing as facts
from crdtledger.edge.simulate.cluster import NAMES
from crdtledger.edge.simulate.writing import Json
from crdtledger.errors import decimal_text
from crdtledger.testing.drawing import pick
from crdtledger.testing.opened import Opening

ACCOUNTS = ("A", "B", "C")
RESERVED = {"USDT": 600_00, "BTC": 530_000_000}
FEES = {"maker_fee_ppm": 1_000, "taker_fee_ppm": 3_000}
INSTRUMENTS = (
    {**facts.linear("SPOT", **FEES), "type": "spot"},
    facts.linear("PERP", margin_ppm=100_000, **FEES),
    {**facts.inverse("COIN", contract_size="1"), "margin_ppm": 300_000, **FEES},
    {
        **facts.linear("CALL", margin_ppm=50_000, **FEES),
        "type": "option",
        "strike": "120.00",
        "expiry_us": 9,
        "option": "call",
    },
)
UNITS = {one["name"]: (one["qty_decimals"], one["price_decimals"]) for one in INSTRUMENTS}


def order(id: str, instrument: str, account: str, side: str, qty: int, price: int, **more: Any) -> Json:
    """On the reserve that every node keeps for the account and asset."""
    qty_decimals, price_decimals = UNITS[instrument]
    asset = "BTC" if instrument == "COIN" or (instrument, side) == ("SPOT", "sell") else "USDT"
    terms = {"account": account, "instrument": instrument, "side": side, "reserve": f"{account}/{asset}"}
    units = {"qty": decimal_text(qty, qty_decimals), "price": decimal_text(price, price_decimals)}
    return {"kind": "order", "id": id, **terms, **units, **more}


@functools.cache
def said_at_random() -> st.SearchStrategy[Json]:
    """Orders around one price, and now and then money. Those without an id get that of the step."""
    orders = [
        order("", instrument, account, side, qty, 10_000 + offset * (1 if side == "buy" else -1))
        for instrument in UNITS
        for account in ACCOUNTS
        for side in ("buy", "sell")
        for qty, offset in ((3, 0), (700, 0), (40, 500), (3, -500), (90_000, 0))
    ]
    money = [
        facts.void("", "A/USDT"),
        facts.void("", "B/BTC"),
        facts.post("", "C/USDT", "USDT", 5_000, "A"),
        facts.withdrawal("", "B", "USDT", 9_000),
    ]
    return pick([*orders, *money, *(facts.reserve(f"{a}/{s}", a, s, n) for a in ACCOUNTS for s, n in RESERVED.items())])


def opening() -> Opening:
    """Every node keeps a reserve of every account and asset; standing orders of each instrument, at several homes."""
    names = [*map(facts.account, (*ACCOUNTS, "F")), *INSTRUMENTS]
    out: list[tuple[str, list[Json]]] = []
    for custodian, asset in (("n0", "USDT"), ("n1", "BTC")):
        money = [facts.deposit("d", account, asset, 40 * RESERVED[asset]) for account in ACCOUNTS]
        out.append((custodian, [*names, *money]))
        grants = [
            facts.grant(f"{account}{asset}{node}", account, asset, 8 * RESERVED[asset], node)
            for account in ACCOUNTS
            for node in NAMES
            if node != custodian
        ]
        out.append((custodian, grants))
    for node in NAMES:
        kept = [facts.reserve(f"{a}/{s}", a, s, n) for a in ACCOUNTS for s, n in RESERVED.items()]
        out.append((node, kept))
    out.append(("n0", [order("s", "SPOT", "A", "sell", 5_000, 10_000), order("p", "PERP", "A", "sell", 700, 10_000)]))
    out.append(("n1", [order("i", "COIN", "B", "buy", 700, 10_000), order("o", "CALL", "B", "sell", 700, 10_000)]))
    return out


def takers(id: str) -> list[Json]:
    """Orders of C that meet the standing ones."""
    meets = (("SPOT", "buy", 4_000), ("PERP", "buy", 600), ("COIN", "sell", 600), ("CALL", "buy", 600))
    return [order(f"{id}{name}", name, "C", side, qty, 10_000) for name, side, qty in meets]
