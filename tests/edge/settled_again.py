"""The checkpoints of a simulated cluster, settled once more by the plain telling of the rules (``tests.reconcile.match_model``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from crdtledger.edge.simulate.cluster import NAMES, Cluster
from crdtledger.ledger.batch import Batch, open_batch
from crdtledger.ledger.journalrecord import KIND_BATCH, JournalRecord, decode_record
from crdtledger.ledger.settled import SettledState
from reconcile.adjustments import decode_adjustments
from reconcile.checkpoint import decode_checkpoint
from reconcile.heights import NONE
from tests.reconcile.match_model import TradingLedger


def settled_again(cluster: Cluster, states: Mapping[int, SettledState]) -> set[str]:
    """Each height of ``states`` must be what the plain telling makes of its batches. Causes of what it did to matches, and ``waiting`` if
    a match still does."""
    model, previous, seen = TradingLedger(cluster.genesis), NONE, set[str]()
    batches, done = _every_batch(cluster), dict[bytes, int]()
    for stored in max(cluster.stores.values(), key=len):
        cut = decode_checkpoint(stored.body).cut
        told = [batches[e.lane, seq] for e in cut for seq in range(done.get(e.lane, 0) + 1, e.seq + 1)]
        model.settle(previous, cut, told, ())
        done |= {entry.lane: entry.seq for entry in cut}
        previous = stored.digest
        if stored.height in states:
            assert shown(states[stored.height]) == plain(model), f"height {stored.height}"
        seen |= {
            one.cause for one in decode_adjustments(stored.adjustments) if one.kind_name in ("match", "accept", "share")
        }
    return seen | ({"waiting"} if model.waiting_matches else set())


def _every_batch(cluster: Cluster) -> dict[tuple[bytes, int], Batch]:
    found: dict[tuple[bytes, int], Batch] = {}
    for name in cluster.names:
        for raw in cluster.sim.durable_records(name):
            record = decode_record(raw)
            if isinstance(record, JournalRecord) and record.kind == KIND_BATCH:
                found[record.lane, record.seq] = open_batch(record.body, cluster.genesis, check_signature=False)
    return found


def shown(state: SettledState) -> dict[str, Any]:
    """What a settled state says of orders and money."""
    balances = state.collateral.items()
    return {
        "orders": {
            name: (one.tally.filled, {NAMES[m]: qty for m, qty in one.open}, one.closed)
            for name, one in state.orders.items()
        },
        "waiting": {name: match.held for name, match in state.pending.items()},
        "carried": {at: (held.qty, held.margin) for at, held in state.carried.items()},
        "prices": dict(state.prices),
        "margin": {at: b.margin for at, b in balances if b.margin},
        "shortfall": {at: b.shortfall for at, b in balances if b.shortfall},
        "reserved": {at: b.reserved for at, b in balances if b.reserved},
        "rights": {(at, NAMES[m]): amount for at, b in balances for m, amount in b.rights},
        "positions": {at: (one.bought, one.sold, one.fees) for at, one in state.positions.items()},
    }


def plain(model: TradingLedger) -> dict[str, Any]:
    """The same of the plain telling."""
    reserved: Counter[Any] = Counter()
    for lane in model.reserves.values():
        for cell, left in lane.values():
            reserved[cell] += left
    return {
        "orders": {
            name: (one["filled"], {node: qty for node, qty in one["open"].items() if qty}, one["closed"])
            for name, one in model.orders.items()
        },
        "waiting": {name: match["held"] for name, match in model.waiting_matches.items()},
        "carried": {at: (held["qty"], held["margin"]) for at, held in model.carried.items()},
        "prices": model.prices,
        "margin": {at: amount for at, amount in model.margin.items() if amount},
        "shortfall": {at: amount for at, amount in model.shortfall.items() if amount},
        "reserved": {at: left for at, left in reserved.items() if left},
        "rights": {(at, node): n for node, cells in model.rights.items() for at, n in cells.items() if n},
        "positions": {
            at: (p["bought"], p["sold"], p["fees"])
            for at, p in model.positions.items()
            if any((p["bought"], p["sold"]))
        },
    }
