"""The real captures: counts as published beside them, and positions equal to the plain Decimal script's."""

from __future__ import annotations

import os
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import NamedTuple

import pytest

from crdtledger.edge.importers import ImportSpec, account_name, assign_accounts, concatenate, import_file, importer
from tests.edge.reference_positions import Row, positions

CAPTURES = Path(os.environ.get("CRDTLEDGER_CAPTURES") or Path(__file__).parents[3] / "shared" / "data")


class Capture(NamedTuple):
    file: str
    symbol: str
    lines: int
    trades: int
    price_decimals: int
    qty_decimals: int
    kind: str
    contract_size: int


ALL = [
    Capture("binance-spot-btcusdt_20240808.gz", "BTCUSDT", 41_249, 9_757, 2, 5, "linear", 1),
    Capture("binance-usdm-btcusdt_20240808.gz", "BTCUSDT", 93_954, 21_313, 1, 3, "linear", 1),
    Capture("binance-cm-btcusd_perp_20240808.gz", "BTCUSD_PERP", 48_270, 2_286, 1, 0, "inverse", 100),
]
ACCOUNTS = 7


@pytest.mark.captures
@pytest.mark.parametrize("capture", ALL, ids=[capture.file for capture in ALL])
def test_a_real_capture_is_imported_whole_and_to_the_last_digit(capture: Capture) -> None:
    path = CAPTURES / capture.file
    if not path.exists():
        pytest.skip(f"the captures are not here: no {path} (set CRDTLEDGER_CAPTURES to their folder)")
    spec = ImportSpec(
        file=capture.file,
        price_decimals=capture.price_decimals,
        qty_decimals=capture.qty_decimals,
        symbol=capture.symbol,
    )
    machine = importer("binance-stream", spec)
    whole = concatenate(list(import_file(machine, path)))
    summary = machine.summary
    assert (summary.lines, summary.trades, summary.refused) == (capture.lines, capture.trades, 0)
    assert summary.trades + sum(summary.skipped.values()) == summary.lines
    ids = whole.trade_id.tolist()
    assert ids == list(range(ids[0], ids[0] + len(ids))), "the recorder missed nothing, so neither did the importer"

    rows: dict[str, Row] = {}
    unit = Decimal(1).scaleb(-8)
    columns = (whole.price, whole.qty, whole.side, assign_accounts(whole, ACCOUNTS))
    for price, qty, side, account in zip(*(column.tolist() for column in columns), strict=True):
        row = rows.setdefault(account_name(account), Row())
        units = Decimal(qty).scaleb(-capture.qty_decimals)
        value = units * Decimal(price).scaleb(-capture.price_decimals)
        if capture.kind == "inverse":
            value = (units * capture.contract_size / Decimal(price).scaleb(-capture.price_decimals)).quantize(
                unit, rounding=ROUND_HALF_EVEN
            )
        row.fills += 1
        if side > 0:
            row.bought, row.value_bought = row.bought + units, row.value_bought + value
        else:
            row.sold, row.value_sold = row.sold + units, row.value_sold + value
    assert rows == positions(
        path,
        kind=capture.kind,
        accounts=ACCOUNTS,
        price_decimals=capture.price_decimals,
        qty_decimals=capture.qty_decimals,
        contract_size=Decimal(capture.contract_size),
    )
