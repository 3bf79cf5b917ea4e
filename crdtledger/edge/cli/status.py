"""``crdtledger status``: one node at a glance."""

from __future__ import annotations

from crdtledger.edge.cli.options import GOOD, Format, Keys, Target
from crdtledger.edge.cli.output import emit_one
from crdtledger.edge.cli.reach import connect


def status(target: Target, /, *, format: Format = "table", cluster: Keys = None) -> int:
    """One node at a glance: its epoch, how much it holds, catch-up, links, and whether it may spend."""
    with connect(target, cluster) as node:
        emit_one(node.query("status"), format)
    return GOOD
