"""Trades of one block while it is being parsed: one Python list per column, turned into arrays when it is handed on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np

from crdtledger.edge.importers.trades import (
    MAX_ID_CHARACTERS,
    MAX_TRADE_ID,
    Trades,
    UnfitError,
    concatenate,
    is_canonical,
)
from crdtledger.ledger.decimals import InexactError, to_minor

_THROUGH_A_FLOAT: Final = re.compile(r"[0-9]+\.0|[0-9](\.[0-9]+)?[eE]\+[0-9]+")


class Rows:
    """The columns of ``Trades`` under construction. The hot loops append to the lists directly, always one value to
    each of ``ids``, ``price``, ``qty``, ``side``, ``ts_us`` and ``line``, and only once the whole line is known to fit."""

    def __init__(self) -> None:
        self.total = 0
        self._made: list[Trades] = []
        self._clear()

    def _clear(self) -> None:
        self.ids: list[int | str] = []
        self.price: list[int] = []
        self.qty: list[int] = []
        self.side: list[int] = []
        self.ts_us: list[int] = []
        self.line: list[int] = []
        self.fees: dict[int, tuple[int, str]] = {}
        self.accounts: list[str] = []

    def add(self, made: Trades) -> None:
        """Take in trades that are columns already, of a format whose ids are numbers and that names no fees and no accounts."""
        if len(made):
            self._made.append(made)

    def pending(self) -> int:
        """How many trades the next block will have."""
        return len(self.line) + sum(map(len, self._made))

    def take(self) -> list[Trades]:
        """The gathered block, or nothing if it is empty; the next one starts empty."""
        blocks = self._listed()
        if self._made:
            blocks, self._made = [_by_line([*self._made, *blocks])], []
        self.total += sum(map(len, blocks))
        return blocks

    def _listed(self) -> list[Trades]:
        count = len(self.line)
        if not count:
            return []
        numeric = all(type(i) is int for i in self.ids)
        fee = np.zeros(count, np.int64)
        assets = [""] * count if self.fees else None
        for row, (amount, asset) in self.fees.items():
            fee[row] = amount
            if assets is not None:
                assets[row] = asset
        block = Trades(
            trade_id=np.array(self.ids, np.uint64) if numeric else np.arange(count, dtype=np.uint64),
            text_ids=None if numeric else [str(i) for i in self.ids],
            price=np.array(self.price, np.int64),
            qty=np.array(self.qty, np.int64),
            side=np.array(self.side, np.int8),
            ts_us=np.array(self.ts_us, np.int64),
            fee=fee,
            line=np.array(self.line, np.int64),
            fee_asset=assets,
            account=self.accounts or None,
        )
        self._clear()
        return [block]


def _by_line(blocks: list[Trades]) -> Trades:
    """One block of these, in the file's order."""
    if len(blocks) == 1:
        return blocks[0]
    whole = concatenate(blocks)
    order = np.argsort(whole.line, kind="stable")
    columns = ("trade_id", "price", "qty", "side", "ts_us", "fee", "line")
    return msgspec.structs.replace(whole, **{name: getattr(whole, name)[order] for name in columns})


def trade_id(text: str) -> int | str:
    """An id as the columns keep it: a number if it is canonical, else its text. Raises ``UnfitError``."""
    if is_canonical(text):
        return int(text)
    if not text:
        raise UnfitError("id", "no trade id, so the trade could not be told from a repetition")
    if len(text) > MAX_ID_CHARACTERS:
        raise UnfitError("id", f"a trade id of {len(text)} characters; at most {MAX_ID_CHARACTERS} are kept")
    if _THROUGH_A_FLOAT.fullmatch(text):
        raise UnfitError("id", f"{excerpt(text)} is an id that some program made a float of: its digits may be wrong")
    if not text.isprintable() or text != text.strip():
        raise UnfitError("id", "a trade id with blanks around it or characters that do not print")
    return text


def numeric_id(value: int) -> int:
    """``value`` if it is a trade id of 64 bits. Raises ``UnfitError``."""
    if not 0 <= value <= MAX_TRADE_ID:
        raise UnfitError("id", "a numeric trade id outside 64 bits")
    return value


def amount(text: str, decimals: int, column: str) -> int:
    """A price or quantity above zero, in minor units. Raises ``UnfitError``."""
    try:
        minor = to_minor(text, decimals)
    except InexactError as error:
        raise UnfitError(column, f"{excerpt(text)}: {error}") from None
    if not minor:
        raise UnfitError(column, "must be above zero")
    return minor


def fee_amount(text: str, asset: str, asset_decimals: Mapping[str, int], column: str) -> int:
    """A fee in minor units of ``asset``; negative is a rebate. Raises ``UnfitError``, naming the nearest known asset."""
    decimals = asset_decimals.get(asset)
    if decimals is None:
        close = difflib.get_close_matches(asset, list(asset_decimals), n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise UnfitError(column, f"a fee in the unknown asset {excerpt(asset)}{hint}")
    try:
        return to_minor(text, decimals, signed=True)
    except InexactError as error:
        raise UnfitError(column, f"{excerpt(text)}: {str(error).replace('instrument', asset)}") from None


def excerpt(text: str) -> str:
    """``text`` quoted and bounded, for a message."""
    return repr(text) if len(text) <= 40 else repr(text[:40]) + "..."
