"""The terms of fills and busts as a matrix of numbers: what is compared when an id repeats, and what is summed.

Names are local numbers of one view, by the batch's binding. Pure.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from crdtledger.ledger.catalog import NO_ASSET, Binding
from crdtledger.ledger.dedupe import TERMS, Rows
from crdtledger.ledger.facts import NO_STRING

ACCOUNT, INSTRUMENT, SIDE, QUANTITY, PRICE, FEE_AMOUNT, FEE_ASSET = range(TERMS)
"""Columns of the matrix."""
EVERY: Final = slice(None)


def fill_terms(table: npt.NDArray[np.void], binding: Binding) -> npt.NDArray[np.int64]:
    """The terms matrix of rows of a FILL or BUST table, in local numbers."""
    terms = np.empty((len(table), TERMS), np.int64)
    terms[:, ACCOUNT] = binding.accounts[table["account"]]
    terms[:, INSTRUMENT] = binding.scopes[table["scope"]]
    terms[:, SIDE] = table["side"]
    terms[:, QUANTITY] = table["qty"]
    terms[:, PRICE] = table["price"]
    terms[:, FEE_AMOUNT] = table["fee"]
    assets = fee_assets(table, binding, EVERY)
    terms[:, FEE_ASSET] = NO_ASSET if assets is None else assets
    return terms


def fee_assets(table: npt.NDArray[np.void], binding: Binding, rows: Rows | slice) -> npt.NDArray[np.int64] | None:
    """The local number of the fee asset of each of the rows, None if no row at all names one."""
    if table["fee_asset"].min(initial=NO_STRING) == NO_STRING:
        return None
    fee_assets = table["fee_asset"][rows]
    named = fee_assets != NO_STRING
    assets = np.full(len(fee_assets), NO_ASSET)
    assets[named] = binding.assets[fee_assets[named]]
    return assets
