"""A hundred thousand fills as numpy columns: recorded in one call, added up exactly.

python examples/columns.py
"""

from __future__ import annotations

import numpy as np

from crdtledger import FillColumns, Ledger

FILLS = 100_000

[desk] = Ledger.cluster("desk", assets={"BTC": 8})
desk.record(
    {"kind": "account", "name": "MAKER"},
    {"kind": "account", "name": "TAKER"},
    {
        "kind": "instrument",
        "name": "BTCUSD",
        "type": "perp",
        "base": "BTC",
        "quote": "USD",
        "settlement": "BTC",
        "inverse": True,
        "contract_size": 100,
        "price_decimals": 1,
        "qty_decimals": 0,
    },
)

draw = np.random.default_rng(7)
fills = FillColumns(
    venue="deribit",
    instrument="BTCUSD",
    trade_id=np.arange(FILLS, dtype=np.uint64),
    price=draw.integers(600_000, 620_000, FILLS),  # tenths of a dollar
    qty=draw.integers(1, 50, FILLS),  # contracts of 100 USD
    side=draw.choice(np.array([1, -1], np.int8), FILLS),
    account=draw.integers(0, 2, FILLS),
    accounts=["MAKER", "TAKER"],
)
first = desk.record_fills(fills)
again = desk.record_fills(fills)  # a second import of the same file changes nothing

print(f"recorded {first.facts:,} fills in {len(first.batches)} batches, then {again.facts} of {again.duplicates:,}")
for row in desk.positions_json():
    print(row["account"], "net", row["qty"], "contracts; bought for", row["value_bought"], "BTC; fills", row["fills"])
