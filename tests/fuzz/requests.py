"""Requests of any sense from a client: answered or refused with words, and the node goes on."""

from __future__ import annotations

import msgspec

from tests.fuzz.driving import Draw, imports, run

with imports():
    from crdtledger.edge import api
    from crdtledger.edge.effects import ClientRequest
    from crdtledger.errors import LedgerError
    from tests.edge.test_hostile import SPOT, VIEWS, Victim

ENCODE = msgspec.msgpack.Encoder().encode
KINDS = (
    "account",
    "instrument",
    "mark",
    "fill",
    "bust",
    "deposit",
    "void",
    "grant",
    "reserve",
    "post",
    "transfer",
    "withdrawal",
    "x",
)
FIELDS = (
    *(
        "id",
        "account",
        "asset",
        "amount",
        "credit",
        "node",
        "reserve",
        "expires_us",
        "label",
        "name",
        "venue",
        "trade_id",
    ),
    *(
        "instrument",
        "side",
        "qty",
        "price",
        "fee",
        "fee_asset",
        "id_space",
        "leg",
        "ts_us",
        "source",
        "sequence",
        "type",
    ),
    *(
        "base",
        "quote",
        "settlement",
        "price_decimals",
        "qty_decimals",
        "inverse",
        "contract_size",
        "strike",
        "expiry_us",
    ),
)
USUAL = {
    "id": "d", "account": "A", "asset": "USDT", "amount": "1.00", "credit": "A", "node": "n1", "reserve": "d", "name": "A",
    "venue": "v", "trade_id": 1, "instrument": SPOT.name, "side": "buy", "qty": "1", "price": "1", "ts_us": 1, "source": "s",
    "type": "spot", "base": "BTC", "quote": "USDT", "settlement": "USDT", "price_decimals": 2, "qty_decimals": 8,
}  # fmt: skip
OF = {
    "account": ("name",), "deposit": ("id", "account", "asset", "amount"), "withdrawal": ("id", "account", "asset", "amount"),
    "reserve": ("id", "account", "asset", "amount"), "transfer": ("id", "account", "asset", "amount", "credit"),
    "grant": ("id", "account", "asset", "amount", "node"), "post": ("id", "reserve", "amount", "asset", "credit"),
    "void": ("id", "reserve"), "mark": ("instrument", "price", "ts_us", "source"),
    "fill": ("venue", "trade_id", "instrument", "account", "side", "qty", "price"),
    "bust": ("venue", "trade_id", "instrument", "account", "side", "qty", "price"),
    "instrument": ("name", "type", "base", "quote", "settlement", "price_decimals", "qty_decimals"),
}  # fmt: skip


def fact(draw: Draw) -> object:
    """A fact as JSON, right but for a few fields."""
    kind = draw.one_of(KINDS)
    item: dict[str, object] = {"kind": kind} | {name: USUAL[name] for name in OF.get(kind, ())}
    if "name" in item and kind == "instrument":
        item["name"] = draw.one_of((SPOT.name, "NEW", "new", ""))
    if draw.integer(0, 1):
        item["id"] = draw.integer(0, 5)
    for _ in range(draw.integer(0, 2)):
        item[draw.one_of(FIELDS)] = draw.value()
    return item if draw.integer(0, 15) else draw.value()


def columns(draw: Draw) -> dict[str, object]:
    """Columns of fills whose lengths and indices may not fit."""
    rows = draw.integer(0, 4)

    def column(width: int) -> bytes:
        values = [draw.integer(0, 2) if draw.integer(0, 5) else draw.number() for _ in range(rows)]
        raw = b"".join((value & ((1 << 8 * width) - 1)).to_bytes(width, "little") for value in values)
        return raw if draw.integer(0, 15) else raw[:-1]

    side = b"".join(draw.one_of((b"\x01", b"\xff", b"\x01", b"\x80")) for _ in range(rows))
    request: dict[str, object] = {
        "type": "Columns", "venue": "v", "instrument": SPOT.name, "id_space": "trade", "leg": "", "trade_id": column(8),
        "price": column(8), "qty": column(8), "side": side, "account": column(8), "accounts": ["A", draw.text()],
        "ts_us": draw.one_of((b"", column(8))),
    }  # fmt: skip
    if draw.integer(0, 1):
        request |= {"fee": column(8), "fee_asset": column(8), "fee_assets": ["BTC", draw.text()]}
    if draw.integer(0, 3) == 0:
        request["text_ids"] = [draw.text() for _ in range(rows)]
    if draw.integer(0, 3) == 0:
        request["cursor"] = ["source", draw.integer(0, 9), draw.one_of((0, 1 << 63))]
    if draw.integer(0, 7) == 0:
        request[draw.one_of(list(request))] = draw.value()
    return request


def request(draw: Draw) -> bytes:
    """A request, more or less."""
    kind = draw.integer(0, 7)
    body: object = {"type": "Record", "facts": [fact(draw) for _ in range(draw.integer(0, 3))]}
    if kind == 0:
        body = draw.value()
    elif kind == 1:
        body = {"type": "Query", "view": draw.one_of(VIEWS), "account": draw.text(), "instrument": draw.text()}
    elif kind == 2:
        body = {
            "type": draw.one_of(("Watch", "CursorOf", "Links", "Backup", "x")),
            "seen": b"",
            "timeout_ms": draw.number(),
        }
    elif kind == 3:
        body = columns(draw)
    elif kind == 4:
        names = {"account": draw.one_of(("", "A", draw.text())), "subject": draw.one_of(("", SPOT.name, draw.text()))}
        body = {"type": "Trace", **names, "name": draw.one_of(("", f"fill v/trade/{SPOT.name}/1", draw.text()))}
    elif kind == 5:
        body = {"type": "Told", "fills": [fact(draw) for _ in range(draw.integer(0, 3))]}
    try:
        return ENCODE(body) if draw.integer(0, 31) else draw.bytes(60)
    except (OverflowError, UnicodeEncodeError):
        return draw.bytes(60)


def one(data: bytes) -> None:
    """A few requests in turn."""
    draw = Draw(data)
    victim = Victim()
    instrument = {**msgspec.to_builtins(SPOT), "kind": "instrument"}
    deposit = {"kind": "deposit", "id": "d", "account": "A", "asset": "USDT", "amount": "5"}
    victim.ask(api.Record([instrument, {"kind": "account", "name": "A"}, deposit]))
    for _ in range(draw.integer(1, 6)):
        raw = request(draw)
        api.decode_frame(raw)
        api.decode_local(raw)
        try:
            victim.ask(raw)
        except LedgerError:
            pass
        except KeyError:
            pass  # a watch that waits
    victim.step(ClientRequest("again", raw))
    victim.stands()
    assert api.decode_answer(victim.replies.pop(victim._requests)) is not None


if __name__ == "__main__":
    run(one)
