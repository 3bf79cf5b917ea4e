"""A settlement for tests, as plain as it gets: fold the batches in the order given, and write down what the view says.

It knows nothing of cuts, evidence, roots or adjustments, and derives no average entries; ``reconcile.settlement`` does. Here it
makes the states that views are stood on.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import msgspec

from crdtledger.ledger.batch import Batch
from crdtledger.ledger.catalog import Place
from crdtledger.ledger.collateral import SHARED_IDS
from crdtledger.ledger.contents import fact_contents
from crdtledger.ledger.factkeys import fact_keys
from crdtledger.ledger.facts import Kind
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.seenids import SeenIds
from crdtledger.ledger.settled import SettledState
from crdtledger.ledger.settledparts import (
    Definition,
    SettledLane,
    SettledPosition,
    SuspendedFills,
    cut_fills,
)
from crdtledger.ledger.view import View


def settling_view(genesis: Genesis, state: SettledState, batches: Iterable[Batch]) -> View:
    """The finished settling view of ``batches``, in the order given, on ``state``."""
    view = View(genesis, base=state, settling=True)
    for number, batch in enumerate(batches):
        view.apply(batch, Place(number, batch.key, batch.seq))
    view.finish()
    return view


def settle_plainly(genesis: Genesis, state: SettledState, batches: Sequence[Batch]) -> SettledState:
    """The state after ``batches``, which come in an order that respects lanes and deps."""
    view = settling_view(genesis, state, batches)
    lanes = dict(state.lanes)
    for batch in batches:
        lanes[batch.key] = SettledLane(batch.seq, batch.hash, batch.header.base[0])
    definitions = {
        name: tuple(Definition(digest, view.catalog.definitions[digest]) for digest in digests)
        for name, digests in view.catalog.fresh_definitions().items()
    }
    positions = {
        (row.account, row.instrument): SettledPosition(
            bought=row.bought,
            sold=row.sold,
            value_bought=row.value_bought,
            value_sold=row.value_sold,
            fees=row.fees,
            other_fees=tuple((asset, amount) for asset, amount, _ in row.other_fees),
            fills=row.fills,
        )
        for row in view.position_rows()
    }
    used, shared = _ids(view, state)
    collateral = {**state.collateral, **view.collateral.landed()}
    reserves = {**state.reserves, **view.rights.reserves_after()}
    return msgspec.structs.replace(
        state,
        facts=view.facts,
        batches=state.batches + len(batches),
        lanes=lanes,
        definitions={**state.definitions, **definitions},
        labels={**state.labels, **view.catalog.fresh_labels()},
        marks={**state.marks, **view.catalog.fresh_marks()},
        cursors={**state.cursors, **view.unsettled_cursors()},
        positions=positions,
        collateral={name: held for name, held in collateral.items() if held.deposited or held.withdrawn or held.held},
        reserves={lane: held for lane, held in reserves.items() if held},
        fills=state.fills.extended(*view.settled_fills.taken(Kind.FILL)),
        busts=state.busts.extended(*view.settled_fills.taken(Kind.BUST)),
        used=used,
        shared=shared,
        suspended=tuple(_waiting(view)),
        breaks=(*state.breaks, *view.lasting_breaks()),
        board={**state.board, **view.board.extended()},
    )


def _ids(view: View, state: SettledState) -> tuple[dict[int, SeenIds], SeenIds]:
    used, shared = dict(state.used), state.shared
    for number, verdict in view.judged:
        batch = view.batches[number]
        member = view.member(batch.key)
        for kind, rows in verdict.effective.items():
            high, low = fact_keys(batch.body, kind)
            said = ((high[rows], low[rows]), fact_contents(batch.body, kind, rows))
            used[member] = used.get(member, SeenIds()).extended(*said)
            if kind in SHARED_IDS:
                shared = shared.extended(*said)
    return {member: ids for member, ids in used.items() if len(ids)}, shared


def _waiting(view: View) -> Iterable[SuspendedFills]:
    for kind, number, rows in view.positions.waiting():
        source = view.batches[number]
        told = [source.rows[row] for row in rows.tolist()] if isinstance(source, SuspendedFills) else rows.tolist()
        yield cut_fills(source.key, source.seq, source.body, kind, rows, tuple(told))


def any_order(batches: Sequence[Batch], seed: int) -> list[Batch]:
    """The batches in some order that respects lanes and deps among them."""
    rng = random.Random(seed)
    left = {(batch.key, batch.seq): batch for batch in batches}
    out = []
    while left:
        ready = [
            at
            for at, batch in left.items()
            if (batch.key, batch.seq - 1) not in left
            and not any((dep.lane, dep.seq) in left for dep in batch.header.deps)
        ]
        out.append(left.pop(rng.choice(ready)))
    return out
