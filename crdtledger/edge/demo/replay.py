"""Replay: captures of real markets as feeds. Reads files; impure in that alone.

A capture is a recorded Binance stream, plain or gzip. Which market it comes from is not written on it, but can be told
from its first trades: a symbol that ends in ``USD_PERP`` (or ``USD_`` and a date) is coin-margined, and so inverse; an
``X`` (market type) beside the trade marks a futures stream; an ``M`` marks spot. Without either, the file's name decides.
Decimals come from the trades themselves: as many as any price or quantity of the file needs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from crdtledger.edge.demo.feeds import Feed, select
from crdtledger.edge.importers import (
    ImportSpec,
    account_name,
    assign_accounts,
    concatenate,
    import_file,
    importer,
)
from crdtledger.edge.importers.source import open_lines
from crdtledger.errors import BadInput
from crdtledger.ledger.drafting import FillColumns
from crdtledger.ledger.facts import Instrument

QUOTES: Final = ("USDT", "USDC", "FDUSD", "BUSD", "USD", "BTC", "ETH")
CONTRACT_SIZES: Final = {"BTC": 100}
"""Of coin-margined contracts, in USD; 10 for every other coin."""
VENUES: Final = {"spot": "binance", "perp": "binance-usdm", "coin": "binance-coinm"}
MAX_DECIMALS: Final = 8

_number = re.compile(rb'"([pq])"\s*:\s*"\d+(?:\.(\d*?)0*)?"')


def read(paths: Sequence[Path], accounts: int, facts: int | None) -> list[Feed]:
    """One feed per file; ``facts``: at most so many trades of each file's share. ``BadInput`` names a file that is none."""
    feeds = [_read(path, accounts) for path in paths]
    by_name: dict[str, Instrument] = {}
    for path, feed in zip(paths, feeds, strict=True):
        if by_name.setdefault(feed.instrument.name, feed.instrument) != feed.instrument:
            why = f"another file needs other decimals for {feed.instrument.name}; give files of different markets"
            raise BadInput(what="a capture", where=str(path), why=why)
    if facts is None:
        return feeds
    share = max(1, facts // len(feeds))
    return [Feed(feed.instrument, select(feed.fills, slice(None, share))) for feed in feeds]


def detect(path: Path) -> Instrument:
    """What a capture's trades are in, from its content and, failing that, its name."""
    symbol, market, decimals = _probe(path)
    if symbol.endswith("_PERP") or re.fullmatch(r"[A-Z0-9]+USD_\d{6}", symbol):
        market = "coin"
    if not market:
        market = "futures" if re.search(r"usdm|future|perp|fapi", path.name, re.IGNORECASE) else "spot"
    pair = symbol.partition("_")[0]
    quote = next((quote for quote in QUOTES if pair.endswith(quote) and pair != quote), "")
    if not quote:
        raise BadInput(what=f"symbol {symbol!r}", where=str(path), why=f"quoted in none of {', '.join(QUOTES)}")
    base = pair.removesuffix(quote)
    if market == "coin":
        return Instrument(
            name=symbol.replace("_", "-"),
            type="perp",
            base=base,
            quote=quote,
            settlement=base,
            price_decimals=decimals["p"],
            qty_decimals=decimals["q"],
            inverse=True,
            contract_size=CONTRACT_SIZES.get(base, 10),
        )
    return Instrument(
        name=symbol if market == "spot" else f"{symbol}-PERP",
        type="spot" if market == "spot" else "perp",
        base=base,
        quote=quote,
        settlement=quote,
        price_decimals=decimals["p"],
        qty_decimals=decimals["q"],
    )


def _probe(path: Path) -> tuple[str, str, dict[str, int]]:
    """(symbol, market or nothing, decimals of prices and quantities)."""
    symbol, market = "", ""
    decimals = {"p": 0, "q": 0}
    for line in _lines(path):
        if b'"trade"' not in line:
            continue
        if not symbol:
            event = _event(line)
            symbol = str(event.get("s", ""))
            market = "futures" if "X" in event else "spot" if "M" in event else ""
        for name, fraction in _number.findall(line):
            decimals[name.decode()] = max(decimals[name.decode()], len(fraction))
    if not symbol:
        raise BadInput(what="a capture", where=str(path), why="no trade of a Binance stream in it")
    return symbol, market, {name: min(count, MAX_DECIMALS) for name, count in decimals.items()}


def _lines(path: Path) -> Iterable[bytes]:
    rest = b""
    for chunk in open_lines(path):
        if not isinstance(chunk, bytes):
            break
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    yield rest


def _event(line: bytes) -> dict[str, Any]:
    try:
        message = msgspec.json.decode(line[line.find(b"{") :])
        event = message.get("data", message)
        return event if isinstance(event, dict) else {}
    except (msgspec.DecodeError, AttributeError, RecursionError):
        return {}


def _read(path: Path, accounts: int) -> Feed:
    instrument = detect(path)
    spec = ImportSpec(file=path.name, price_decimals=instrument.price_decimals, qty_decimals=instrument.qty_decimals)
    machine = importer("binance-stream", spec)
    trades = concatenate(list(import_file(machine, path)))
    if not len(trades):
        raise BadInput(what="a capture", where=str(path), why="no trade in it fits")
    fills = FillColumns(
        venue=VENUES["coin" if instrument.inverse else instrument.type],
        instrument=instrument.name,
        trade_id=trades.trade_id,
        text_ids=trades.text_ids,
        price=trades.price,
        qty=trades.qty,
        side=trades.side,
        account=assign_accounts(trades, accounts),
        accounts=[account_name(number) for number in range(accounts)],
        ts_us=trades.ts_us,
    )
    return Feed(instrument, fills)
