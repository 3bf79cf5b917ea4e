"""``crdtledger positions``: what every account holds of every instrument."""

from __future__ import annotations

from crdtledger.edge.cli.freshness import tell_freshness
from crdtledger.edge.cli.options import GOOD, Account, Format, Instrument, Keys, Target
from crdtledger.edge.cli.output import emit
from crdtledger.edge.cli.reach import connect

COLUMNS = (
    *("account", "instrument", "qty", "bought", "sold", "value_bought", "value_sold", "fees", "fills"),
    *("settled_qty", "avg_entry", "realised", "state"),
)


def positions(
    target: Target,
    /,
    *,
    account: Account = "",
    instrument: Instrument = "",
    format: Format = "table",
    cluster: Keys = None,
) -> int:
    """Positions per account and instrument, as the node sees them now; average entry and realised PnL of what is settled."""
    with connect(target, cluster) as node:
        rows = node.query("positions", account=account, instrument=instrument)
        emit(rows, COLUMNS, format)
        tell_freshness(node, rows, format)
    return GOOD
