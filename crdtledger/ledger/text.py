"""Facts as people write them, and views as people read them: JSON objects with exact decimal text.

In: ``{"kind": "deposit", "id": "d1", "account": "A001", "asset": "USDT", "amount": "1000.00"}``. Amounts, prices and
quantities are decimal text (or JSON integers of whole units); a JSON number with a fraction is refused, because it has
been a float on its way here. Out: the same units, always with the asset's or instrument's own number of decimals.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import msgspec

from crdtledger.errors import BadInput, UnknownName, decimal_text
from crdtledger.ledger.board import BoardRow, Noted
from crdtledger.ledger.breaks import Break
from crdtledger.ledger.catalog import Catalog
from crdtledger.ledger.clock import COUNTER_BITS
from crdtledger.ledger.collateral import Balance
from crdtledger.ledger.decimals import InexactError, to_minor
from crdtledger.ledger.facts import KIND_OF, Fact, Instrument
from crdtledger.ledger.genesis import MAX_DECIMALS, Genesis
from crdtledger.ledger.orderrows import MatchRow, OrderRow
from crdtledger.ledger.positionrow import Position

_ABOUT_ORDERS = ("match", "accept", "share", "reveal")
"""Facts in the units of their order's instrument; written out, they name it for its decimals."""
_TYPES = {kind.name.lower(): type for type, kind in KIND_OF.items()}
"""To convert to one type, and not to any kind of fact, takes a twentieth of the time."""
KINDS = sorted(_TYPES)


# -- in -----------------------------------------------------------------------------------------------------


def fact_from_json(item: Any, catalog: Catalog, where: str, defined: Mapping[str, Instrument] | None = None) -> Fact:
    """One fact from a decoded JSON object. ``defined``: instruments defined by earlier lines of the same call.

    Raises ``BadInput`` with ``where`` and the field, or ``UnknownName`` with the nearest known name.
    """
    if not isinstance(item, Mapping):
        raise BadInput(what="line", where=where, why="one JSON object per line")
    fields = dict(item)
    kind = fields.get("kind")
    if kind not in KINDS:
        raise BadInput(what=f"kind {kind!r}", where=where, why=f"one of {', '.join(KINDS)}")
    genesis = catalog.genesis
    if kind == "instrument":
        _instrument_units(fields, where)
    elif kind in ("fill", "bust", "mark", "order"):
        _trade_units(fields, catalog, where, defined or {})
    elif kind in _ABOUT_ORDERS:
        _trade_units(fields, catalog, where, defined or {})
        del fields["instrument"]
    elif kind == "post":
        _post_units(fields, genesis, where)
    elif "amount" in fields:
        decimals = _asset_decimals(str(fields.get("asset", "")), genesis)
        fields["amount"] = _minor(fields["amount"], decimals, f"{where}.amount")
    try:
        return msgspec.convert(fields, type=_TYPES[kind])
    except msgspec.ValidationError as error:
        why, _, path = str(error).partition(" - at `$.")
        raise BadInput(what=str(kind), where=f"{where}.{path.rstrip('`')}" if path else where, why=why) from None


def _minor(value: Any, decimals: int, where: str, signed: bool = False) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int):
        why = "write the amount as decimal text in quotes; a JSON number with a fraction is not exact"
        raise BadInput(what=str(value)[:40], where=where, why=why)
    try:
        return to_minor(str(value), decimals, signed=signed)
    except InexactError as error:
        raise BadInput(what=str(value)[:40], where=where, why=str(error)) from None


def _asset_decimals(name: str, genesis: Genesis) -> int:
    if name not in genesis.asset_decimals:
        raise UnknownName(kind="asset", name=name, known=genesis.asset_decimals)
    return genesis.asset_decimals[name]


def _instrument_units(fields: dict[str, Any], where: str) -> None:
    size = fields.pop("contract_size", None)
    if size is not None:
        text = str(size)
        fraction = text.partition(".")[2].rstrip("0")
        decimals = min(len(fraction), MAX_DECIMALS)
        fields["contract_size"] = _minor(size, decimals, f"{where}.contract_size")
        fields["contract_decimals"] = decimals
    price_decimals = fields.get("price_decimals")
    if "strike" in fields and isinstance(price_decimals, int):
        fields["strike"] = _minor(fields["strike"], price_decimals, f"{where}.strike", signed=True)


def _trade_units(fields: dict[str, Any], catalog: Catalog, where: str, defined: Mapping[str, Instrument]) -> None:
    name = str(fields.get("instrument", ""))
    instrument = defined.get(name) or catalog.definition(name)
    if instrument is None:
        raise UnknownName(kind="instrument", name=name, known=[*catalog.names(), *defined])
    if "price" in fields:
        fields["price"] = _minor(fields["price"], instrument.price_decimals, f"{where}.price", signed=True)
    if "qty" in fields:
        fields["qty"] = _minor(fields["qty"], instrument.qty_decimals, f"{where}.qty")
    if "fee" in fields:
        decimals = _asset_decimals(str(fields.get("fee_asset") or instrument.settlement), catalog.genesis)
        fields["fee"] = _minor(fields["fee"], decimals, f"{where}.fee", signed=True)


def _post_units(fields: dict[str, Any], genesis: Genesis, where: str) -> None:
    """A post is in its reserve's asset; written out, the asset is named for its decimals."""
    asset = str(fields.pop("asset", ""))
    if "amount" in fields:
        fields["amount"] = _minor(fields["amount"], _asset_decimals(asset, genesis), f"{where}.amount")


# -- out ----------------------------------------------------------------------------------------------------


AVERAGE_DECIMALS = 4
"""An average entry price has so many decimals more than the instrument's prices, rounded to the nearest, ties to even."""


def position_json(position: Position, state: str, definition: Instrument) -> dict[str, Any]:
    """One row of ``positions``. ``state`` is ``provisional`` or ``settled(h)``; ``definition`` is the instrument's. ``avg_entry`` and
    ``realised`` are of what is settled; a price is empty where no quantity is open."""

    def qty(amount: int) -> str:
        return decimal_text(amount, position.qty_decimals)

    def value(amount: int) -> str:
        return decimal_text(amount, position.value_decimals)

    row: dict[str, Any] = {
        "account": position.account,
        "instrument": position.instrument,
        "qty": qty(position.qty),
        "bought": qty(position.bought),
        "sold": qty(position.sold),
        "value_bought": value(position.value_bought),
        "value_sold": value(position.value_sold),
        "fees": decimal_text(position.fees, position.fee_decimals),
        "fills": position.fills,
        "settled_qty": qty(position.settled_qty),
        "avg_entry": _average_entry(position, definition),
        "realised": value(position.realised),
        "state": state,
    }
    if position.other_fees:
        row["other_fees"] = {asset: decimal_text(amount, decimals) for asset, amount, decimals in position.other_fees}
    return row


def _average_entry(position: Position, definition: Instrument) -> str:
    if not position.settled_qty or not position.cost:
        return ""
    size = Fraction(definition.contract_size, 10**definition.contract_decimals)
    held = abs(position.settled_qty) * size / 10**position.qty_decimals
    cost = Fraction(position.cost, 10**position.value_decimals)
    price = held / cost if definition.inverse else cost / held
    decimals = definition.price_decimals + AVERAGE_DECIMALS
    return decimal_text(round(price * 10**decimals), decimals)


def balance_json(balance: Balance, state: str) -> dict[str, Any]:
    """One row of ``collateral``. ``rights`` is what each node may still spend; ``margin`` and ``shortfall`` stand there if there is any."""

    def text(amount: int) -> str:
        return decimal_text(amount, balance.decimals)

    amounts = {
        field: text(getattr(balance, field))
        for field in ("deposited", "withdrawn", "held", "free", "reserved", "in_transit", "incoming", "refundable")
    }
    amounts |= {name: text(amount) for name in ("margin", "shortfall") if (amount := getattr(balance, name))}
    rights = {node: text(amount) for node, amount in balance.rights}
    return {"account": balance.account, "asset": balance.asset, **amounts, "rights": rights, "state": state}


def order_json(row: OrderRow, state: str, definition: Instrument) -> dict[str, Any]:
    """One row of ``orders``: quantities and the price as decimal text, what is left at its default left out."""

    def qty(amount: int) -> str:
        return decimal_text(amount, definition.qty_decimals)

    out: dict[str, Any] = {
        "home": row.home,
        "id": row.id,
        "account": row.account,
        "instrument": row.instrument,
        "side": "buy" if row.side > 0 else "sell",
        "qty": qty(row.qty),
        "price": decimal_text(row.price, definition.price_decimals),
        "tif": row.tif,
        "status": row.state,
        "open": qty(row.open),
        "held": {node: qty(held) for node, held in row.held},
        "filled": qty(row.filled),
        "matched": qty(row.matched),
        "asked": qty(row.asked),
        "asking": qty(row.asking),
        "reserve": row.reserve,
        "state": state,
    }
    for field in ("market", "post_only", "reduce_only", "expires_us", "amends", "min_survival", "hidden"):
        if getattr(row, field):
            out[field] = getattr(row, field)
    if row.shown is not None:
        out["shown"] = {"qty": qty(row.shown[0]), "price": decimal_text(row.shown[1], definition.price_decimals)}
    return out


def match_json(row: MatchRow, state: str, definition: Instrument) -> dict[str, Any]:
    """One row of ``matches`` that are not settled. ``survival``: the probability in ppm, for a tentative one."""
    out: dict[str, Any] = {
        "home": row.home,
        "id": row.id,
        "instrument": row.instrument,
        "taker": row.taker,
        "maker_home": row.maker_home,
        "maker": row.maker,
        "qty": decimal_text(row.qty, definition.qty_decimals),
        "price": decimal_text(row.price, definition.price_decimals),
        "status": row.state,
        "stands": decimal_text(row.stands, definition.qty_decimals),
        "survival": row.survival,
        "state": state,
    }
    return out | ({"reason": row.reason} if row.reason else {})


def instrument_json(instrument: Instrument, digest: bytes) -> dict[str, Any]:
    """One row of ``instruments``."""
    row = msgspec.to_builtins(instrument)
    row["contract_size"] = decimal_text(instrument.contract_size, instrument.contract_decimals)
    del row["kind"]
    row.pop("contract_decimals", None)
    row.setdefault("inverse", False)
    if instrument.strike is not None:
        row["strike"] = decimal_text(instrument.strike, instrument.price_decimals)
    return {**row, "digest": digest.hex()}


def break_json(item: Break) -> dict[str, Any]:
    """One row of ``breaks``."""
    return {"type": item.type, "subject": item.subject, "detail": item.detail}


def board_json(row: BoardRow, state: str) -> dict[str, Any]:
    """One row of ``board``. ``contested``: fields for which several values stand, noted apart."""
    return {
        "break": row.break_id,
        "owner": row.owner,
        "status": row.status,
        "resolution": row.resolution,
        "comments": row.comments,
        "last_comment": row.last,
        "last_by": row.last_by,
        "contested": list(row.contested),
        "noted_us": (row.clock >> COUNTER_BITS) * 1_000,
        "state": state,
    }


def noted_json(note: Noted, stands: bool, state: str) -> dict[str, Any]:
    """One row of a break's history on the board."""
    return {
        "break": note.break_id,
        "noted_us": (note.clock >> COUNTER_BITS) * 1_000,
        "node": note.node,
        "field": note.field,
        "text": note.text,
        "stands": stands,
        "state": state,
    }
