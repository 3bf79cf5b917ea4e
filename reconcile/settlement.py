"""Settlement: (settled state, a cut's batches, evidence) -> the next state, and what was adjusted on the way. A pure function.

The cut is checked (``cuts``), its batches are put in canonical order (``order``) and folded by a *settling* ``View`` on the state: the
very fold that nodes show their provisional figures with. In this order, then,

1. evidence: a forked lane ends before its fork, or where it was settled, and is closed;
2. authority: what a node may not record is void and competes for no id;
3. rights: a batch beyond what its lane, or its node, holds is void, and so is what stands on it;
4. reference data: of several definitions of a name the first stands, for ever;
5. fills deduplicated, busts taken back, average entries derived (``fillsettling``, ``entries``);
6. orders, cancels, shares, matches and their answers, call auctions (``matchsettling``);
7. collateral: credits land at the node that recorded them, or at the account's custodian where it may not record the account;
   refunds go back to the node that spent twice; a closed lane's open reserves are free again;
8. the cells and liabilities that changed, and the root of the adjustments. Roots of the state are ``commitments``' to make.

It answers for every set of batches that a replica may admit, and raises for none: a settlement that raises would stop the cluster. A
cut that does not hold is BadCut, and that is for whoever proposed it. The result does not depend on the order in which ``batches``
are handed in, nor on ``salt``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from crdtledger.ledger.batch import Batch, ForkEvidence, lane_text
from crdtledger.ledger.breaks import Break
from crdtledger.ledger.catalog import Place
from crdtledger.ledger.collateral import SHARED_IDS
from crdtledger.ledger.contents import fact_contents
from crdtledger.ledger.factkeys import fact_keys
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.packedpositions import PackedPositions
from crdtledger.ledger.seenids import SeenIds
from crdtledger.ledger.settled import MAX_BREAKS, Key, SettledState
from crdtledger.ledger.settledparts import Definition, Reserved, SettledBalance, SettledLane
from crdtledger.ledger.view import View

from .adjustments import Adjustment, adjustments_root, summary
from .auctionsettling import Cleared
from .cells import CellName
from .checkpoint import LaneCut
from .cuts import OPEN, Extension, extend
from .effects import Told, closings, fork_words
from .fillsettling import settle_fills
from .matchsettling import SettledMatches, concerns_orders, settle_matches
from .order import canonical_order, order_seed
from .statecells import Touched, changed_cells, changed_liabilities
from .windowsettling import settle_window

MAX_BREAK_DETAIL: Final = 1_000
"""Characters that a settled break's story may have: who contradicts himself ten thousand times is not quoted in full for ever."""

Pair = tuple[str, str]


class Settlement(NamedTuple):
    """What a height comes to. ``cells``: new value by name, None where a cell is gone. ``liabilities``: asset -> account -> minor
    units, None where nothing is owed any more. Both hold what changed and nothing else. ``cleared``: what call auctions paired."""

    state: SettledState
    adjustments: tuple[Adjustment, ...]
    adjustments_root: bytes
    cells: Mapping[CellName, bytes | None]
    liabilities: Mapping[str, Mapping[str, int | None]]
    cleared: tuple[Cleared, ...] = ()

    @property
    def causes(self) -> dict[str, int]:
        """How many facts were adjusted, by cause."""
        return summary(self.adjustments)


def settle(
    genesis: Genesis,
    state: SettledState,
    previous: bytes,
    cut: Sequence[LaneCut],
    batches: Sequence[Batch],
    evidence: Sequence[ForkEvidence],
    salt: int = 0,
    *,
    height: int,
) -> Settlement:
    """Settle ``cut`` as ``height`` on ``state``, which is the state of the checkpoint with digest ``previous``.

    ``batches``: exactly those between the state and the cut, in any order. Raises BadCut, and nothing else.
    """
    batches = [batch.kept_open() for batch in batches]  # each is looked into several times
    extension = extend(genesis, state, cut, batches, evidence, height)
    if not batches and not evidence:
        return Settlement(state, (), adjustments_root(()), {}, {})
    ordered = canonical_order(batches, extension.ends, order_seed(previous, cut))
    view = View(genesis, salt, base=state, settling=True)
    for place, batch in enumerate(ordered, 1):
        view.apply(batch, Place(place, batch.key, batch.seq))
    view.finish()
    fills = settle_fills(view)
    moved = settle_window(view, ordered, extension, fills.timed)
    told = Told(view, ordered)
    told.definitions()
    told.void(extension)
    used = told.rights(salt)
    reserves: dict[bytes, Mapping[Key, Reserved]] = {**state.reserves, **view.rights.reserves_after()}
    balances, positions = view.collateral.landed(), fills.positions
    trading = None
    if concerns_orders(view, ordered):
        counted = positions.by_pair()
        trading = settle_matches(view, ordered, extension, height, counted, balances, reserves, used, salt)
        positions = PackedPositions.of(trading.positions)
        reserves, balances, used = trading.reserves, trading.balances, trading.used
    reserves, released = _released(reserves, extension)
    for lane, held in released.items():
        _release(state, balances, held, view.member(lane))
    after = msgspec.structs.replace(
        state,
        facts=view.facts,
        batches=state.batches + len(batches),
        lanes=_lanes(state, cut, extension),
        definitions={**state.definitions, **_definitions(view)},
        labels=state.labels.replaced(view.catalog.fresh_labels()),
        marks=state.marks.replaced(view.catalog.fresh_marks()),
        cursors=state.cursors.replaced(view.unsettled_cursors()),
        positions=state.positions.rewritten(positions),
        collateral=state.collateral.replaced({at: b if _holds(b) else None for at, b in balances.items()}),
        reserves=reserves,
        fills=fills.fills,
        busts=fills.busts,
        used=used,
        shared=_shared(view, ordered),
        suspended=fills.suspended,
        breaks=_breaks(view, extension, trading.breaks if trading else ()),
        board={**state.board, **view.board.extended()},
        window=moved.window,
    )
    if trading is not None:
        after = _after_trading(after, trading)
    touched = _touched(view, state, after, extension, positions.pairs, balances, trading)
    touched = touched._replace(heard=moved.heard, spans=moved.spans)
    counts = {lane: len(held) for lane, held in released.items()}
    more = [*fills.adjustments, *(trading.adjustments if trading else ())]
    adjustments = (*closings(extension, counts), *told.adjustments(more))
    return Settlement(
        after,
        adjustments,
        adjustments_root(adjustments),
        changed_cells(state, after, touched, genesis),
        changed_liabilities(state, after, touched),
        tuple(trading.cleared) if trading else (),
    )


# -- parts of the next state ----------------------------------------------------------------------------------


def _lanes(state: SettledState, cut: Sequence[LaneCut], extension: Extension) -> dict[bytes, SettledLane]:
    lanes = dict(state.lanes)
    for entry in cut:
        grown = extension.grown.get(entry.lane)
        if grown:
            lanes[entry.lane] = SettledLane(entry.seq, entry.hash, grown[-1].header.base[0])
    for lane, proof in extension.closed.items():
        settled = lanes.get(lane, OPEN)
        lanes[lane] = msgspec.structs.replace(settled, closed=proof.seq, evidence=proof.raw)
    return lanes


def _definitions(view: View) -> dict[str, tuple[Definition, ...]]:
    catalog = view.catalog
    return {
        name: tuple(Definition(digest, catalog.definitions[digest]) for digest in digests)
        for name, digests in catalog.fresh_definitions().items()
        if digests
    }


def _after_trading(state: SettledState, trading: SettledMatches) -> SettledState:
    return msgspec.structs.replace(
        state,
        orders=state.orders.replaced(trading.orders),
        pending=state.pending.replaced(trading.pending),
        carried=state.carried.replaced(trading.carried),
        prices={**state.prices, **trading.prices},
    )


def _holds(balance: SettledBalance) -> bool:
    return balance != SettledBalance()


def _released(
    reserves: dict[bytes, Mapping[Key, Reserved]], extension: Extension
) -> tuple[dict[bytes, Mapping[Key, Reserved]], dict[bytes, Mapping[Key, Reserved]]]:
    """(Open reserves by lane, those that closing lanes sets free)."""
    released = {lane: held for lane in extension.closed if (held := reserves.get(lane))}
    return {lane: held for lane, held in reserves.items() if held and lane not in released}, released


def _release(
    state: SettledState, balances: dict[Pair, SettledBalance], held: Mapping[Key, Reserved], member: int
) -> None:
    """Give what reserves hold back to the node that made them."""
    for reserve in held.values():
        at = (reserve.account, reserve.asset)
        balance = balances.get(at) or state.collateral.get(at, SettledBalance())
        shares = dict(balance.rights)
        shares[member] = shares.get(member, 0) + reserve.remaining
        rights = tuple(sorted((index, amount) for index, amount in shares.items() if amount))
        reserved = balance.reserved - reserve.remaining
        balances[at] = msgspec.structs.replace(balance, reserved=reserved, rights=rights)


def _shared(view: View, ordered: Sequence[Batch]) -> SeenIds:
    """The ids that the whole cluster shares; of several statements the first stands."""
    shared = view.base.shared
    waited = len(view.base.suspended)
    for judged in view.judged:
        body = ordered[judged.number - waited].body
        for kind in SHARED_IDS:
            rows = judged.verdict.effective.get(kind)
            if rows is not None and len(rows):
                high, low = fact_keys(body, kind)
                shared = shared.extended((high[rows], low[rows]), fact_contents(body, kind, rows))
    return shared


def _breaks(view: View, extension: Extension, more: Sequence[Break]) -> tuple[Break, ...]:
    found = [
        Break("fork", lane_text(lane, view.genesis), fork_words(proof.seq, extension.ends.get(lane, 0)))
        for lane, proof in sorted(extension.closed.items())
    ]
    for one in sorted([*view.lasting_breaks(), *more]):
        short = one.detail if len(one.detail) <= MAX_BREAK_DETAIL else f"{one.detail[:MAX_BREAK_DETAIL]} ..."
        found.append(Break(one.type, one.subject, short))
    return (*view.base.breaks, *found)[-MAX_BREAKS:]


def _touched(
    view: View,
    before: SettledState,
    after: SettledState,
    extension: Extension,
    positions: Collection[Pair],
    balances: Mapping[Pair, SettledBalance],
    trading: SettledMatches | None,
) -> Touched:
    lanes = view.rights.reserves_after().keys() | extension.closed.keys()
    reserves = {(lane, key) for lane in lanes for state in (before, after) for key in state.reserves.get(lane, {})}
    return Touched(
        frozenset(extension.grown) | frozenset(extension.closed),
        frozenset(view.catalog.fresh_definitions()),
        frozenset(view.catalog.fresh_labels()),
        frozenset(view.catalog.fresh_marks()),
        frozenset(view.unsettled_cursors()),
        positions,
        frozenset(balances),
        frozenset(reserves | (trading.taken_from if trading else set())),
        frozenset(trading.orders if trading else ()),
        frozenset(trading.pending if trading else ()),
        frozenset(trading.carried if trading else ()),
        frozenset(trading.prices if trading else ()),
        frozenset(view.board.extended()),
    )
