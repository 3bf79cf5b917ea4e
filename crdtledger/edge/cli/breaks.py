"""``crdtledger breaks``: recorded facts that do not simply count."""

from __future__ import annotations

from crdtledger.edge.cli.options import DIFFERENT, GOOD, Format, Keys, Target
from crdtledger.edge.cli.output import emit
from crdtledger.edge.cli.reach import connect

COLUMNS = ("type", "subject", "detail")


def breaks(target: Target, /, *, format: Format = "table", cluster: Keys = None) -> int:
    """Conflicts, void batches and suspended facts, each with its story. Exit 1 when there are any."""
    with connect(target, cluster) as node:
        rows = node.query("breaks")
    emit(rows, COLUMNS, format)
    return DIFFERENT if rows else GOOD
