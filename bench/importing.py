"""How long a capture takes to import, beside the least that anybody must do to read it.

    python -m bench importing --captures FOLDER

A capture is a gzip file of a Binance stream, as a recorder writes it: trades among many other events. Importing it is all that the
command ``crdtledger import`` does once its process has started: connect to a node process on loopback, unpack the file, hash its content,
look for damage, cut it into lines, take every line as a trade, skip and count it, or refuse it; define the accounts, send the trades'
columns, wait until the node has acknowledged all of them, which is when they are durable; ask for the positions, which folds them. Beside
it the same without a node: into a ledger in this process, signed and folded but neither sent nor synced. The positions of both must
be those of the plain reading, or the bench fails.

The least is: unpack it, look through its lines for the word, decode those that have it; nothing is checked, converted or kept by it.
Without captures, a file of the same form is made of trades that nobody made.
"""

from __future__ import annotations

import gzip
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec

from bench.measured import OURS, Goal, Plan, Result, Row, Wrong, rounds, row, timed
from bench.nodes import DOLLARS, Cluster, cluster
from crdtledger.edge.demo.replay import detect
from crdtledger.edge.importers import (
    ImportSpec,
    Trades,
    WholeFile,
    account_name,
    assign_accounts,
    concatenate,
    importer,
)
from crdtledger.edge.importing import Plan as ImportPlan
from crdtledger.edge.importing import import_trades
from crdtledger.ledger.drafting import FillColumns
from crdtledger.ledger.facts import Account, Instrument
from crdtledger.ledger.genesis import Asset
from crdtledger.ledger.inprocess import Ledger
from crdtledger.ledger.positionrow import Position

ACCOUNTS = 100
NAMES = [account_name(number) for number in range(ACCOUNTS)]
FORMAT = "binance-stream"
INPROCESS = "without a node"
COLUMNS = "to columns only"
PLAIN = "gunzip, scan, decode"


class Trade(msgspec.Struct, gc=False):
    """What the plain reading keeps of a trade."""

    t: int
    p: str
    q: str
    m: bool
    T: int
    X: str = "MARKET"


class Event(msgspec.Struct, gc=False):
    """A line of a stream."""

    data: Trade


class Capture(NamedTuple):
    """A file, what it is of, and the fills that a plain reading finds: how many, and the sum of their quantities."""

    path: Path
    instrument: Instrument
    fills: int
    qty: int


def plainly(path: Path) -> list[Trade]:
    """The least: every event of the kind, decoded."""
    decode = msgspec.json.Decoder(Event).decode
    lines = gzip.decompress(path.read_bytes()).split(b"\n")
    return [decode(line[line.find(b"{") :]).data for line in lines if b'"e":"trade"' in line]


def capture(path: Path) -> Capture:
    """``path``, read plainly."""
    instrument = detect(path)
    market = [trade for trade in plainly(path) if trade.X == "MARKET" and Decimal(trade.q) and Decimal(trade.p)]
    qty = sum(Decimal(trade.q) for trade in market).scaleb(instrument.qty_decimals)
    return Capture(path, instrument, len(market), int(qty))


def columns(of: Capture) -> Trades:
    """The file's trades."""
    spec = ImportSpec(of.path.name, of.instrument.price_decimals, of.instrument.qty_decimals)
    return concatenate(list(WholeFile(importer(FORMAT, spec), of.path).trades()))


def fills(of: Capture, trades: Trades) -> FillColumns:
    """The same as fills of ``ACCOUNTS`` accounts."""
    return FillColumns(
        venue="binance",
        instrument=of.instrument.name,
        trade_id=trades.trade_id,
        price=trades.price,
        qty=trades.qty,
        side=trades.side,
        account=assign_accounts(trades, ACCOUNTS),
        accounts=NAMES,
        ts_us=trades.ts_us,
    )


def check(of: Capture, counted: int, qty: int) -> None:
    """``Wrong`` unless this is what a plain reading finds."""
    if (counted, qty) != (of.fills, of.qty):
        raise Wrong(f"{of.path.name}: {(counted, qty)} fills and quantity, read plainly {(of.fills, of.qty)}")


def into_node(it: Cluster, of: Capture) -> float:
    """Seconds from a file to a node's positions, in a client of its own."""
    plan = ImportPlan(file=of.path, format=FORMAT, instrument=of.instrument.name, accounts=ACCOUNTS)
    rows: list[dict[str, Any]] = []

    def work() -> None:
        with it.client(1) as client:
            import_trades(client, plan)
            rows.extend(client.query("positions", instrument=of.instrument.name))

    seconds = timed(work)
    qty = sum(Decimal(held["bought"]) + Decimal(held["sold"]) for held in rows)
    check(of, sum(held["fills"] for held in rows), int(qty.scaleb(of.instrument.qty_decimals)))
    return seconds


def into_nodes(captures: list[Capture]) -> list[float]:
    """The same of each capture, all into one new node."""
    with cluster(1, assets=(*DOLLARS, Asset("BTC", 8))) as it:
        it.start(1)
        with it.client(1) as client:
            client.record([{"kind": "instrument", **msgspec.to_builtins(of.instrument)} for of in captures])
        return [into_node(it, of) for of in captures]


def into_ledger(captures: list[Capture]) -> list[float]:
    """Seconds from each file to the positions of a ledger in this process."""
    (ledger,) = Ledger.cluster("one", assets={"USDT": 8, "BTC": 8})
    ledger.record(*(Account(name=name) for name in NAMES), *(of.instrument for of in captures))
    return [_into_ledger(ledger, of) for of in captures]


def _into_ledger(ledger: Ledger, of: Capture) -> float:
    rows: list[Position] = []

    def work() -> None:
        ledger.record_fills(fills(of, columns(of)))
        rows.extend(ledger.positions())

    seconds = timed(work)
    mine = [held for held in rows if held.instrument == of.instrument.name]
    check(of, sum(held.fills for held in mine), sum(held.bought + held.sold for held in mine))
    return seconds


def to_columns(of: Capture) -> float:
    """Seconds from a file to columns."""
    found: list[Trades] = []
    seconds = timed(lambda: found.append(columns(of)))
    check(of, len(found[0]), sum(found[0].qty.tolist()))
    return seconds


@contextmanager
def made(lines: int) -> Iterator[Path]:
    """A folder with a capture of ``lines`` lines that nobody recorded."""
    draw = random.Random(11)
    out: list[str] = []
    for number in range(lines):
        ms = 1_700_000_000_000 + number * 4
        price = f"{draw.randrange(60_000_00, 62_000_00) / 100:.2f}"
        if draw.random() < 0.22:
            data = f'"e":"trade","E":{ms},"T":{ms},"s":"BTCUSDT","t":{10**9 + number},"p":"{price}"'
            data += f',"q":"{draw.randrange(1, 5000) / 1000:.3f}","X":"MARKET","m":{draw.choice(["true", "false"])}'
            stream = "trade"
        else:
            kind, stream = draw.choice((("bookTicker", "bookTicker"), ("depthUpdate", "depth@0ms")))
            levels = ",".join(f'["{price}","0.{draw.randrange(1000):03d}"]' for _ in range(8))
            data = f'"e":"{kind}","u":{number},"s":"BTCUSDT","b":[{levels}],"T":{ms},"E":{ms}'
        out.append(f'{ms}000000 {{"stream":"btcusdt@{stream}","data":{{{data}}}}}\n')
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "usdm-made.gz").write_bytes(gzip.compress("".join(out).encode()))
        yield Path(folder)


def measure(plan: Plan) -> Result:
    """Measure the captures that there are, or one that is made."""
    found = sorted(plan.captures.glob("binance-*.gz")) if plan.captures else []
    if found:
        return _measure(plan, found[:1] if plan.quick else found, "real")
    with made(plan.size(100_000, 10_000)) as folder:
        return _measure(plan, sorted(folder.iterdir()), "made up")


def _measure(plan: Plan, paths: list[Path], kind: str) -> Result:
    captures = [capture(path) for path in paths]
    trades = sum(of.fills for of in captures)
    entries: dict[str, Callable[[], list[float]]] = {
        OURS: lambda: into_nodes(captures),
        INPROCESS: lambda: into_ledger(captures),
        COLUMNS: lambda: [to_columns(of) for of in captures],
        PLAIN: lambda: [timed(lambda path=of.path: plainly(path)) for of in captures],  # type: ignore[misc]
    }
    taken: dict[str, list[list[float]]] = {name: [] for name in entries}

    def run(name: str) -> float:
        taken[name].append(entries[name]())
        return sum(taken[name][-1])

    rows = rounds({name: partial(run, name) for name in entries}, plan.runs, trades)
    least = row(rows, PLAIN).median
    goals = [Goal("into a node, over gunzip + scan + decode", row(rows, OURS).median / least, "most", 2.0, "times")]
    for at, of in enumerate(captures):
        each = {name: tuple(seconds[at] for seconds in taken[name]) for name in (OURS, PLAIN)}
        medians = {name: median(runs) for name, runs in each.items()}
        ratio = medians[PLAIN] / medians[OURS]
        rows.append(Row(f"{of.instrument.name}, into a node", each[OURS], medians[OURS], of.fills / medians[OURS], 1.0))
        rows.append(
            Row(f"{of.instrument.name}, the least", each[PLAIN], medians[PLAIN], of.fills / medians[PLAIN], ratio)
        )
        goals.append(Goal(f"{of.instrument.name} alone", 1 / ratio, "most", 2.0, "times"))
    told = {"captures": f"{len(captures)} {kind}", "trades": trades, "accounts": ACCOUNTS, "runs": plan.runs}
    what = "Import of captures: file to fills that a node holds for good, and their positions; client and node are two processes"
    return Result("importing", what, "trades", rows, goals, told)
