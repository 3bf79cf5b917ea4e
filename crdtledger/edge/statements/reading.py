"""One statement file, read whole: its trades, or its figures. Impure: opens files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from crdtledger.edge.importers import ImportSpec, Trades, import_file, importer, parse_mapping
from crdtledger.edge.importers.source import Damage, open_lines
from crdtledger.edge.importers.trades import UnfitError
from crdtledger.edge.statements import positions
from crdtledger.edge.statements.fix import FixReports
from crdtledger.edge.statements.positions import Naming
from crdtledger.errors import BadInput, BadStatement, UnknownName
from reconcile.divergence.corrections import Units
from reconcile.divergence.figures import Figures
from reconcile.divergence.trades import Trade

StatementFormat: TypeAlias = Literal["csv-positions", "csv-trades", "ccxt-positions", "ccxt-trades", "fix"]
REFUSALS_NAMED: Final = 5


class StatementPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Which file to read and how. ``instrument``: what the file's one symbol is; else a symbol is the instrument of its name, or of
    ``symbols``. ``account``: whose trades or positions these are where the file does not say. ``kind``: whose statement it is.
    ``since_us``, ``until_us``: the period that its trades are of; 0: from its first trade, to its last."""

    file: Path
    format: StatementFormat
    venue: str = "venue"
    account: str = ""
    instrument: str = ""
    symbols: Mapping[str, str] = {}
    mapping: str = ""
    since_us: int = 0
    until_us: int = 0
    kind: Literal["venue", "custodian"] = "venue"

    @property
    def source(self) -> str:
        """What the statement is called in a row: not by its file, so that tomorrow's statement shows the same break."""
        return f"venue {self.venue}" if self.kind == "venue" else "custodian"


class Statement(msgspec.Struct, frozen=True, eq=False):
    """What a file says: ``trades``, or ``figures``; the other is None."""

    plan: StatementPlan
    trades: tuple[Trade, ...] | None = None
    figures: Figures | None = None


class Reference(msgspec.Struct, frozen=True):
    """What the ledger knows of names. ``units``: by instrument; ``fields``: (instrument or asset, field) -> decimals."""

    units: Mapping[str, Units]
    decimals: Callable[[str, str], int | None]


def read_statement(plan: StatementPlan, reference: Reference) -> Statement:
    """Read it whole. Raises ``BadStatement`` naming the lines that do not fit, ``BadInput`` for a file of another kind."""
    refusals: list[str] = []
    refused = 0

    def unfit(line: int, error: UnfitError) -> None:
        nonlocal refused
        refused += 1
        if len(refusals) < REFUSALS_NAMED:
            refusals.append(f"{plan.file}:{line}: {error.column + ': ' if error.column else ''}{error}")

    if plan.format == "fix":
        statement = Statement(plan, trades=_fix(plan, reference, unfit))
    elif plan.format in ("csv-trades", "ccxt-trades"):
        trades, lines, count = _imported(plan, reference)
        refusals += lines[:REFUSALS_NAMED]
        refused += count
        statement = Statement(plan, trades=trades)
    else:
        statement = Statement(plan, figures=_figures(plan, reference, unfit))
    if refused:
        raise BadStatement(file=str(plan.file), refused=refused, refusals=tuple(refusals))
    return statement


def _instrument_of(plan: StatementPlan) -> Callable[[str], str | None]:
    def instrument_of(symbol: str) -> str | None:
        return plan.symbols.get(symbol) or plan.instrument or symbol

    return instrument_of


def _lines(path: Path) -> Iterator[bytes]:
    """The file's lines, plain or gzip. ``BadInput`` for one that is damaged or cannot be opened."""
    carry = b""
    for chunk in open_lines(path):
        if isinstance(chunk, Damage):
            raise BadInput(what=f"byte {chunk.offset}", where=str(path), why=chunk.reason)
        lines = (carry + chunk).split(b"\n")
        carry = lines.pop()
        yield from (line + b"\n" for line in lines)
    if carry:
        yield carry


def _fix(plan: StatementPlan, reference: Reference, unfit: Callable[[int, UnfitError], None]) -> tuple[Trade, ...]:
    reports = FixReports(_instrument_of(plan), reference.units.get, plan.account, plan.venue)
    for number, raw in enumerate(_lines(plan.file), 1):
        if raw.strip():
            try:
                reports.take(raw.decode("utf-8"), f"{plan.file.name}:{number}")
            except UnicodeDecodeError:
                unfit(number, UnfitError("", "not UTF-8 text"))
            except UnfitError as error:
                unfit(number, error)
    return tuple(reports.trades())


def _imported(plan: StatementPlan, reference: Reference) -> tuple[tuple[Trade, ...], list[str], int]:
    """Trades as the importers read them: one symbol at a time. (trades, refusals, how many)"""
    if not plan.instrument:
        raise BadInput(what="instrument", where="recon", why="say which one the trades are of: --instrument")
    units = reference.units.get(plan.instrument)
    if units is None:
        raise UnknownName(kind="instrument", name=plan.instrument, known=reference.units)
    spec = ImportSpec(
        file=str(plan.file),
        price_decimals=units.price_decimals,
        qty_decimals=units.qty_decimals,
        symbol=next((symbol for symbol, name in plan.symbols.items() if name == plan.instrument), None),
        asset_decimals=units.assets,
        mapping=parse_mapping(plan.mapping) if plan.format == "csv-trades" else {},
    )
    machine = importer("csv" if plan.format == "csv-trades" else "ccxt", spec)
    trades = [trade for block in import_file(machine, plan.file) for trade in _trades(block, plan)]
    refusals = [str(refusal) for refusal in machine.summary.refusals]
    twice = _twice(trades)
    return tuple(trades), refusals + twice, machine.summary.refused + len(twice)


def _trades(block: Trades, plan: StatementPlan) -> Iterator[Trade]:
    if block.account is None and not plan.account:
        raise BadInput(
            what="accounts", where=str(plan.file), why="the file names none: say whose trades with --account"
        )
    for row, id_ in enumerate(block.id_texts()):
        yield Trade(
            id=id_,
            account=block.account[row] if block.account else plan.account,
            instrument=plan.instrument,
            side=int(block.side[row]),
            qty=int(block.qty[row]),
            price=int(block.price[row]),
            fee=int(block.fee[row]),
            fee_asset=block.fee_asset[row] if block.fee_asset else "",
            ts_us=int(block.ts_us[row]),
            place=f"{plan.file.name}:{int(block.line[row])}",
            venue=plan.venue,
        )


def _twice(trades: list[Trade]) -> list[str]:
    """Ids that a statement lists twice: it does not say which line counts."""
    seen: dict[str, str] = {}
    out = []
    for trade in trades:
        before = seen.setdefault(trade.id, trade.place)
        if before != trade.place:
            out.append(f"{trade.place}: id: trade {trade.id} stands at {before} too")
    return out


def _figures(plan: StatementPlan, reference: Reference, unfit: Callable[[int, UnfitError], None]) -> Figures:
    naming = Naming(_instrument_of(plan), reference.decimals, plan.account)
    if plan.format == "ccxt-positions":
        if not plan.account:
            raise BadInput(what="account", where="recon", why="CCXT positions name none: say --account")
        text = b"".join(_lines(plan.file)).decode("utf-8", "replace")
        return positions.read_ccxt(text, str(plan.file), naming, unfit, plan.kind, plan.source)
    mapping = positions.parse_mapping(plan.mapping or "account=account,instrument=instrument,qty=qty")
    lines = (line.decode("utf-8") for line in _lines(plan.file))
    return positions.read_csv(lines, str(plan.file), mapping, naming, unfit, plan.kind, plan.source)
