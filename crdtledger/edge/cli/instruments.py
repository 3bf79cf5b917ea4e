"""``crdtledger instruments``: the definitions that stand."""

from __future__ import annotations

from crdtledger.edge.cli.options import GOOD, Format, Instrument, Keys, Target
from crdtledger.edge.cli.output import emit
from crdtledger.edge.cli.reach import connect

COLUMNS = (
    "name",
    "type",
    "base",
    "quote",
    "settlement",
    "price_decimals",
    "qty_decimals",
    "inverse",
    "contract_size",
    "digest",
)


def instruments(
    target: Target, /, *, instrument: Instrument = "", format: Format = "table", cluster: Keys = None
) -> int:
    """Instruments that are defined, and under which digest."""
    with connect(target, cluster) as node:
        emit(node.query("instruments", instrument=instrument), COLUMNS, format)
    return GOOD
