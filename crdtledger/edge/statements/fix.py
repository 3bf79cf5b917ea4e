"""Execution reports of a FIX session log: ``tag=value`` fields ended by SOH or ``|``, one message a line, whatever stands before ``8=FIX``.

Read are reports (35=8) of trades: ExecType 150 = F, or 1 and 2 as versions before 4.4 write them; G corrects and H busts the execution that
19 (ExecRefID) names, as 20 = 2 and 1 do in versions before 4.3. Reports of anything else (new, cancelled, rejected ...) are passed over.
Fields: 17 ExecID, 37 OrderID, 1 Account, 55 Symbol, 54 Side, 32 LastQty, 31 LastPx, 60 TransactTime; fees from 12 Commission (only as an
amount, 13 = 3 or absent) in 479, and from 137/138 MiscFeeAmt and its currency. A checksum (10) that is there must hold.
https://www.onixs.biz/fix-dictionary/4.4/msgtype_8_8.html

Pure: lines in, trades out. A line that does not fit raises ``UnfitError`` to the reader of the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from crdtledger.edge.importers.rows import amount, excerpt, fee_amount, trade_id
from crdtledger.edge.importers.timestamps import NoTimeError, text_to_us
from crdtledger.edge.importers.trades import UnfitError
from reconcile.divergence.corrections import Units
from reconcile.divergence.trades import Trade

SOH: Final = "\x01"
_SIDES: Final = {"1": 1, "2": -1, "5": -1, "6": -1}
_TRADES: Final = ("F", "1", "2")
_TIME: Final = re.compile(r"(\d{4})(\d{2})(\d{2})-(\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?)")


class FixReports:
    """The executions of one log. ``instrument_of``: a symbol's instrument, None to pass it over. ``units_of``: an instrument's decimals,
    None when it is not defined. ``account``: for reports that name none."""

    def __init__(
        self,
        instrument_of: Callable[[str], str | None],
        units_of: Callable[[str], Units | None],
        account: str,
        venue: str,
    ) -> None:
        self._instrument_of = instrument_of
        self._units_of = units_of
        self._account = account
        self._venue = venue
        self._live: dict[str, Trade] = {}
        self._gone: dict[str, str] = {}  # busted or corrected executions that have not been read yet, and where

    def trades(self) -> list[Trade]:
        """What stands, in the order in which it was reported."""
        return list(self._live.values())

    def take(self, line: str, place: str) -> None:
        """One line of the log. Raises ``UnfitError`` with the tag and the reason."""
        start = line.find("8=FIX")
        if start < 0:
            raise UnfitError("8", "no FIX message on this line")
        message = line[start:].strip("\r\n ")
        fields, fees = _fields(message, "|" if SOH not in message else SOH)
        kind = _kind(fields)
        if not kind:
            return
        if kind == "bust":
            self._withdraw(_need(fields, "19"), place)
            return
        trade = self._trade(fields, fees, place)
        if trade is None:
            return
        if kind == "correct":
            self._withdraw(_need(fields, "19"), place)
        if trade.id in self._gone:
            del self._gone[trade.id]
            return
        if trade.id in self._live and self._live[trade.id] != trade:
            told = self._live[trade.id]
            if _terms(told) != _terms(trade):
                raise UnfitError("17", f"execution {excerpt(trade.id)} was reported otherwise at {told.place}")
            return
        self._live[trade.id] = trade

    def _withdraw(self, id_: str, place: str) -> None:
        if self._live.pop(id_, None) is None:
            self._gone[id_] = place

    def _trade(self, fields: Mapping[str, str], fees: list[tuple[str, str]], place: str) -> Trade | None:
        instrument = self._instrument_of(_need(fields, "55"))
        if instrument is None:
            return None
        units = self._units_of(instrument)
        if units is None:
            raise UnfitError("55", f"no instrument {excerpt(instrument)} is defined in the ledger")
        side = _SIDES.get(_need(fields, "54"))
        if side is None:
            raise UnfitError("54", f"side {excerpt(fields['54'])} is neither a buy (1) nor a sell (2, 5, 6)")
        account = fields.get("1") or self._account
        if not account:
            raise UnfitError("1", "no account; say whose executions these are with --account")
        fee, asset = _fee(fields, fees, units)
        return Trade(
            id=str(trade_id(_need(fields, "17"))),
            account=account,
            instrument=instrument,
            side=side,
            qty=amount(_need(fields, "32"), units.qty_decimals, "32"),
            price=amount(_need(fields, "31"), units.price_decimals, "31"),
            fee=fee,
            fee_asset=asset,
            ts_us=_time(_need(fields, "60")),
            place=place,
            group=fields.get("37", ""),
            venue=self._venue,
        )


def _fields(message: str, end: str) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Tag -> value (the first of a repeated one), and the miscellaneous fees as (amount, currency)."""
    fields: dict[str, str] = {}
    fees: list[tuple[str, str]] = []
    for part in message.rstrip(end).split(end):
        tag, equals, value = part.partition("=")
        if not equals or not tag.isascii() or not tag.isdigit():
            raise UnfitError("", f"{excerpt(part)} is no tag=value")
        if tag == "137":
            fees.append((value, ""))
        elif tag == "138" and fees:
            fees[-1] = (fees[-1][0], value)
        fields.setdefault(tag, value)
    if "10" in fields:
        body = message[: message.rindex(f"{end}10=") + 1].replace(end, SOH)
        expected = f"{sum(body.encode('utf-8', 'replace')) % 256:03d}"
        if fields["10"] != expected:
            raise UnfitError("10", f"the checksum is {excerpt(fields['10'])}, the message gives {expected}")
    return fields, fees


def _kind(fields: Mapping[str, str]) -> str:
    """What a message is to us: ``trade``, ``bust``, ``correct``, or nothing."""
    if fields.get("35") != "8":
        return ""
    transaction, execution = fields.get("20", "0"), fields.get("150", fields.get("39", ""))
    if transaction == "1" or execution == "H":
        return "bust"
    if transaction == "2" or execution == "G":
        return "correct"
    return "trade" if execution in _TRADES else ""


def _need(fields: Mapping[str, str], tag: str) -> str:
    value = fields.get(tag, "")
    if not value:
        raise UnfitError(tag, "missing")
    return value


def _fee(fields: Mapping[str, str], misc: list[tuple[str, str]], units: Units) -> tuple[int, str]:
    parts = [("137", cost, currency) for cost, currency in misc if cost]
    if fields.get("12"):
        if fields.get("13", "3") != "3":
            raise UnfitError("13", "a commission that is no amount cannot be held against a fee")
        parts.append(("12", fields["12"], fields.get("479", "")))
    total: dict[str, int] = {}
    for tag, cost, currency in parts:
        if not currency:
            raise UnfitError(tag, "a fee without its currency")
        total[currency] = total.get(currency, 0) + fee_amount(cost, currency, units.assets, tag)
    paid = [(fee, asset) for asset, fee in total.items() if fee]
    if len(paid) > 1:
        raise UnfitError("137", f"fees in {len(paid)} assets; a fill has one")
    return paid[0] if paid else (0, "")


def _time(text: str) -> int:
    match = _TIME.fullmatch(text)
    if match is None:
        raise UnfitError("60", f"{excerpt(text)} is no time like 20260131-23:59:59.999")
    year, month, day, clock = match.groups()
    try:
        return text_to_us(f"{year}-{month}-{day}T{clock}", "iso")
    except NoTimeError as error:
        raise UnfitError("60", f"{excerpt(text)}: {error}") from None


def _terms(trade: Trade) -> tuple[object, ...]:
    return trade.account, trade.instrument, trade.side, trade.qty, trade.price, trade.fee, trade.fee_asset
