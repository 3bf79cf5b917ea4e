"""How long a capture takes to import, beside the least that anybody must do to read it.

    python -m bench importing --captures FOLDER

A capture is a gzip file of a Binance stream, as a recorder writes it: trades among many other events. Importing it means: unpacked, cut
into lines, every line taken as a trade, skipped and counted, or refused; the trades' columns recorded in a ledger of one node, in signed
batches. The figures of both must be those of the plain reading, or the bench fails.

The least is: unpack it, look through its lines for the word, decode those that have it; nothing is checked, converted or kept by it.
Beside both stands what the command does before: to read the file once for its damage, so that nothing of a damaged one is recorded.
Without captures, a file of the same form is made of trades that nobody made.
"""

from __future__ import annotations

import gzip
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.measured import OURS, Goal, Plan, Result, Wrong, rounds, row, timed
from crdtledger.edge.demo.replay import detect
from crdtledger.edge.importers import (
    ImportSpec,
    Trades,
    account_name,
    assign_accounts,
    concatenate,
    import_file,
    importer,
)
from crdtledger.edge.importing import survey
from crdtledger.ledger.drafting import FillColumns
from crdtledger.ledger.facts import Account, Instrument
from crdtledger.ledger.inprocess import Ledger

ACCOUNTS = 100
NAMES = [account_name(number) for number in range(ACCOUNTS)]
COLUMNS = "to columns"
PLAIN = "gunzip, scan, decode"
SURVEY = "to look for damage before"


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


def columns(of: Capture) -> list[Trades]:
    """The file's trades."""
    spec = ImportSpec(of.path.name, of.instrument.price_decimals, of.instrument.qty_decimals)
    return list(import_file(importer("binance-stream", spec), of.path))


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


def imported(captures: list[Capture]) -> float:
    """Seconds from files to a ledger."""
    (ledger,) = Ledger.cluster("one", assets={"USDT": 8, "BTC": 8})
    ledger.record(*(Account(name=name) for name in NAMES), *(of.instrument for of in captures))

    def work() -> None:
        for of in captures:
            ledger.record_fills(fills(of, concatenate(columns(of))))

    seconds = timed(work)
    for of in captures:
        rows = [held for held in ledger.positions() if held.instrument == of.instrument.name]
        told = sum(held.fills for held in rows), sum(held.bought + held.sold for held in rows)
        if told != (of.fills, of.qty):
            raise Wrong(f"{of.path.name}: {told} fills and quantity, read plainly {(of.fills, of.qty)}")
    return seconds


def to_columns(captures: list[Capture]) -> float:
    """Seconds from files to columns."""
    found: list[Trades] = []
    seconds = timed(lambda: found.extend(concatenate(columns(of)) for of in captures))
    for of, trades in zip(captures, found, strict=True):
        if (len(trades), sum(trades.qty.tolist())) != (of.fills, of.qty):
            raise Wrong(f"{of.path.name}: its columns are not what a plain reading finds")
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
    rows = rounds(
        {
            OURS: lambda: imported(captures),
            COLUMNS: lambda: to_columns(captures),
            PLAIN: lambda: timed(lambda: [plainly(of.path) for of in captures]),
            SURVEY: lambda: timed(lambda: [survey(of.path) for of in captures]),
        },
        plan.runs,
        trades,
    )
    least = row(rows, PLAIN).median
    goals = (
        Goal("recorded, over gunzip + scan + decode", row(rows, OURS).median / least, "most", 2.0, "times"),
        Goal("to columns, over gunzip + scan + decode", row(rows, COLUMNS).median / least, "most", 2.0, "times"),
    )
    told = {"captures": f"{len(captures)} {kind}", "trades": trades, "runs": plan.runs}
    return Result("importing", "Import of captures: file to recorded fills, on one core", "trades", rows, goals, told)
