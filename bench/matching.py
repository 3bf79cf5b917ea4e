"""How fast is the book? The same order flow through this one, cython-orderbook and pyorderbook, in one run.

    pip install "crdtledger[bench]"
    python -m bench.matching ../shared/data/binance-usdm-btcusdt_20240808.gz [--runs 7]

The flow is made of the capture's real trades. For each one a maker of its price and quantity enters some trades ahead, on the other side of
the taker; two more orders enter a little further away, of which one is cancelled before the trade's time and the other after it; then
the taker enters, as a limit order at the trade's price. So prices, quantities and their order are the market's, and the book has depth.

Every engine gets plain numbers, and makes its own order objects in the time that counts. Runs alternate between engines; what counts is
the median. All must make the same trades, or the bench fails.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from crdtledger.edge.demo.replay import detect
from crdtledger.edge.importers import ImportSpec, concatenate, import_file, importer
from crdtledger.matching.book import Book
from crdtledger.matching.match import Incoming, match
from crdtledger.matching.orders import BUY, SELL, OpenOrder

AHEAD = 40
TICKS = (10, 30)


class Step(NamedTuple):
    """An order (``price`` > 0) or the cancel of the order ``key``."""

    key: int
    side: int
    price: int
    qty: int
    account: str


Trade = tuple[int, int, int, int]
"""(taker, maker, qty, price)."""


def flow(path: Path) -> list[Step]:
    """The steps, in order."""
    instrument = detect(path)
    spec = ImportSpec(path.name, instrument.price_decimals, instrument.qty_decimals)
    trades = concatenate(list(import_file(importer("binance-stream", spec), path)))
    events: list[tuple[int, int, Step]] = []
    key = 0
    columns = (trades.price.tolist(), trades.qty.tolist(), trades.side.tolist())
    for at, (price, qty, side) in enumerate(zip(*columns, strict=True)):
        for number, (entered, away, gone) in enumerate(
            ((AHEAD, 0, 0), (AHEAD + 9, TICKS[0], 5), (AHEAD + 17, TICKS[1], -25), (0, 0, 0))
        ):
            key += 1
            taker = number == 3
            order = Step(key, side if taker else -side, price + (0 if taker else side * away), qty, str(key))
            events.append((at - entered, key, order))
            if gone:
                events.append((at - gone, key, Step(key, order.side, 0, 0, "")))
    return [step for _, _, step in sorted(events, key=lambda event: event[:2])]


def ours(steps: list[Step]) -> tuple[float, list[Trade]]:
    book = Book()
    out = []
    begun = time.perf_counter()
    for at, (key, side, price, qty, account) in enumerate(steps):
        if price:
            outcome = match(book, Incoming(account, side, qty, price))
            if outcome.proposals:
                out.append((key, outcome.proposals))
            if outcome.rest:
                book.add(OpenOrder(("n", key), account, side, price, outcome.rest, (at, b"", 1, 0)))
        elif ("n", key) in book:
            book.remove(("n", key))
    taken = time.perf_counter() - begun
    return taken, [(key, int(p.maker[1]), p.qty, p.price) for key, proposals in out for p in proposals]


def cython_orderbook(steps: list[Step]) -> tuple[float, list[Trade]]:
    from cython_orderbook import Order, OrderBook, OrderSide

    book, sides, orders = OrderBook(), {BUY: OrderSide.BID, SELL: OrderSide.ASK}, {}
    begun = time.perf_counter()
    for key, side, price, qty, _ in steps:
        if price:
            orders[key] = order = Order(sides[side], qty, price)
            book.add_limit_order(order)
        else:
            book.cancel_order(orders[key].order_id)
    taken = time.perf_counter() - begun
    names = {order.order_id: key for key, order in orders.items()}
    return taken, [(names[t.aggressor_id], names[t.filler_id], t.quantity_filled, t.price) for t in book.trade_log]


def pyorderbook(steps: list[Step]) -> tuple[float, list[Trade]]:
    from pyorderbook import Book as PyBook
    from pyorderbook import ask, bid

    book, orders, out = PyBook(), {}, []
    begun = time.perf_counter()
    for key, side, price, qty, _ in steps:
        if price:
            orders[key] = order = (bid if side == BUY else ask)("I", price, qty)
            blotter = book.match(order)
            if blotter.trades:
                out.append((key, blotter.trades))
        elif book.get_order(orders[key].id) is not None:
            book.cancel(orders[key])
    taken = time.perf_counter() - begun
    names = {order.id: key for key, order in orders.items()}
    return taken, [
        (k, names[t.standing_order_id], t.fill_quantity, int(t.fill_price)) for k, trades in out for t in trades
    ]


ENGINES: dict[str, Callable[[list[Step]], tuple[float, list[Trade]]]] = {
    "crdtledger": ours,
    "cython-orderbook": cython_orderbook,
    "pyorderbook": pyorderbook,
}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("capture", type=Path)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    steps = flow(options.capture)
    cancels = sum(1 for step in steps if not step.price)
    print(f"{len(steps)} steps: {len(steps) - cancels} limit orders, {cancels} cancels")
    times: dict[str, list[float]] = {name: [] for name in ENGINES}
    results: dict[str, list[Trade]] = {}
    for _ in range(options.runs):
        for name, run in ENGINES.items():
            gc.collect()
            taken, results[name] = run(steps)
            times[name].append(taken)
    same = all(result == results["crdtledger"] for result in results.values())
    print(f"{len(results['crdtledger'])} trades, {'the same' if same else 'NOT THE SAME'} from all engines")
    mine = statistics.median(times["crdtledger"])
    for name, taken in times.items():
        median = statistics.median(taken)
        spread = f"{min(taken):.3f}..{max(taken):.3f} s"
        print(
            f"{name:18s} median {median:.3f} s ({spread})  {len(steps) / median:9,.0f} steps/s  {median / mine:5.2f} x ours"
        )
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
