"""``crdtledger matches``: what met: firm, tentative with its survival, settled, voided and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crdtledger.edge.cli.freshness import tell_freshness
from crdtledger.edge.cli.options import GOOD, Account, Format, Instrument, Keys, Target
from crdtledger.edge.cli.output import emit
from crdtledger.edge.cli.reach import connect

COLUMNS = (
    *("home", "id", "instrument", "taker", "taker_account", "maker_home", "maker", "maker_account"),
    *("qty", "price", "status", "stands", "survival", "state", "reason"),
)


def matches(
    target: Target,
    /,
    *,
    account: Account = "",
    instrument: Instrument = "",
    format: Format = "table",
    cluster: Keys = None,
) -> int:
    """Matches: `firm`, `tentative` with the `survival` it was given (ppm in json and csv), `accepted` or `refused` by the maker's home;
    and the newest that checkpoints have `settled`, `trimmed` or `voided`, with the reason, or that an auction `cleared` (its taker is the
    buyer)."""
    with connect(target, cluster) as node:
        rows = node.query("matches", account=account, instrument=instrument)
        emit([_for_people(row) for row in rows] if format == "table" else rows, COLUMNS, format)
        tell_freshness(node, rows, format)
    return GOOD


def _for_people(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row whose survival is a percentage, or nothing where the match was firm."""
    ppm = row["survival"]
    return {**row, "survival": f"{ppm // 10_000}.{ppm // 1_000 % 10} %" if ppm else None}
