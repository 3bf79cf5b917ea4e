"""The line under provisional figures: how old what is missing in them may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from crdtledger.edge.cli.output import say

if TYPE_CHECKING:
    from crdtledger.edge.cli.options import OutputFormat
    from crdtledger.edge.client import Client

SHOWN = "0.99"


def tell_freshness(node: Client, rows: Sequence[Mapping[str, Any]], format: OutputFormat) -> None:
    """Under a table with provisional rows, on standard error: rows stay what programs compare."""
    if format == "table" and any(row["state"] == "provisional" for row in rows):
        say(freshness_line(node.query("fresh")))


def freshness_line(fresh: Mapping[str, int]) -> str:
    """What ``fresh`` says at ``SHOWN``, in words."""
    return f"Provisional: with probability {SHOWN} nothing older than {fresh[SHOWN] / 1_000:.0f} ms is missing."
