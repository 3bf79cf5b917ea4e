"""The highest number that fills and busts of each scope have for an id, in one view: what lies above it was never heard of.

Venues count their trades upwards, so nearly every fill that comes in has a higher id than all before it; and to compare two numbers
takes less time than to look for a key among millions. Nothing follows from an id that is not above: it has to be looked for.

Only numbers count. An id that is a text is never above. Settled ids are not here (``Positions.seen``): a view begins without them.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from crdtledger.ledger.body import Body, Scope
from crdtledger.ledger.facts import ID_IS_TEXT, Kind

Mask: TypeAlias = npt.NDArray[np.bool_]
_Scope: TypeAlias = tuple[Kind, str, str, str, str]
"""What an id is unique within: its kind, venue, id space, leg, and its instrument's name."""
_MAX_ID: Final = (1 << 64) - 1


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
            elif table is not None and len(body.scopes) == 1 and not table["flags"].any():  # the usual case
                self._raise(_scope(kind, body, body.scopes[0]), int(table["id"].max(initial=0)))
            elif table is not None:
                numbers = table["flags"] & ID_IS_TEXT == 0
                scopes, ids = table["scope"][numbers], table["id"][numbers]
                tops = np.zeros(len(body.scopes), np.uint64)
                np.maximum.at(tops, scopes, ids)
                for number in np.unique(scopes).tolist():
                    self._raise(_scope(kind, body, body.scopes[number]), int(tops[number]))

    def _raise(self, scope: _Scope, number: int) -> None:
        self._highest[scope] = max(number, self._highest.get(scope, 0))

    def above(self, kind: Kind, body: Body) -> Mask:
        """Which rows of a body's table have a number for an id that is above all that were noted of its scope."""
        table = body.tables[kind]
        # Ids count from 0: nothing that was noted is -1 here, and one above.
        least = [self._highest.get(_scope(kind, body, scope), -1) + 1 for scope in body.scopes]
        full = np.array([limit > _MAX_ID for limit in least])  # the highest there can be was noted
        limits = np.array([min(limit, _MAX_ID) for limit in least], np.uint64)
        scopes = table["scope"] if len(least) > 1 else 0
        above: Mask = (table["flags"] & ID_IS_TEXT == 0) & ~full[scopes] & (table["id"] >= limits[scopes])
        return above


def _scope(kind: Kind, body: Body, scope: Scope) -> _Scope:
    return kind, scope.venue, scope.id_space, scope.leg, body.instruments[scope.instrument][0]
