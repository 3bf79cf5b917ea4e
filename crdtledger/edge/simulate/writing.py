"""Facts as clients write them: JSON objects with decimal text, from integers in minor units.

For scripts and tests that drive a simulated cluster; a real client may write them with these, too.
"""

from __future__ import annotations

from typing import Any

import msgspec

from crdtledger.edge.simulate.plainorders import WORDS, OrderFact, Said, about
from crdtledger.errors import decimal_text

DECIMALS = {"USDT": 2, "BTC": 8}
"""The assets of a simulated cluster."""
Json = dict[str, Any]


def account(name: str) -> Json:
    return {"kind": "account", "name": name}


def _amount(kind: str, id: str, account: str, asset: str, amount: int, **more: Any) -> Json:
    text = decimal_text(amount, DECIMALS[asset])
    return {"kind": kind, "id": id, "account": account, "asset": asset, "amount": text, **more}


def deposit(id: str, account: str, asset: str, amount: int) -> Json:
    return _amount("deposit", id, account, asset, amount)


def withdrawal(id: str, account: str, asset: str, amount: int) -> Json:
    return _amount("withdrawal", id, account, asset, amount)


def transfer(id: str, account: str, asset: str, amount: int, credit: str) -> Json:
    return _amount("transfer", id, account, asset, amount, credit=credit)


def grant(id: str, account: str, asset: str, amount: int, node: str) -> Json:
    return _amount("grant", id, account, asset, amount, node=node)


def reserve(id: str, account: str, asset: str, amount: int) -> Json:
    return _amount("reserve", id, account, asset, amount)


def post(id: str, reserve: str, asset: str, amount: int, credit: str) -> Json:
    text = decimal_text(amount, DECIMALS[asset])
    return {"kind": "post", "id": id, "reserve": reserve, "asset": asset, "amount": text, "credit": credit}


def void(id: str, reserve: str) -> Json:
    return {"kind": "void", "id": id, "reserve": reserve}


def linear(name: str, **more: Any) -> Json:
    """A perpetual whose prices have 2 decimals, quantities 3."""
    fields = {"type": "perp", "base": "BTC", "quote": "USDT", "settlement": "USDT"}
    return {"kind": "instrument", "name": name, **fields, "price_decimals": 2, "qty_decimals": 3, **more}


def inverse(name: str, contract_size: str = "100", **more: Any) -> Json:
    """An inverse perpetual that settles in BTC; quantities count contracts."""
    fields = {"type": "perp", "base": "BTC", "quote": "USD", "settlement": "BTC", "inverse": True}
    units = {"price_decimals": 1, "qty_decimals": 0, "contract_size": contract_size}
    return {"kind": "instrument", "name": name, **fields, **units, **more}


# -- what was said --------------------------------------------------------------------------------------------


def minor(text: str) -> int:
    """Decimal text with all its decimals, in minor units."""
    return int(text.replace(".", ""))


def said(fact: Json) -> Said:
    """A fact as the plain ledger reads it from a journal."""
    kind = fact["kind"]
    if kind in ("account", "instrument"):
        return (kind, fact["name"], ())
    if kind in ("fill", "bust"):
        terms = [minor(fact["qty"]), minor(fact["price"]), minor(fact["fee"])]
        identity = (fact["venue"], "trade", fact["instrument"], str(fact["trade_id"]), "")
        return (kind, identity, (fact["account"], 1 if fact["side"] == "buy" else -1, *terms, ""))
    if kind in WORDS:
        fields = {name: minor(value) if name in ("qty", "price") else value for name, value in fact.items()}
        if kind != "order":
            fields.pop("instrument", None)
        return about(msgspec.convert(fields, OrderFact))
    if kind == "void":
        return (kind, fact["id"], (fact["reserve"],))
    if kind == "post":
        return (kind, fact["id"], (fact["reserve"], minor(fact["amount"]), fact["credit"]))
    cell = (fact["account"], fact["asset"])
    if kind == "deposit":
        return (kind, (*cell, fact["id"]), (*cell, minor(fact["amount"])))
    more = {"transfer": ("credit",), "grant": ("node",)}.get(kind, ())
    return (kind, fact["id"], (*cell, minor(fact["amount"]), *(fact[name] for name in more)))
