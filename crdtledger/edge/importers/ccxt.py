"""``ccxt``: trades as the CCXT library structures them, saved as a JSON array, as JSON lines or as CSV (pandas).

Fields read: id, timestamp (milliseconds), symbol, side, price, amount, and the fees, either ``fee`` or ``fees`` (cost and currency;
a positive cost was paid). ``side`` is kept as given: for ``fetch_my_trades`` it is the side of the account's own fill, for
``fetch_trades`` the taker's. Numbers are taken from their text, never through a float, so ``61800.30`` and ``1e-7`` arrive exactly.

A trade has one fee asset here: several fees in one currency are added, fees in two currencies are refused. In CSV the fee may stand
in ``fee.cost`` and ``fee.currency`` (or with ``_``), or in a ``fee`` column as JSON or as the Python dictionary that pandas prints.
Fields: https://docs.ccxt.com (trade structure).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from crdtledger.edge.importers.counting import CountingImporter
from crdtledger.edge.importers.delimited import DelimitedImporter, side_of
from crdtledger.edge.importers.jsonarray import cut
from crdtledger.edge.importers.lines import MAX_LINE_BYTES, LineImporter
from crdtledger.edge.importers.rows import amount, excerpt, fee_amount, trade_id
from crdtledger.edge.importers.timestamps import NoTimeError, text_to_us
from crdtledger.edge.importers.trades import ImportSpec, Position, Summary, Trades, UnfitError

_SIDES: Final = {"buy": 1, "sell": -1}
_NULL: Final = msgspec.Raw(b"null")
_EMPTY: Final = ("", "null", "None", "nan", "NaN")


class _Fee(msgspec.Struct):
    cost: msgspec.Raw = _NULL
    currency: str | None = None


class _Fill(msgspec.Struct):
    id: msgspec.Raw = _NULL
    timestamp: msgspec.Raw = _NULL
    symbol: str | None = None
    side: str | None = None
    price: msgspec.Raw = _NULL
    amount: msgspec.Raw = _NULL
    fee: _Fee | None = None
    fees: list[_Fee] | None = None


def _text(raw: msgspec.Raw) -> str:
    """A JSON number as it is written, a string as what it says, null as the empty text."""
    data = bytes(raw)
    if data[:1] == b'"':
        try:
            return msgspec.json.decode(data, type=str) if b"\\" in data else data[1:-1].decode("utf-8")
        except ValueError as error:
            raise UnfitError("", f"a string that cannot be read: {error}") from None
    text = data.decode("utf-8", "replace")
    return "" if text == "null" else text


def _identity(raw: msgspec.Raw) -> str:
    """A trade id: a string or a whole JSON number. Raises ``UnfitError``."""
    text = _text(raw)
    if text and bytes(raw)[:1] != b'"' and not text.isdigit():
        raise UnfitError("id", f"{excerpt(text)} is neither text nor a whole number")
    return text


class _Fills(CountingImporter):
    """What the three shapes share: one fill becomes one row."""

    name = "ccxt"

    def __init__(self, spec: ImportSpec) -> None:
        super().__init__(spec)
        self._decode = msgspec.json.Decoder(_Fill).decode

    def _take(self, data: bytes, number: int) -> None:
        """Decode and take one JSON object. Raises ``UnfitError``."""
        try:
            fill = self._decode(data)
        except RecursionError:
            raise UnfitError("", "JSON nested too deeply") from None
        except ValueError as error:
            reason, _, path = str(error).partition(" - at `$.")
            raise UnfitError(path.strip("`"), reason) from None
        symbol = fill.symbol or ""
        self._add(fill, symbol, _identity(fill.id), _text(fill.timestamp), number)

    def _add(self, fill: _Fill, symbol: str, identity: str, time: str, number: int) -> None:
        if (symbol or self._symbol) and not self._wanted(symbol):
            return
        key = trade_id(identity)
        price = amount(_text(fill.price), self.spec.price_decimals, "price")
        qty = amount(_text(fill.amount), self.spec.qty_decimals, "amount")
        side = side_of(fill.side or "", _SIDES, "side")
        try:
            ts_us = text_to_us(time, "ms")
        except NoTimeError as error:
            raise UnfitError("timestamp", f"{excerpt(time)}: {error}") from None
        fee = self._fee(fill)
        rows = self._rows
        if fee is not None:
            rows.fees[rows.pending()] = fee
        rows.ids.append(key)
        rows.price.append(price)
        rows.qty.append(qty)
        rows.side.append(side)
        rows.ts_us.append(ts_us)
        rows.line.append(number)

    def _fee(self, fill: _Fill) -> tuple[int, str] | None:
        parts = fill.fees or ([fill.fee] if fill.fee else [])
        total: dict[str, int] = {}
        for part in parts:
            cost = _text(part.cost)
            if not cost:
                continue
            asset = part.currency or ""
            total[asset] = total.get(asset, 0) + fee_amount(cost, asset, self.spec.asset_decimals, "fee")
        paid = [(minor, asset) for asset, minor in total.items() if minor]
        if len(paid) > 1:
            raise UnfitError("fees", f"fees in {len(paid)} assets ({', '.join(sorted(total))}); a fill has one")
        if paid and abs(paid[0][0]) > 1 << 62:
            raise UnfitError("fees", "out of range")
        return paid[0] if paid else None


class CcxtLines(_Fills, LineImporter):
    """One JSON object per line."""

    def _parse(self, lines: Sequence[bytes], first: int) -> None:
        for number, line in enumerate(lines, first):
            if not line or line.isspace():
                continue
            self._opening = "{"
            try:
                self._take(line, number)
            except UnfitError as unfit:
                self._refuse(number, unfit.column, unfit.reason, line)


class CcxtTable(_Fills, DelimitedImporter):
    """A header and one record per line."""

    needed = ("id", "timestamp", "side", "price", "amount")

    def __init__(self, spec: ImportSpec) -> None:
        super().__init__(spec)
        self._decode_fee = msgspec.json.Decoder(_Fee).decode

    def _record(self, fields: list[str], number: int) -> None:
        def field(*names: str) -> str:
            texts = (fields[self._columns[name]] for name in names if name in self._columns)
            return next((text for text in texts if text not in _EMPTY), "")

        def raw(text: str) -> msgspec.Raw:
            return msgspec.Raw(text.encode())

        cost = field("fee.cost", "fee_cost")
        fee = self._printed_fee(field("fee"))
        if cost:
            fee = _Fee(raw(cost), field("fee.currency", "fee_currency"))
        fill = _Fill(side=field("side"), price=raw(field("price")), amount=raw(field("amount")), fee=fee)
        self._add(fill, field("symbol"), field("id"), field("timestamp"), number)

    def _printed_fee(self, text: str) -> _Fee | None:
        if not text:
            return None
        quoted = text.replace("'", '"').replace("None", "null").replace("nan", "null")
        try:
            return self._decode_fee(quoted.encode())
        except (ValueError, RecursionError):
            raise UnfitError(
                "fee", f"{excerpt(text)} is neither JSON nor a dictionary with cost and currency"
            ) from None


class CcxtArray(_Fills):
    """One JSON array. ``opening`` is ``[`` before its first element, ``[,`` behind one, ``]`` when it has ended, ``!`` when no end
    of an element can be found."""

    def __init__(self, spec: ImportSpec) -> None:
        super().__init__(spec)
        self._carry = b""

    def feed(self, chunk: bytes) -> list[Trades]:
        self._bytes_read += len(chunk)
        self._carry += chunk
        if not self._opening:
            start = self._carry.find(b"[") + 1
            if not start:
                return []
            self._advance(start)
            self._opening = "["
        if self._opening in ("[", "[,"):
            self._elements()
        if self._opening == "]" and self._carry.strip():
            self._refuse(self._line + 1, "", "something behind the end of the array", self._carry.strip()[:1])
            self._opening = "!"
        if self._opening in ("]", "!"):
            self._advance(len(self._carry))
        return self._rows.take()

    def _elements(self) -> None:
        found = cut(self._carry)
        done, number = 0, self._line + 1
        for start, end in found.spans:
            if end - done > MAX_LINE_BYTES:
                break
            self._gap(self._carry[done:start], number)
            number += self._carry.count(b"\n", done, start)
            element = self._carry[start:end]
            try:
                self._take(element, number)
            except UnfitError as unfit:
                self._refuse(number, unfit.column, unfit.reason, element)
            self._opening = "[,"
            number += element.count(b"\n")
            done = end
        else:
            done = self._close(found.close, done, number)
        self._advance(done)
        if len(self._carry) > MAX_LINE_BYTES and self._opening != "]":
            reason = f"no element ends within {MAX_LINE_BYTES} bytes; the rest of the array is not read"
            self._refuse(self._line + 1, "", reason, self._carry)
            self._opening = "!"

    def _close(self, close: int, done: int, number: int) -> int:
        """Take in the bracket that ends the array, if it is there; the index up to which bytes are consumed."""
        if close < 0:
            return done
        if self._carry[done:close].strip():
            self._refuse(number, "", "something other than an object in the array", self._carry[done:close].strip())
        self._opening = "]"
        return close + 1

    def _gap(self, gap: bytes, number: int) -> None:
        """Between two elements stands one comma, and nothing before the first."""
        if gap.strip() != (b"," if self._opening == "[," else b""):
            self._refuse(number, "", "something other than an object and a comma in the array", gap.strip())

    def _advance(self, count: int) -> None:
        self._line += self._carry.count(b"\n", 0, count)
        self._offset += count
        self._carry = self._carry[count:]

    def finish(self) -> list[Trades]:
        if self._opening not in ("]", "!"):
            self._refuse(self._line + 1, "", "the array does not end", self._carry.strip())
        return self._rows.take()

    def cut_short(self, column: str, reason: str) -> None:
        self._carry = b""
        self._opening = "!"
        self._note_damage(column, reason)


class Ccxt:
    """The ``ccxt`` importer: which of the three shapes a file has shows in its first character that is not blank."""

    name = "ccxt"
    id_space = "trade"

    def __init__(self, spec: ImportSpec) -> None:
        self.spec = spec
        self._head = b""
        self._position = Position()
        self._shape: CcxtArray | CcxtLines | CcxtTable | None = None

    @property
    def summary(self) -> Summary:
        return (self._shape or CcxtLines(self.spec)).summary

    @property
    def position(self) -> Position:
        return self._shape.position if self._shape else self._position

    def resume(self, position: Position) -> None:
        self._position = position
        if position.opening:
            self._choose(position.opening).resume(position)

    def feed(self, chunk: bytes) -> list[Trades]:
        if self._shape is None:
            self._head += chunk
            blank_or_mark = self._head.removeprefix(b"\xef\xbb\xbf").strip()
            # Three bytes could still be the beginning of a byte order mark.
            if len(self._head) < 4 or not (blank_or_mark or len(self._head) > MAX_LINE_BYTES):
                return []
            chunk, self._head = self._head, b""
            self._choose(blank_or_mark[:1].decode("latin-1"))
        return self._shape.feed(chunk) if self._shape else []

    def finish(self) -> list[Trades]:
        head, self._head = self._head, b""
        shape = self._shape or self._choose(head.removeprefix(b"\xef\xbb\xbf").strip()[:1].decode("latin-1") or "{")
        return shape.feed(head) + shape.finish() if head else shape.finish()

    def cut_short(self, column: str, reason: str) -> None:
        (self._shape or self._choose("{")).cut_short(column, reason)

    def _choose(self, opening: str) -> CcxtArray | CcxtLines | CcxtTable:
        shape: CcxtArray | CcxtLines | CcxtTable
        if opening[:1] in ("[", "]", "!"):
            shape = CcxtArray(self.spec)
        else:
            shape = (CcxtLines if opening[:1] == "{" else CcxtTable)(self.spec)
        self._shape = shape
        return shape
