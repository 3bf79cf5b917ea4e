"""The flow that speed is measured on is real, and engines that match by price and time make the same trades of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.matching import ENGINES, flow, ours

CAPTURES = Path(os.environ.get("CRDTLEDGER_CAPTURES") or Path(__file__).parents[3] / "shared" / "data")
USDM = CAPTURES / "binance-usdm-btcusdt_20240808.gz"
STEPS = 12_000

pytestmark = [
    pytest.mark.captures,
    pytest.mark.skipif(not USDM.exists(), reason=f"the captures are not at {CAPTURES}"),
]


def test_no_order_of_the_flow_trades_beyond_its_quantity_or_its_price() -> None:
    steps = flow(USDM)[:STEPS]
    orders = {step.key: step for step in steps if step.price}
    _, trades = ours(steps)
    assert len(trades) > STEPS // 4
    left = {key: step.qty for key, step in orders.items()}
    for taker, maker, qty, price in trades:
        left[taker] -= qty
        left[maker] -= qty
        assert price == orders[maker].price
        assert orders[taker].side * (orders[taker].price - price) >= 0
        assert orders[taker].side == -orders[maker].side
    assert min(left.values()) == 0


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "crdtledger"])
def test_other_engines_make_the_same_trades(engine: str) -> None:
    pytest.importorskip(engine.replace("-", "_"), reason="crdtledger[bench] is not installed")
    steps = flow(USDM)[:STEPS]
    assert ENGINES[engine](steps)[1] == ours(steps)[1]
