"""Sightings made up for tests: what a node would tell, without a node."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crdtledger.edge import folders
from crdtledger.edge.report.gathering import Gathered, Peer
from crdtledger.edge.report.sighting import Sighting
from crdtledger.ledger.facts import Instrument
from crdtledger.ledger.genesis import Genesis
from reconcile.divergence.breakrow import BreakRow, worst_first
from reconcile.divergence.causes import Holder, Rules
from reconcile.divergence.rows import SettledCut

NOW_US = 1_800_000_000_000_000
SECOND_US = 1_000_000
PERP = Instrument(
    name="PERP", type="perp", base="BTC", quote="USDT", settlement="USDT", price_decimals=1, qty_decimals=3
)


def made_genesis(directory: Path, nodes: int = 3) -> Genesis:
    """A genesis of ``nodes`` nodes that run nowhere."""
    return folders.found(directory / "made", [f"tcp://127.0.0.1:{7000 + n}" for n in range(nodes)])


def position(account: str, qty: str, **more: Any) -> dict[str, Any]:
    """A row of positions."""
    zero = {"bought": qty, "sold": "0.000", "value_bought": "0.0000", "value_sold": "0.0000", "fees": "0.00000000"}
    row = {
        "account": account,
        "instrument": "PERP",
        "qty": qty,
        **zero,
        "fills": 1,
        "settled_qty": qty,
        "state": "provisional",
    }
    return row | more


def sighting(genesis: Genesis, node: str = "node-1", **more: Any) -> Sighting:
    """What ``node`` would tell: by default nothing at all, and that it has heard of everybody a second ago."""
    holders = tuple(
        Holder(member.name, {"node-1/1.aa": 5}, None if member.name == node else NOW_US - SECOND_US)
        for member in genesis.nodes
    )
    told: dict[str, Any] = {
        "node": node,
        "target": f"cluster/{node}",
        "genesis": genesis,
        "now_us": NOW_US,
        "frontier": "ab" * 32,
        "status": {"base": {"height": 0}},
        "holders": holders,
        "members": [{"node": member.name, "offences": []} for member in genesis.nodes],
        "breaks": [],
        "marks": [],
        "instruments": {"PERP": PERP},
        "positions": [],
        "collateral": [],
        "board": {},
        "moved": False,
    }
    return Sighting(**(told | more))


def gathered(
    seen: Sighting, rows: Sequence[BreakRow], cuts: Sequence[SettledCut] = (), peers: Sequence[Peer] = ()
) -> Gathered:
    """A report's content from rows that are made already."""
    return Gathered(seen, tuple(peers), tuple(cuts), seen.moment(Rules(), cuts, "", {}), tuple(worst_first(rows)))
