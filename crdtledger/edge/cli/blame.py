"""Which line of a file an error is about.

A node judges a block of facts at once and names what is wrong by its name, id or place in the block. Whoever wrote the
file wants a line: the first one of the block that says what the error complains of.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from crdtledger.errors import (
    BadInput,
    CallerError,
    Conflict,
    InsufficientRights,
    NotAllowed,
    UnknownName,
    UnknownReserve,
)

_PLACE = re.compile(r"(?:line (?P<line>\d+)|facts\[(?P<index>\d+)\])(?P<field>.*)")
_SUMS = (InsufficientRights, UnknownReserve)
"""Errors that several lines may bring about together: then all that can be said is in which block."""

_SPENDING = ("withdrawal", "transfer", "reserve", "grant", "order")


Line: TypeAlias = tuple[int, dict[str, Any]]
"""The number of the line that a fact starts on, and the fact."""


class Located(CallerError):
    """A refusal, and the line of the file that it is about. ``line`` 0: somewhere between ``first`` and ``last``."""

    code = "located"

    def __init__(self, *, file: str, line: int, first: int, last: int, why: str, recorded: int) -> None:
        super().__init__(file=file, line=line, first=first, last=last, why=why, recorded=recorded)

    def describe(self) -> str:
        given = self.attributes
        place = given["line"] or f"{given['first']}-{given['last']}"
        if given["recorded"]:
            rest = f"lines 1-{given['recorded']} are recorded, the rest is not: mend it and repeat"
        else:
            rest = "nothing was recorded"
        return f"{given['file']}:{place}: {given['why']} ({rest})"


def located(error: CallerError, file: str, block: Sequence[Line], recorded: int) -> Located:
    """``error`` about one of the lines in ``block``; ``recorded`` lines before it are recorded."""
    why, line = str(error), 0
    place = _place(error)
    if place is not None and place[0] < len(block):
        line, fact = block[place[0]]
        why = why.replace(place[1], f"{fact.get('kind', 'line')}{place[2]}", 1)
    else:
        places = [number for number, fact in block if _mentions(fact, error)]
        line = places[0] if places and (len(places) == 1 or not isinstance(error, _SUMS)) else 0
    return Located(file=file, line=line, first=block[0][0], last=block[-1][0], why=why, recorded=recorded)


def _place(error: CallerError) -> tuple[int, str, str] | None:
    """(index in the block, the node's word for the place, the field) when the error has a place."""
    where = error.attributes.get("where")
    match = _PLACE.fullmatch(where) if isinstance(where, str) else None
    if match is None:
        return None
    index = int(match["line"]) - 1 if match["line"] else int(match["index"])
    return index, match[0], match["field"]


def _mentions(fact: Mapping[str, Any], error: CallerError) -> bool:
    values = [value for key, value in fact.items() if key != "kind"]
    if isinstance(error, UnknownName):
        if error.kind in ("account", "instrument", "asset", "node"):
            fields = {"account": ("account", "credit"), "asset": ("asset", "fee_asset")}.get(error.kind, (error.kind,))
            return any(fact.get(field) == error.name for field in fields)
        return error.name in values
    if isinstance(error, InsufficientRights):
        same = fact.get("account") == error.account and fact.get("asset", error.asset) == error.asset
        return same and fact.get("kind") in _SPENDING
    if isinstance(error, Conflict):
        return error.id in (str(fact.get("id")), str(fact.get("trade_id")), fact.get("name"))
    if isinstance(error, UnknownReserve):
        return fact.get("kind") in ("post", "void") and error.reserve in ("", str(fact.get("reserve")))
    if isinstance(error, NotAllowed):
        account, _, asset = error.subject.partition(" ")
        return fact.get("account") == account and asset in ("", fact.get("asset"))
    return isinstance(error, BadInput) and error.what in map(repr, values)
