"""Two offices lose sight of each other, and go on: the ledger without a process, in one file.

python examples/partition.py
"""

from __future__ import annotations

from crdtledger import Ledger
from crdtledger.errors import InsufficientRights

london, tokyo = Ledger.cluster("london", "tokyo", assets={"USDT": 2, "BTC": 8})

london.record(
    {"kind": "account", "name": "FUND"},
    {
        "kind": "instrument",
        "name": "BTC-PERP",
        "type": "perp",
        "base": "BTC",
        "quote": "USDT",
        "settlement": "USDT",
        "price_decimals": 1,
        "qty_decimals": 3,
    },
    {"kind": "deposit", "id": "d1", "account": "FUND", "asset": "USDT", "amount": "1000.00"},
    {"kind": "grant", "id": "g1", "account": "FUND", "asset": "USDT", "amount": "400.00", "node": "tokyo"},
)
tokyo.join(london)

# From here on they do not hear each other. Both trade, both spend, and the trade both saw is reported twice.
fill = {"kind": "fill", "venue": "okx", "instrument": "BTC-PERP", "account": "FUND", "price": "60000.0", "qty": "0.010"}
london.record({**fill, "trade_id": 1, "side": "buy"}, {**fill, "trade_id": 2, "side": "buy"})
tokyo.record({**fill, "trade_id": 2, "side": "buy"}, {**fill, "trade_id": 3, "side": "sell"})

london.record({"kind": "withdrawal", "id": "w1", "account": "FUND", "asset": "USDT", "amount": "600.00"})
try:
    tokyo.record({"kind": "withdrawal", "id": "w2", "account": "FUND", "asset": "USDT", "amount": "600.00"})
except InsufficientRights as refusal:
    print("tokyo:", refusal)
tokyo.record({"kind": "withdrawal", "id": "w3", "account": "FUND", "asset": "USDT", "amount": "250.00"})

# The network is back: they join, in either order, and hold the same to the last byte.
london.join(tokyo)
tokyo.join(london)
assert london.replica.view.canonical() == tokyo.replica.view.canonical()

[position] = london.positions_json()
[balance] = london.collateral_json()
print("fills:", position["fills"], "net:", position["qty"], "BTC")
print("deposited:", balance["deposited"], "withdrawn:", balance["withdrawn"], "rights:", balance["rights"])
