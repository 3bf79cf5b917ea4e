"""``csv``: any delimited file with a header, given which column means what.

The mapping names columns and settings, ``role=column`` separated by commas::

    price=Px,qty=Size,side=Way,id=Exec ID,time=When,unit=ms,buy=B|BOT,sell=S|SLD,account=Book,fee=Comm,fee_asset=Ccy

Columns: ``id``, ``time``, ``price`` and ``qty`` are needed. ``side`` may be left out when quantities carry the sign (negative is
sold). ``symbol``, ``account``, ``fee`` and ``fee_asset`` are optional; positive fees were paid, negative ones are rebates.
Settings: ``unit`` of the time (``auto``, ``s``, ``ms``, ``us``, ``ns`` or ``iso``), ``buy`` and ``sell`` words separated by ``|``,
``delimiter`` (the character, or ``comma``, ``semicolon``, ``tab``, ``pipe``), ``fee_in`` one asset for all fees.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from crdtledger.edge.importers.delimited import DELIMITERS, DelimitedImporter, side_of
from crdtledger.edge.importers.rows import amount, excerpt, fee_amount, trade_id
from crdtledger.edge.importers.timestamps import UNITS
from crdtledger.edge.importers.trades import ImportSpec, UnfitError
from crdtledger.errors import BadInput
from crdtledger.ledger.decimals import InexactError, to_minor

NEEDED: Final = ("id", "time", "price", "qty")
OPTIONAL: Final = ("side", "symbol", "account", "fee", "fee_asset")
SETTINGS: Final = ("unit", "buy", "sell", "delimiter", "fee_in")
_DELIMITER_NAMES: Final = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
_WORDS: Final = {"buy": "buy|b", "sell": "sell|s"}
_MAX_ACCOUNT_CHARACTERS: Final = 128


def parse_mapping(text: str) -> dict[str, str]:
    """The mapping written as ``role=column,role=column``. Raises ``BadInput`` naming the part that does not fit."""
    mapping: dict[str, str] = {}
    for part in text.split(","):
        role, equals, value = part.partition("=")
        if not equals or not value:
            raise _misfit(part, "each part is role=column")
        if role.strip() in mapping:
            raise _misfit(part, f"{role.strip()} is given twice")
        mapping[role.strip()] = value.strip() or value
    _check(mapping)
    return mapping


def _check(mapping: Mapping[str, str]) -> None:
    known = (*NEEDED, *OPTIONAL, *SETTINGS)
    for role in mapping:
        if role not in known:
            raise _misfit(role, f"no such role; known are {', '.join(known)}")
    for role in NEEDED:
        if not mapping.get(role):
            raise _misfit(role, f"the column for {role} is not given; needed are {', '.join(NEEDED)}")
    if mapping.get("unit", "auto") not in UNITS:
        raise _misfit(f"unit={mapping['unit']}", f"a unit is one of {', '.join(UNITS)}")
    delimiter = mapping.get("delimiter", ",")
    if _DELIMITER_NAMES.get(delimiter, delimiter) not in tuple(DELIMITERS):
        raise _misfit(f"delimiter={delimiter}", f"a delimiter is one of {', '.join(_DELIMITER_NAMES)}")
    if "fee" in mapping and ("fee_asset" in mapping) == ("fee_in" in mapping):
        raise _misfit("fee", "say which asset fees are in: a column fee_asset, or fee_in=ASSET for all; not both")


def _misfit(part: str, why: str) -> BadInput:
    return BadInput(what=f"{part!r}", where="column mapping", why=why)


class MappedCsv(DelimitedImporter):
    """See the module. Column names in refusals are the file's own. Raises ``BadInput`` for a mapping that does not hold."""

    name = "csv"

    def __init__(self, spec: ImportSpec) -> None:
        super().__init__(spec)
        mapping = spec.mapping
        _check(mapping)
        self._delimiter = _DELIMITER_NAMES.get(mapping.get("delimiter", ""), mapping.get("delimiter", ""))
        self._unit = mapping.get("unit", "auto")
        self._sides = {
            word.strip().lower(): sign
            for role, sign in (("buy", 1), ("sell", -1))
            for word in mapping.get(role, _WORDS[role]).split("|")
        }
        self._at: dict[str, int] = {}

    def _open(self, opening: str) -> None:
        super()._open(opening)
        roles = {role: self.spec.mapping[role] for role in (*NEEDED, *OPTIONAL) if role in self.spec.mapping}
        self._at = {role: self._columns[column] for role, column in roles.items()}

    def _column(self, role: str) -> str:
        return self.spec.mapping[role]

    def _needed(self) -> list[str]:
        return [self.spec.mapping[role] for role in (*NEEDED, *OPTIONAL) if role in self.spec.mapping]

    def _record(self, fields: list[str], number: int) -> None:
        at, rows = self._at, self._rows
        if "symbol" in at and not self._wanted(fields[at["symbol"]]):
            return
        try:
            identity = trade_id(fields[at["id"]])
        except UnfitError as error:
            raise UnfitError(self._column("id"), error.reason) from None
        price = amount(fields[at["price"]], self.spec.price_decimals, self._column("price"))
        if "side" in at:
            qty = amount(fields[at["qty"]], self.spec.qty_decimals, self._column("qty"))
            side = side_of(fields[at["side"]], self._sides, self._column("side"))
        else:
            signed = self._signed(fields[at["qty"]])
            qty, side = abs(signed), 1 if signed > 0 else -1
        ts_us = self._time(fields[at["time"]], self._unit, self._column("time"))
        fee = self._fee(fields)
        if "account" in at:
            account = fields[at["account"]]
            if not account or len(account) > _MAX_ACCOUNT_CHARACTERS or not account.isprintable():
                raise UnfitError(self._column("account"), f"{excerpt(account)} is no account name")
            rows.accounts.append(account)
        if fee is not None:
            rows.fees[rows.pending()] = fee
        rows.ids.append(identity)
        rows.price.append(price)
        rows.qty.append(qty)
        rows.side.append(side)
        rows.ts_us.append(ts_us)
        rows.line.append(number)

    def _signed(self, text: str) -> int:
        column = self._column("qty")
        try:
            signed = to_minor(text, self.spec.qty_decimals, signed=True)
        except InexactError as error:
            raise UnfitError(column, f"{excerpt(text)}: {error}") from None
        if not signed:
            raise UnfitError(column, "must not be zero")
        return signed

    def _fee(self, fields: list[str]) -> tuple[int, str] | None:
        at = self._at
        if "fee" not in at or not fields[at["fee"]]:
            return None
        asset = fields[at["fee_asset"]] if "fee_asset" in at else self.spec.mapping["fee_in"]
        minor = fee_amount(fields[at["fee"]], asset, self.spec.asset_decimals, self._column("fee"))
        return (minor, asset) if minor else None
