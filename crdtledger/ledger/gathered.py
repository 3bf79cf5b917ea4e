"""The fills, or the busts, of several batches as columns: what is summed in one pass.

A batch names accounts by the index of a string, an instrument by that of a scope. Gathered, both are one number: the place of the
(scope, string) on the pages of all batches, one after the other. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from crdtledger.ledger.body import Body
from crdtledger.ledger.catalog import Binding
from crdtledger.ledger.facts import Kind
from crdtledger.ledger.positionsums import Numbers, Page

PAGES_LEAST: Final = 256
PAGES_MOST: Final = 4
"""The pages of a batch have at most ``PAGES_MOST`` places for each of its rows, and ``PAGES_LEAST`` more: else it is better off alone."""


class Gathered(NamedTuple):
    """Columns over all rows. ``places``: where on the ``pages`` a row's account stands."""

    pages: list[Page]
    places: npt.NDArray[np.intp]
    side: npt.NDArray[np.integer]
    qty: Numbers
    price: Numbers
    fee: Numbers


def has_small_pages(body: Body, kind: Kind) -> bool:
    """Whether a body is worth gathering: a long dictionary may come with few rows."""
    return len(body.scopes) * len(body.strings) <= PAGES_LEAST + PAGES_MOST * len(body.tables[kind])


def gather(
    kind: Kind, bodies: Sequence[Body], bindings: Sequence[Binding], counting: npt.NDArray[np.bool_]
) -> Gathered:
    """All rows of the bodies' tables. Those that are not ``counting`` have a place beyond the pages."""
    pages: list[Page] = []
    places: list[npt.NDArray[np.intp]] = []
    starts: dict[tuple[int, bytes], int] = {}
    size = 0
    for body, binding in zip(bodies, bindings, strict=True):
        table, strings = body.tables[kind], len(binding.accounts)
        mine = table["account"].astype(np.intp)
        if len(binding.scopes) > 1:
            mine += table["scope"].astype(np.intp) * strings
        # Batches that share accounts and have the same instruments share their pages.
        key = (id(binding.accounts), binding.scopes.tobytes())
        start = starts.setdefault(key, size)
        if start == size:
            pages += [Page(instrument, binding.accounts) for instrument in binding.scopes.tolist()]
            size += len(binding.scopes) * strings
        mine += start
        places.append(mine)
    together = np.concatenate(places)
    together[~counting] = size
    side, qty, price, fee = (
        np.concatenate([body.tables[kind][column] for body in bodies]) for column in ("side", "qty", "price", "fee")
    )
    return Gathered(pages, together, side, qty, price, fee)
