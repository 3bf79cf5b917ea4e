"""``binance-stream``: recorded Binance websocket streams, spot and futures.

A line is ``local_ns {"stream": .., "data": {..}}``; the recorder's clock in front and the stream wrapper are both
optional. Only events with ``"e": "trade"`` are trades; everything else is skipped and counted by its kind, mostly without
being decoded: a line that nowhere contains ``trade"`` cannot be one, unless it hides the word behind JSON escapes, and
those lines are decoded. A torn line without a closing brace is decoded too, and so refused. Lines that begin as others
before them did are counted many at once (``sieve``), and trades that are laid out as one before them are made columns many at
once (``layouts``).

What futures streams add, and what becomes of it (seen in the wild, hardly documented):

- ``"X": "MARKET"`` is an ordinary trade. ``INSURANCE_FUND``, ``ADL``, ``NA`` and any other word is not a trade on the book:
  skipped, counted as ``trade X=...``, whatever its price.
- Rows with a price or quantity of zero (``NA`` rows have both) are markers: skipped, counted as ``trade of zero``.

``"m": true`` means that the buyer was the maker, so the taker sold. Format: https://developers.binance.com/docs
(web socket streams, trade streams).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from crdtledger.edge.importers.layouts import Layouts
from crdtledger.edge.importers.lines import MAX_LINE_BYTES, LineImporter
from crdtledger.edge.importers.rows import amount, numeric_id
from crdtledger.edge.importers.sieve import TRADE, Sieve, told
from crdtledger.edge.importers.timestamps import MILLISECONDS, NoTimeError, to_us
from crdtledger.edge.importers.trades import MAX_KINDS, MAX_TRADE_ID, ImportSpec, UnfitError
from crdtledger.ledger.decimals import InexactError, MinorUnits

_NEAR: Final = 96
"""How far from its start a line is searched for the stream wrapper. A wrong guess only takes the slower way."""
SIFTED_BYTES: Final = 1 << 14
"""Blocks of so many bytes are sifted; smaller ones are sooner read line by line."""
FIRST_BYTES: Final = 1 << 16
"""So much of a file is read line by line before the rest of its first block is sifted."""
_SPACE: Final = ord(" ")


class _Trade(msgspec.Struct, gc=False):
    e: str
    s: str
    t: int
    p: str
    q: str
    T: int
    m: bool
    X: str = "MARKET"


class _Message(msgspec.Struct, gc=False):
    data: _Trade


class BinanceStream(LineImporter):
    """See the module. Column names in refusals are the event's keys: ``t``, ``p``, ``q``, ``T``, ``m``, ``s``."""

    name = "binance-stream"

    def __init__(self, spec: ImportSpec) -> None:
        super().__init__(spec)
        self._prices = MinorUnits(spec.price_decimals)
        self._quantities = MinorUnits(spec.qty_decimals)
        self._message = msgspec.json.Decoder(_Message)
        self._quick: defaultdict[bytes, int] = defaultdict(int)
        self._kinds: dict[bytes, bytes] = {}  # by the words that tell them
        self._sieve = Sieve()
        self._layouts = Layouts(spec.price_decimals, spec.qty_decimals)
        self._bare = msgspec.json.Decoder(_Trade)

    def _consume(self, block: bytes) -> None:
        # What the first lines are like is learned from few of them, so that the others of the first block are sifted too.
        start = block.find(b"\n", FIRST_BYTES) + 1 if not self._sieve else 0
        if start:
            super()._consume(block[:start])
        super()._consume(block[start:])

    def _take_in(self, block: bytes) -> int:
        if not self._sieve or not SIFTED_BYTES <= len(block) <= MAX_LINE_BYTES:
            return super()._take_in(block)
        sifted = self._sieve.sift(block)
        for kind, count in sifted.kinds.items():
            self._skip(kind.decode("ascii"), count)
        lines, first = sifted.rest, self._line + 1
        numbers = [first + place for place in sifted.places]
        found = self._layouts.read(lines, numbers)
        self._rows.add(found.trades)
        self._read([lines[place] for place in found.rest], [numbers[place] for place in found.rest])
        return sifted.total

    def _parse(self, lines: Sequence[bytes], first: int) -> None:
        self._read(lines, range(first, first + len(lines)))

    def _read(self, lines: Sequence[bytes], numbers: Sequence[int]) -> None:
        decode, bare, rows = self._message.decode, self._bare.decode, self._rows
        ids, price_of, qty_of, side_of = rows.ids.append, rows.price.append, rows.qty.append, rows.side.append
        ts_us_of, line_of = rows.ts_us.append, rows.line.append
        prices, quantities = self._prices, self._quantities
        quick, kinds = self._quick, self._kinds
        taken = b""
        for line, number in zip(lines, numbers, strict=True):
            if TRADE not in line:
                words = told(line).words
                if words in kinds and line.endswith(b"}"):
                    quick[kinds[words]] += 1
                elif not self._learn(line, words):
                    self._examine(line, number)
                continue
            brace = line.find(b"{")
            try:
                body = line[brace:] if brace > 0 else line
                trade = decode(body).data if body.find(b'"data":', 0, _NEAR) > 0 else bare(body)
                price, qty = prices[trade.p], quantities[trade.q]
            except (ValueError, RecursionError):
                self._examine(line, number)
                continue
            ordinary = (
                price > 0
                and qty > 0
                and trade.e == "trade"
                and trade.X == "MARKET"
                and trade.s == self._symbol
                and trade.T in MILLISECONDS
                and 0 <= trade.t <= MAX_TRADE_ID
                and (
                    brace == 0 or (line[: brace - 1].isdigit() and line[brace - 1] == _SPACE) or _is_clock(line[:brace])
                )
            )
            if not ordinary:
                self._examine(line, number)
                continue
            ids(trade.t)
            price_of(price)
            qty_of(qty)
            side_of(-1 if trade.m else 1)
            ts_us_of(trade.T * 1000)
            line_of(number)
            taken = line
        self._count_quick()
        self._sieve.learn(lines, kinds)
        self._layouts.learn(taken)

    def _learn(self, line: bytes, words: bytes) -> bool:
        """Count a line by ``_quick_kind``, if that tells, and remember the kind by ``words`` if they alone tell it: most lines are
        like one before."""
        kind = _quick_kind(line)
        if kind is None:
            return False
        self._quick[kind] += 1
        tells = words == kind or (words[:1] == b'"' and words.split(b"@")[1:2] == [kind])
        if tells and len(self._kinds) < MAX_KINDS:
            self._kinds[words] = kind
        return True

    def _count_quick(self) -> None:
        for kind, count in self._quick.items():
            self._skip(kind.decode("ascii"), count)
        self._quick.clear()

    def _examine(self, line: bytes, number: int) -> None:
        """The slow and complete way for one line: skip, refuse, or take it after all."""
        self._count_quick()
        try:
            self._examine_event(line, number)
        except UnfitError as unfit:
            self._refuse(number, unfit.column, unfit.reason, line)

    def _examine_event(self, line: bytes, number: int) -> None:
        brace = line.find(b"{")
        if brace < 0:
            if line.strip():
                raise UnfitError("", "no JSON object on this line")
            return
        if not _is_clock(line[:brace]):
            raise UnfitError("1", "neither a recorder's clock in digits nor a JSON object at the start of the line")
        body = line[brace:]
        try:
            message: Any = msgspec.json.decode(body)
        except RecursionError:
            raise UnfitError(str(brace + 1), "JSON nested too deeply") from None
        except ValueError as error:
            raise UnfitError(str(brace + 1), f"not JSON: {error}") from None
        wrapped = isinstance(message.get("data"), dict)
        event: dict[str, Any] = message["data"] if wrapped else message
        if event.get("e") != "trade":
            self._skip(_kind(message, event))
            return
        market = event.get("X", "MARKET")
        if market != "MARKET":
            self._skip(f"trade X={market}")
            return
        try:
            trade = self._message.decode(body).data if wrapped else self._bare.decode(body)
        except ValueError as error:
            reason, _, path = str(error).partition(" - at `")
            raise UnfitError(path.strip("`").rpartition(".")[2] or _missing(reason), reason) from None
        if self._wanted(trade.s):
            self._take(trade, number)

    def _take(self, trade: _Trade, number: int) -> None:
        try:
            if not self._prices[trade.p] or not self._quantities[trade.q]:
                self._skip("trade of zero")
                return
        except InexactError:
            pass  # amount() below says which of the two, and why
        price = amount(trade.p, self.spec.price_decimals, "p")
        qty = amount(trade.q, self.spec.qty_decimals, "q")
        identity = numeric_id(trade.t)
        try:
            ts_us = to_us(trade.T)
        except NoTimeError as error:
            raise UnfitError("T", str(error)) from None
        rows = self._rows
        rows.ids.append(identity)
        rows.price.append(price)
        rows.qty.append(qty)
        rows.side.append(-1 if trade.m else 1)
        rows.ts_us.append(ts_us)
        rows.line.append(number)


def _quick_kind(line: bytes) -> bytes | None:
    """The kind of a line that holds no trade, from its bytes alone; None if it takes decoding to tell."""
    if line[-1:] != b"}" and not line.endswith(b"}\r"):
        return None
    start = line.find(b'"e":"') + 5
    if start < 5:
        start = line.find(b'"stream":"') + 10
        if start < 10:
            return None
        start = line.find(b"@", start) + 1
        if not start:
            return None
    kind = line[start : line.find(b'"', start)]
    kind = kind.partition(b"@")[0]
    return kind if kind.isalnum() else None


def _is_clock(prefix: bytes) -> bool:
    return not prefix or (prefix.rstrip(b" \t").isdigit() and prefix[-1:] in b" \t") or not prefix.strip()


def _kind(message: dict[str, Any], event: dict[str, Any]) -> str:
    """What to count an event under that is no trade: its type, else its stream, else what it looks like."""
    kind = event.get("e")
    if isinstance(kind, str) and kind:
        return kind
    stream = message.get("stream")
    if isinstance(stream, str) and "@" in stream:
        return stream.split("@")[1]
    return "depth snapshot" if "lastUpdateId" in event else "unnamed"


def _missing(reason: str) -> str:
    """The field that msgspec's "Object missing required field `p`" names."""
    return reason.partition("`")[2].partition("`")[0] if "required field" in reason else ""
