"""Statements of positions or balances: CSV with a header and a mapping, and CCXT's positions as JSON.

A CSV mapping is ``role=column,...``; ``account`` (unless one is given for all), ``instrument`` and at least one figure are needed. Figures:
``qty``, ``bought``, ``sold``, ``fees``, ``mark``. ``side`` gives an unsigned quantity its sign (``sell`` or ``short``: negative).
``delimiter`` is the character. An empty cell is not told, which is not zero.

CCXT: symbol, contracts, side (long or short), markPrice, from a JSON array or JSON lines (https://docs.ccxt.com, position structure).
Numbers are taken from their text, so ``1e-7`` and ``0.10`` arrive exactly; digits beyond the ledger's are kept, and show as a rounding.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from crdtledger.edge.importers.rows import excerpt
from crdtledger.edge.importers.trades import UnfitError
from crdtledger.errors import BadInput
from crdtledger.ledger.decimals import InexactError, to_minor
from reconcile.divergence.figures import Figures, Kind, Told, figures

FIELDS: Final = ("qty", "bought", "sold", "fees", "mark")
ROLES: Final = ("account", "instrument", "side", "delimiter", *FIELDS)
MAX_DECIMALS: Final = 36
_SHORT: Final = ("sell", "short", "s")

Unfit = Callable[[int, UnfitError], None]


class Naming(NamedTuple):
    """How a statement's names become the ledger's. ``instrument_of``: a symbol's instrument, None to pass the row over. ``decimals_of``:
    (instrument or asset, field) -> its decimals, None for a name that the ledger does not have. ``account``: for rows that name none."""

    instrument_of: Callable[[str], str | None]
    decimals_of: Callable[[str, str], int | None]
    account: str


class _Rows:
    """Rows as they come; no (account, instrument) twice."""

    def __init__(self, naming: Naming, unfit: Unfit) -> None:
        self._naming = naming
        self._unfit = unfit
        self._lines: dict[tuple[str, str], int] = {}
        self._numbers: dict[tuple[int, str], tuple[int, int]] = {}
        self.rows: list[tuple[str, str, Told]] = []

    def add(self, line: int, account: str, symbol: str, cells: Mapping[str, str], short: bool) -> None:
        try:
            instrument = self._naming.instrument_of(symbol)
            if instrument is None:
                return
            account = account or self._naming.account
            for role, name in (("account", account), ("instrument", instrument)):
                if not name or not name.isprintable():
                    raise UnfitError(role, "not told")
            told = {field: self._number(instrument, field, text) for field, text in cells.items()}
            qty = told.get("qty")
            if short and qty is not None:
                told["qty"] = (-abs(qty[0]), qty[1])
            before = self._lines.setdefault((account, instrument), line)
            if before != line:
                raise UnfitError("instrument", f"{account} {instrument} stands on line {before} too")
            self.rows.append((account, instrument, told))
        except UnfitError as unfit:
            self._unfit(line, unfit)

    def _number(self, instrument: str, field: str, text: str) -> tuple[int, int] | None:
        if not text:
            return None
        decimals = self._naming.decimals_of(instrument, field)
        decimals = 8 if decimals is None else decimals
        known = self._numbers.get((decimals, text))
        if known is None:
            known = _exact(text, decimals, field)
            if len(self._numbers) < 1 << 16:
                self._numbers[decimals, text] = known
        return known


def _exact(text: str, decimals: int, field: str) -> tuple[int, int]:
    """The number at ``decimals``, or at as many more as it needs."""
    why = ""
    for places in range(decimals, MAX_DECIMALS + 1):
        try:
            return to_minor(text, places, signed=True), places
        except InexactError as error:
            why = str(error)
            if not why.startswith("needs"):
                break
    raise UnfitError(field, f"{excerpt(text)}: {why}")


def parse_mapping(text: str) -> dict[str, str]:
    """A mapping for positions. Raises ``BadInput`` naming the part that does not fit."""
    mapping: dict[str, str] = {}
    for part in text.split(","):
        role, equals, column = (piece.strip() for piece in part.partition("="))
        if not equals or not column or role not in ROLES or role in mapping:
            why = f"role=column, each role once; roles are {', '.join(ROLES)}"
            raise BadInput(what=repr(part), where="column mapping", why=why)
        mapping[role] = column
    if "instrument" not in mapping or not set(FIELDS) & mapping.keys():
        raise BadInput(what=repr(text), where="column mapping", why=f"needs instrument and one of {', '.join(FIELDS)}")
    return mapping


def read_csv(
    lines: Iterator[str], file: str, mapping: Mapping[str, str], naming: Naming, unfit: Unfit, kind: Kind, source: str
) -> Figures:
    """The figures of a CSV. ``unfit`` hears of every row that does not fit. ``BadInput`` for a header without a mapped column."""
    reader = csv.reader(lines, delimiter=mapping.get("delimiter", ","), strict=True)
    rows = _Rows(naming, unfit)
    try:
        header = [name.strip().removeprefix("\ufeff") for name in next(reader, [])]
        at: dict[str, int] = {}
        for role, column in mapping.items():
            if role == "delimiter":
                continue
            if header.count(column) != 1:
                why = f"the column {column!r} stands there {header.count(column)} times; columns are {', '.join(header[:20])}"
                raise BadInput(what="a header", where=f"{file}:1", why=why)
            at[role] = header.index(column)
        if "account" not in at and not naming.account:
            raise BadInput(what="accounts", where=file, why="map the column account, or say --account")
        figured = [(field, at[field]) for field in FIELDS if field in at]
        account, instrument, side = at.get("account"), at["instrument"], at.get("side")
        width = len(header)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != width:
                unfit(reader.line_num, UnfitError("", f"{len(cells)} fields where the header has {width}"))
                continue
            short = side is not None and cells[side].strip().lower() in _SHORT
            named = cells[account].strip() if account is not None else ""
            told: dict[str, str] = {field: cells[place].strip() for field, place in figured}
            rows.add(reader.line_num, named, cells[instrument].strip(), told, short)
    except csv.Error as error:
        unfit(reader.line_num, UnfitError("", str(error)))
    except UnicodeDecodeError as error:
        unfit(reader.line_num + 1, UnfitError("", f"not UTF-8 text: {error.reason}"))
    return figures(source, kind, [field for field in FIELDS if field in mapping], rows.rows)


def read_ccxt(text: str, file: str, naming: Naming, unfit: Unfit, kind: Kind, source: str) -> Figures:
    """The figures of CCXT positions. ``BadInput`` for text that is not JSON."""
    rows = _Rows(naming, unfit)
    for number, item in enumerate(_items(text, file), 1):
        try:
            if not isinstance(item, dict) or not item.get("symbol"):
                raise UnfitError("symbol", "no position with a symbol")
            side = item.get("side")
            if side not in ("long", "short", None):
                raise UnfitError("side", f"{excerpt(str(side))} is neither long nor short")
            cells = {"qty": _cell(item, "contracts"), "mark": _cell(item, "markPrice")}
            rows.add(number, "", str(item["symbol"]), cells, side == "short")
        except UnfitError as error:
            unfit(number, error)
    return figures(source, kind, ("qty", "mark"), rows.rows)


def _items(text: str, file: str) -> list[Any]:
    try:
        if text.lstrip("\ufeff \t\r\n").startswith("["):
            items = json.loads(text.lstrip("\ufeff"), parse_float=str, parse_int=str)
            return items if isinstance(items, list) else [items]
        return [json.loads(line, parse_float=str, parse_int=str) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise BadInput(what="something else, not CCXT positions", where=file, why=f"not JSON: {error}") from None


def _cell(item: Mapping[str, Any], name: str) -> str:
    value = item.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UnfitError(name, f"{excerpt(str(value))} is no number")
    return value
