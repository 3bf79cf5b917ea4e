"""``tardis``: trades files of tardis.dev, a normalised CSV across venues.

Columns: exchange, symbol, timestamp, local_timestamp, id, side, price, amount; times are microseconds; ``side`` is the taker's.
``unknown`` sides are refused: without a side there is no position. Venues without trade ids leave the id empty, which is
refused too: such rows could not be told from their repetition. Format: https://docs.tardis.dev (downloadable CSV files, trades).
"""

from __future__ import annotations

from typing import Final

from crdtledger.edge.importers.delimited import DelimitedImporter, side_of
from crdtledger.edge.importers.rows import amount, trade_id

_SIDES: Final = {"buy": 1, "sell": -1}


class Tardis(DelimitedImporter):
    """See the module."""

    name = "tardis"
    needed = ("symbol", "timestamp", "id", "side", "price", "amount")

    def _record(self, fields: list[str], number: int) -> None:
        columns = self._columns
        if not self._wanted(fields[columns["symbol"]]):
            return
        identity = trade_id(fields[columns["id"]])
        price = amount(fields[columns["price"]], self.spec.price_decimals, "price")
        qty = amount(fields[columns["amount"]], self.spec.qty_decimals, "amount")
        side = side_of(fields[columns["side"]], _SIDES, "side")
        ts_us = self._time(fields[columns["timestamp"]], "auto", "timestamp")
        rows = self._rows
        rows.ids.append(identity)
        rows.price.append(price)
        rows.qty.append(qty)
        rows.side.append(side)
        rows.ts_us.append(ts_us)
        rows.line.append(number)
