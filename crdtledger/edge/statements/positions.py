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
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from crdtledger.edge.importers.jsonarray import cut
from crdtledger.edge.importers.rows import excerpt
from crdtledger.edge.importers.trades import UnfitError
from crdtledger.errors import BadInput
from crdtledger.ledger.decimals import InexactError, to_minor
from reconcile.divergence.figures import Column, Figures, Kind, integers

FIELDS: Final = ("qty", "bought", "sold", "fees", "mark")
ROLES: Final = ("account", "instrument", "side", "delimiter", *FIELDS)
MAX_DECIMALS: Final = 36
MEMORY: Final = 1 << 16
_SHORT: Final = ("sell", "short", "s")

Unfit = Callable[[int, UnfitError], None]


class Naming(NamedTuple):
    """How a statement's names become the ledger's. ``instrument_of``: a symbol's instrument, None to pass the row over. ``decimals_of``:
    (instrument or asset, field) -> its decimals, None for a name that the ledger does not have. ``account``: for rows that name none."""

    instrument_of: Callable[[str], str | None]
    decimals_of: Callable[[str, str], int | None]
    account: str


class _Rows:
    """Rows as they come, column by column; no (account, instrument) twice. ``fields``: the figures of every row, in order."""

    def __init__(self, naming: Naming, unfit: Unfit, fields: Sequence[str]) -> None:
        self._naming = naming
        self._unfit = unfit
        self._fields = fields
        self._qty = fields.index("qty") if "qty" in fields else -1
        self._accounts: dict[str, int] = {}
        self._subjects: dict[str, int] = {}
        self._symbols: dict[str, tuple[int, list[dict[str, _Number]]] | None] = {}
        self._numbers: dict[int, dict[str, _Number]] = {}
        self._lines: dict[int, int] = {}
        self._account: list[int] = []
        self._subject: list[int] = []
        self._told: list[list[_Number | None]] = [[] for _ in fields]

    def add(self, line: int, account: str, symbol: str, cells: Sequence[str], short: bool) -> None:
        """One row; ``cells`` are aligned with the fields."""
        try:
            named = self._symbols[symbol] if symbol in self._symbols else self._name(symbol)
            if named is None:
                return
            subject, known = named
            told = [_number(text, seen, field) for text, seen, field in zip(cells, known, self._fields, strict=True)]
            qty = told[self._qty] if short and self._qty >= 0 else None
            if qty is not None:
                told[self._qty] = (-abs(qty[0]), qty[1])
            code = self._accounts.get(account)
            if code is None:
                code = self._enter(account)
            before = self._lines.setdefault(code << 32 | subject, line)
            if before != line:
                raise UnfitError("instrument", f"{account} {symbol} stands on line {before} too")
            self._account.append(code)
            self._subject.append(subject)
            for column, number in zip(self._told, told, strict=True):
                column.append(number)
        except UnfitError as unfit:
            self._unfit(line, unfit)

    def _name(self, symbol: str) -> tuple[int, list[dict[str, _Number]]] | None:
        """What a symbol is: its instrument's number, and for each field the numbers at its decimals that were read before."""
        instrument = self._naming.instrument_of(symbol)
        if instrument is not None and not (instrument and instrument.isprintable()):
            raise UnfitError("instrument", "not told")
        named = None
        if instrument is not None:
            places = [self._naming.decimals_of(instrument, field) for field in self._fields]
            known = [
                self._numbers.setdefault(place, _Numbers(place)) for place in (8 if p is None else p for p in places)
            ]
            named = self._subjects.setdefault(instrument, len(self._subjects)), known
        self._symbols[symbol] = named
        return named

    def _enter(self, account: str) -> int:
        if not account or not account.isprintable():
            raise UnfitError("account", "not told")
        return self._accounts.setdefault(account, len(self._accounts))

    def figures(self, source: str, kind: Kind) -> Figures:
        """Everything added, as columns."""
        columns = {}
        for field, told in zip(self._fields, self._told, strict=True):
            numbers = integers([number[0] if number else 0 for number in told])
            decimals = np.array([number[1] if number else 0 for number in told], np.int64)
            columns[field] = Column(numbers, decimals, np.array([number is not None for number in told], np.bool_))
        codes = np.array(self._account, np.int64), np.array(self._subject, np.int64)
        return Figures(source, kind, list(self._accounts), list(self._subjects), *codes, columns)


_Number: TypeAlias = tuple[int, int]
"""An integer, and its decimals."""


class _Numbers(dict[str, _Number]):
    """Numbers at ``decimals``, or at as many more as they need, by their text: amounts repeat. Bounded."""

    def __init__(self, decimals: int) -> None:
        super().__init__()
        self.decimals = decimals

    def __missing__(self, text: str) -> _Number:
        minus = text[:1] == "-"  # most numbers are read the quick way, which knows no sign
        amount = places = 0
        for places in range(self.decimals, MAX_DECIMALS + 1):
            try:
                amount = to_minor(text[1:] if minus else text, places, signed=not minus)
                break
            except InexactError as error:
                if not str(error).startswith("needs") or places == MAX_DECIMALS:
                    raise UnfitError("", f"{excerpt(text)}: {error}") from None
        if len(self) >= MEMORY:
            self.clear()
        number = self[text] = (-amount if minus else amount, places)
        return number


def _number(text: str, known: dict[str, _Number], field: str) -> _Number | None:
    """The number, None where nothing is told."""
    if not text:
        return None
    try:
        return known[text]
    except UnfitError as error:
        raise UnfitError(field, error.reason) from None


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
    fields = [field for field in FIELDS if field in mapping]
    rows = _Rows(naming, unfit, fields)
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
        figured = [at[field] for field in fields]
        account, instrument, side = at.get("account"), at["instrument"], at.get("side")
        width = len(header)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != width:
                unfit(reader.line_num, UnfitError("", f"{len(cells)} fields where the header has {width}"))
                continue
            short = side is not None and cells[side].strip().lower() in _SHORT
            named = (cells[account].strip() if account is not None else "") or naming.account
            told = [cells[place].strip() for place in figured]
            rows.add(reader.line_num, named, cells[instrument].strip(), told, short)
    except csv.Error as error:
        unfit(reader.line_num, UnfitError("", str(error)))
    except UnicodeDecodeError as error:
        unfit(reader.line_num + 1, UnfitError("", f"not UTF-8 text: {error.reason}"))
    return rows.figures(source, kind)


def read_ccxt(text: str, file: str, naming: Naming, unfit: Unfit, kind: Kind, source: str) -> Figures:
    """The figures of CCXT positions. ``BadInput`` for text that is not JSON."""
    rows = _Rows(naming, unfit, ("qty", "mark"))
    for number, item in _items(text, file):
        try:
            if not isinstance(item, dict) or not item.get("symbol"):
                raise UnfitError("symbol", "no position with a symbol")
            side = item.get("side")
            if side not in ("long", "short", None):
                raise UnfitError("side", f"{excerpt(str(side))} is neither long nor short")
            cells = (_cell(item, "contracts"), _cell(item, "markPrice"))
            rows.add(number, naming.account, str(item["symbol"]), cells, side == "short")
        except UnfitError as error:
            unfit(number, error)
    return rows.figures(source, kind)


def _items(text: str, file: str) -> Iterator[tuple[int, Any]]:
    """Every item of an array, or of JSON lines, and the line on which it begins."""
    text = text.removeprefix("\ufeff")
    try:
        if not text.lstrip().startswith("["):
            lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
            return iter([(number, json.loads(line, parse_float=str, parse_int=str)) for number, line in lines])
        items = json.loads(text, parse_float=str, parse_int=str)
    except (ValueError, RecursionError) as error:
        raise BadInput(what="something else, not CCXT positions", where=file, why=f"not JSON: {error}") from None
    return zip(_lines_of(text.encode(), len(items)), items, strict=True)


def _lines_of(raw: bytes, count: int) -> list[int]:
    """On which line each of ``count`` objects of an array begins. Where some are no objects, all are taken to be on the first."""
    start = raw.find(b"[") + 1
    lines, line, done = [], 1 + raw.count(b"\n", 0, start), start
    for begin, _ in cut(raw[start:]).spans:
        line += raw.count(b"\n", done, start + begin)
        done = start + begin
        lines.append(line)
    return lines if len(lines) == count else [1] * count


def _cell(item: Mapping[str, Any], name: str) -> str:
    value = item.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UnfitError(name, f"{excerpt(str(value))} is no number")
    return value
