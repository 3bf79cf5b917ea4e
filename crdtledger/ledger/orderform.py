"""The rules of form that only the tables of facts about orders have: bounds of ppm, flags that go together, commitments.

What holds for every table alike (quantities, prices, sides, ids) ``body`` checks. Nothing here knows what an order means.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from crdtledger.ledger.facts import AMENDS, COMMITMENT, NO_STRING, OTHER_IS_TEXT, PPM, TIFS, Kind

Need: TypeAlias = Callable[[npt.NDArray[np.bool_], str, str], None]
"""``need(holds, column, why)``: refuse the table unless every row holds."""


def check_order_columns(need: Need, kind: Kind, table: npt.NDArray[np.void], strings: tuple[str, ...]) -> None:
    """Refuse a table of a kind of fact about orders that does not hold, by ``need``."""
    for column in ("survival", "min_survival"):
        if column in (table.dtype.names or ()):
            need(table[column] <= PPM, column, f"more than {PPM}")
    if kind is Kind.ORDER:
        need(table["tif"] < len(TIFS), "tif", "no such time in force")
        amends = table["flags"] & AMENDS != 0
        need(amends | ((table["amends"] == 0) & (table["flags"] & OTHER_IS_TEXT == 0)), "amends", "amends nothing")
        _check_commitments(need, table, "hidden", strings, optional=True)
    if kind is Kind.REVEAL:
        _check_commitments(need, table, "nonce", strings)
    if kind is Kind.ACCEPT:
        need((table["reason"] < len(strings)) | (table["reason"] == NO_STRING), "reason", "points at no string")


def _check_commitments(
    need: Need, table: npt.NDArray[np.void], column: str, strings: tuple[str, ...], optional: bool = False
) -> None:
    bad = {
        index
        for index in np.unique(table[column]).tolist()
        if not (optional and index == NO_STRING)
        and not (index < len(strings) and COMMITMENT.fullmatch(strings[index]) is not None)
    }
    need(~np.isin(table[column], list(bad)), column, "64 lower-case hex digits")
