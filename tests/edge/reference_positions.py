"""Positions of a recorded Binance stream, worked out the plain way: the oracle that the ledger's answers are held against.

Nothing here comes from crdtledger: the json module, Decimal and a dictionary. One line at a time: is it a trade, whose is it
(the trade id modulo the number of accounts), did the taker buy (``m`` false) or sell, and what is it worth:

- linear: quantity * price * contract size, exact;
- inverse: quantity * contract size / price, rounded half-even to the settlement asset's decimals, fill by fill.

    python -m tests.edge.reference_positions FILE --kind inverse --contract-size 100 --settle-decimals 8 --accounts 20
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from pathlib import Path
from typing import Any


@dataclass
class Row:
    """One account's totals, in units (not minor units) of the quantity and of the settlement asset."""

    bought: Decimal = Decimal(0)
    sold: Decimal = Decimal(0)
    value_bought: Decimal = Decimal(0)
    value_sold: Decimal = Decimal(0)
    fills: int = 0


def trades(path: Path) -> Iterator[dict[str, Any]]:
    """Every ordinary trade event of the capture, in file order."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        for line in lines:
            start = line.find("{")
            if start < 0:
                continue
            message = json.loads(line[start:], parse_float=Decimal)
            event = message.get("data", message)
            if event.get("e") != "trade" or event.get("X", "MARKET") != "MARKET":
                continue
            if Decimal(event["p"]) > 0 and Decimal(event["q"]) > 0:
                yield event


def positions(
    path: Path,
    *,
    kind: str,
    accounts: int,
    price_decimals: int,
    qty_decimals: int,
    contract_size: Decimal = Decimal(1),
    settle_decimals: int = 8,
) -> dict[str, Row]:
    """Account name -> totals. Raises ValueError for a number that the decimals do not hold."""
    rows: dict[str, Row] = {}
    with localcontext() as context:
        context.prec = 80
        for event in trades(path):
            price, qty = Decimal(event["p"]), Decimal(event["q"])
            if price != round(price, price_decimals) or qty != round(qty, qty_decimals):
                raise ValueError(f"trade {event['t']}: {price} x {qty} needs more decimals")
            if kind == "linear":
                value = qty * price * contract_size
            elif kind == "inverse":
                unit = Decimal(1).scaleb(-settle_decimals)
                value = (qty * contract_size / price).quantize(unit, rounding=ROUND_HALF_EVEN)
            else:
                raise ValueError(f"unknown kind {kind!r}")
            row = rows.setdefault(f"A{event['t'] % accounts:03d}", Row())
            row.fills += 1
            if event["m"]:
                row.sold += qty
                row.value_sold += value
            else:
                row.bought += qty
                row.value_bought += value
    return dict(sorted(rows.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--kind", choices=("linear", "inverse"), default="linear")
    parser.add_argument("--contract-size", type=Decimal, default=Decimal(1))
    parser.add_argument("--settle-decimals", type=int, default=8)
    parser.add_argument("--accounts", type=int, default=20)
    parser.add_argument("--price-decimals", type=int, default=2)
    parser.add_argument("--qty-decimals", type=int, default=8)
    given = parser.parse_args()
    rows = positions(
        given.file,
        kind=given.kind,
        accounts=given.accounts,
        price_decimals=given.price_decimals,
        qty_decimals=given.qty_decimals,
        contract_size=given.contract_size,
        settle_decimals=given.settle_decimals,
    )
    sys.stdout.write("account bought sold value_bought value_sold fills\n")
    for account, row in rows.items():
        sys.stdout.write(
            f"{account} {row.bought} {row.sold} {row.value_bought} {row.value_sold} {row.fills}\n",
        )


if __name__ == "__main__":
    main()
