"""``crdtledger members``: the other nodes as one node sees them."""

from __future__ import annotations

from crdtledger.edge.cli.options import GOOD, Format, Keys, Target
from crdtledger.edge.cli.output import emit
from crdtledger.edge.cli.reach import connect

COLUMNS = (
    "node",
    "address",
    "roles",
    "self",
    "connected",
    "last_heard_us",
    "lag",
    "ahead",
    "refusals",
    "refused_because",
)


def members(target: Target, /, *, format: Format = "table", cluster: Keys = None) -> int:
    """Members of the cluster as the node sees them: connected or not, and how far behind."""
    with connect(target, cluster) as node:
        emit(node.query("members"), COLUMNS, format)
    return GOOD
