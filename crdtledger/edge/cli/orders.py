"""``crdtledger orders``: every order that is not done and settled."""

from __future__ import annotations

from crdtledger.edge.cli.freshness import tell_freshness
from crdtledger.edge.cli.options import GOOD, Account, Format, Instrument, Keys, Target
from crdtledger.edge.cli.output import emit
from crdtledger.edge.cli.reach import connect

COLUMNS = (
    *("home", "id", "account", "instrument", "side", "qty", "price", "tif", "status", "open", "held"),
    *("filled", "matched", "asked", "asking", "reserve", "state"),
)


def orders(
    target: Target,
    /,
    *,
    account: Account = "",
    instrument: Instrument = "",
    format: Format = "table",
    cluster: Keys = None,
) -> int:
    """Orders as the node sees them: what is open and who may match it, `filled` (settled), `matched` (not yet), `asked` and
    `asking` (tentative matches without an answer, on it and its own)."""
    with connect(target, cluster) as node:
        rows = node.query("orders", account=account, instrument=instrument)
        emit(rows, COLUMNS, format)
        tell_freshness(node, rows, format)
    return GOOD
