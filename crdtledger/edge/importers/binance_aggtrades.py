"""``binance-aggtrades``: the daily and monthly ``aggTrades`` files of data.binance.vision, unpacked.

Columns: agg_trade_id, price, quantity, first_trade_id, last_trade_id, transact_time, is_buyer_maker and, for spot, is_best_match.
Futures files have a header line, spot files have none; times are milliseconds, or microseconds in spot files since 2025.
One row adds up the fills of one taker order at one price, and its id counts such rows: aggregate ids and trade ids are
different id spaces, so the same market imported both ways is two sets of facts, never a duplicate of itself.

Rows with a price or quantity of zero occur in published files (binance-public-data issue 342): skipped, counted as
``trade of zero``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from crdtledger.edge.importers.delimited import DelimitedImporter
from crdtledger.edge.importers.rows import amount, trade_id
from crdtledger.edge.importers.timestamps import NoTimeError, to_us
from crdtledger.edge.importers.trades import ImportSpec, UnfitError
from crdtledger.errors import BadInput
from crdtledger.ledger.decimals import InexactError, MinorUnits

_COLUMNS: Final = (
    "agg_trade_id",
    "price",
    "quantity",
    "first_trade_id",
    "last_trade_id",
    "transact_time",
    "is_buyer_maker",
)
_ALIASES: Final = {
    "a": "agg_trade_id",
    "p": "price",
    "q": "quantity",
    "f": "first_trade_id",
    "l": "last_trade_id",
    "T": "transact_time",
    "timestamp": "transact_time",
    "m": "is_buyer_maker",
    "was_buyer_maker": "is_buyer_maker",
}
_TAKER_SIDES: Final = {"true": -1, "false": 1, "True": -1, "False": 1, "TRUE": -1, "FALSE": 1}
_NO_HEADER: Final = ",".join(_COLUMNS)


class BinanceAggTrades(DelimitedImporter):
    """See the module."""

    name = "binance-aggtrades"
    id_space = "aggtrade"
    needed = ("agg_trade_id", "price", "quantity", "transact_time", "is_buyer_maker")

    def __init__(self, spec: ImportSpec) -> None:
        super().__init__(spec)
        self._delimiter = ","
        self._prices = MinorUnits(spec.price_decimals)
        self._quantities = MinorUnits(spec.qty_decimals)
        self._at = (0, 1, 2, 5, 6)

    def _begin(self, text: str) -> bool:
        if not text[0].isdigit():
            self._open(text)
            return True
        width = text.count(",") + 1
        if width not in (7, 8):
            raise self._wrong("a first line", 1, f"{width} columns; such files have 7 or 8")
        self._open(_NO_HEADER + (",is_best_match" if width == 8 else ""))
        return False

    def _named(self, names: Sequence[str]) -> dict[str, int]:
        return super()._named([_ALIASES.get(name, name) for name in names])

    def _open(self, opening: str) -> None:
        super()._open(opening)
        identity, price, qty, time, maker = (self._columns[name] for name in self.needed)
        self._at = (identity, price, qty, time, maker)

    def _require_header(self) -> BadInput | None:
        return None

    def _record(self, fields: list[str], number: int) -> None:
        at_id, at_price, at_qty, at_time, at_maker = self._at
        try:
            price, qty = self._prices[fields[at_price]], self._quantities[fields[at_qty]]
        except InexactError:
            amount(fields[at_price], self.spec.price_decimals, "price")
            amount(fields[at_qty], self.spec.qty_decimals, "quantity")
            raise UnfitError("", "a price or quantity that does not fit") from None
        if not price or not qty:
            self._skip("trade of zero")
            return
        identity = trade_id(fields[at_id])
        if isinstance(identity, str):
            raise UnfitError("agg_trade_id", f"{identity[:40]!r} is not a number of 64 bits")
        side = _TAKER_SIDES.get(fields[at_maker])
        if side is None:
            raise UnfitError("is_buyer_maker", f"{fields[at_maker][:40]!r} is neither true nor false")
        time = fields[at_time]
        if not (time.isascii() and time.isdigit() and len(time) < 20):
            raise UnfitError("transact_time", f"{time[:40]!r} is not a whole number")
        try:
            ts_us = to_us(int(time))
        except NoTimeError as error:
            raise UnfitError("transact_time", str(error)) from None
        rows = self._rows
        rows.ids.append(identity)
        rows.price.append(price)
        rows.qty.append(qty)
        rows.side.append(side)
        rows.ts_us.append(ts_us)
        rows.line.append(number)
