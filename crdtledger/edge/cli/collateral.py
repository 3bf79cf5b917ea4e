"""``crdtledger collateral``: what every account holds of every asset, and who may spend it."""

from __future__ import annotations

from crdtledger.edge.cli.freshness import tell_freshness
from crdtledger.edge.cli.options import GOOD, Account, Format, Keys, Target
from crdtledger.edge.cli.output import emit
from crdtledger.edge.cli.reach import connect

COLUMNS = (
    "account",
    "asset",
    "deposited",
    "withdrawn",
    "held",
    "free",
    "reserved",
    "in_transit",
    "incoming",
    "refundable",
    "rights",
    "state",
)


def collateral(target: Target, /, *, account: Account = "", format: Format = "table", cluster: Keys = None) -> int:
    """Collateral per account and asset; `rights` is what each node may still spend."""
    with connect(target, cluster) as node:
        rows = node.query("collateral", account=account)
        emit(rows, COLUMNS, format)
        tell_freshness(node, rows, format)
    return GOOD
