"""``crdtledger frontier``: exactly which batches a node holds for good."""

from __future__ import annotations

from crdtledger.edge.cli.options import GOOD, Format, Keys, Target
from crdtledger.edge.cli.output import emit
from crdtledger.edge.cli.reach import connect

COLUMNS = ("lane", "name", "node", "epoch", "seq", "hash", "forks_at")


def frontier(target: Target, /, *, format: Format = "table", cluster: Keys = None) -> int:
    """The durable frontier: every lane with its newest batch."""
    with connect(target, cluster) as node:
        emit(node.query("frontier"), COLUMNS, format)
    return GOOD
