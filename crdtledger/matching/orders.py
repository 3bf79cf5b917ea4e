"""An order as matching sees it: resting, with what of it is open, and its place in time.

The same struct goes into a book and into an auction, and it is all that either looks at. It is made from a view of the ledger; what an
order may do (its reserve, its expiry, who is its home) was settled before.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from crdtledger.ledger.facts import FactId

BUY: Final = 1
SELL: Final = -1

Name: TypeAlias = tuple[str, FactId]
"""(home node, id): what an order is called in the cluster. The id is a number wherever it can be written as one, as in a batch."""

Place: TypeAlias = tuple[int, bytes, int, int]
"""(clock of the batch, its lane, its seq, the row in it): time priority. It comes from the home's lane, so it is the same at every node."""


class OpenOrder(msgspec.Struct, frozen=True, gc=False):
    """``side`` is ``BUY`` or ``SELL``; ``price`` the worst one it may trade at, for a ``market`` order too; ``qty`` what of it is open."""

    name: Name
    account: str
    side: int
    price: int
    qty: int
    place: Place
    market: bool = False


def name_key(name: Name) -> tuple[str, str]:
    """What names sort by: ids may be numbers and text side by side."""
    return name[0], str(name[1])
