"""How far two figures may lie apart before it is a difference: per field, an absolute amount or a share of the larger figure.

Written ``field=0.01`` (in the field's own unit) or ``field=2ppm``; ``*`` stands for every field that has no rule. Without a rule nothing
is tolerated: figures are exact, and a rounding that is meant is a rule that somebody wrote down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from crdtledger.errors import BadInput
from crdtledger.ledger.decimals import InexactError, to_minor
from crdtledger.ledger.genesis import MAX_DECIMALS

ANY = "*"


class Tolerance(msgspec.Struct, frozen=True):
    """``units`` of ``10 ** -MAX_DECIMALS``, or ``ppm`` of the larger figure, whichever allows more. ``text`` as it was written."""

    text: str = "0"
    units: int = 0
    ppm: int = 0

    def allows(self, gap: npt.NDArray[Any], larger: npt.NDArray[Any], decimals: npt.NDArray[np.int64]) -> Any:
        """Which gaps (not negative) are within it; all three columns are aligned, amounts at ``decimals``."""
        if not self.units and not self.ppm:
            return gap == 0
        wide = gap.astype(object)
        one = np.array([10**places for places in decimals.tolist()], object)
        within = wide * 10**MAX_DECIMALS <= one * self.units
        if self.ppm:
            within |= wide * 1_000_000 <= larger.astype(object) * self.ppm
        return within.astype(np.bool_)


EXACT = Tolerance()
Tolerances = Mapping[str, Tolerance]


def rule(tolerances: Tolerances, field: str) -> Tolerance:
    """The rule for a field."""
    return tolerances.get(field) or tolerances.get(ANY) or EXACT


def parse_tolerances(texts: Iterable[str]) -> dict[str, Tolerance]:
    """Rules as they are written. Raises ``BadInput`` naming the one that does not fit."""
    out: dict[str, Tolerance] = {}
    for text in texts:
        field, equals, amount = (part.strip() for part in text.partition("="))
        where = "tolerance"
        if not equals or not field or not amount:
            raise BadInput(what=repr(text), where=where, why="write field=0.01 or field=2ppm")
        try:
            if amount.endswith("ppm"):
                out[field] = Tolerance(amount, ppm=to_minor(amount[:-3], 0))
            else:
                out[field] = Tolerance(amount, units=to_minor(amount, MAX_DECIMALS))
        except InexactError as error:
            raise BadInput(what=repr(text), where=where, why=str(error)) from None
    return out
