"""The highest number that fills and busts of each scope have for an id, in one view: what lies above it was never heard of.

Venues count their trades upwards, so nearly every fill that comes in has a higher id than all before it; and to compare two numbers
takes less time than to look for a key among millions. Nothing follows from an id that is not above: it has to be looked for.

Only numbers count. An id that is a text is never above. Settled ids are not here (``Positions.seen``): a view begins without them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from crdtledger.ledger.body import Body, Scope
from crdtledger.ledger.facts import ID_IS_TEXT, Kind

Mask: TypeAlias = npt.NDArray[np.bool_]
_Scope: TypeAlias = tuple[Kind, str, str, str, str]
"""What an id is unique within: its kind, venue, id space, leg, and its instrument's name."""


class HighestIds:
    """Of the fills and busts that were noted."""

    def __init__(self) -> None:
        self._highest: dict[_Scope, int] = {}

    def note(self, body: Body) -> None:
        """Note those of a body."""
        for kind in (Kind.FILL, Kind.BUST):
            table = body.tables.get(kind)
            if table is not None and len(table) == 1:  # as plain integers
                if not table["flags"].item() & ID_IS_TEXT:
                    self._raise(_scope(kind, body, body.scopes[table["scope"].item()]), table["id"].item())
            elif table is not None:
                for scope, numbers in _numbers(kind, body):
                    picked = table["id"][numbers]
                    if len(picked):
                        self._raise(scope, int(picked.max()))

    def _raise(self, scope: _Scope, number: int) -> None:
        self._highest[scope] = max(number, self._highest.get(scope, 0))

    def above(self, kind: Kind, body: Body) -> Mask:
        """Which rows of a body's table have a number for an id that is above all that were noted of its scope."""
        ids = body.tables[kind]["id"]
        above = np.zeros(len(ids), np.bool_)
        for scope, numbers in _numbers(kind, body):
            highest = self._highest.get(scope)
            above[numbers] = True if highest is None else ids[numbers] > np.uint64(highest)
        return above


def _scope(kind: Kind, body: Body, scope: Scope) -> _Scope:
    return kind, scope.venue, scope.id_space, scope.leg, body.instruments[scope.instrument][0]


def _numbers(kind: Kind, body: Body) -> Iterator[tuple[_Scope, Mask | slice]]:
    """Each scope of a table, and which of its rows have a number for an id."""
    table = body.tables[kind]
    every = len(body.scopes) == 1 and not table["flags"].any()
    for number, scope in enumerate(body.scopes):
        names = _scope(kind, body, scope)
        yield names, slice(None) if every else (table["scope"] == number) & (table["flags"] & ID_IS_TEXT == 0)
