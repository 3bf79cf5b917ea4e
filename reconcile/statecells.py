"""Which cells stand for which part of the settled state. Between them they stand for all of it.

An account's cells are for people (``accountcells``):

    collateral / account / asset        free, reserved, shortfall, deposited, withdrawn, held; the nodes' shares by digest; margin, if any
    position / account / instrument     qty, bought, sold, value_bought, value_sold, fees, fills, cost, realised, other_fees
    label / account                     the account's label, by digest where it cannot be printed
    account / account                   the manifest over these

The others (account ``""``) are digests, so their size does not depend on what anybody recorded: ``lane``, ``instrument`` (all
definitions of a name), ``mark``, ``cursor``, ``reserve``, ``order``, ``match`` (a pending one), ``carried`` (of an account, an
instrument), ``price`` (of settlement), ``suspended`` (of one batch), ``breaks``, ``totals``; and, because ids and notes are only ever
appended, ``fills``, ``busts``, ``shared``, ``used`` (by member) and ``board`` (by lane): one cell for each ``CHUNK`` of ids, and for each
``NOTES`` notes of a lane, in settled order. Under a window for ids, ``window`` (its floor), ``heard`` (of a lane), and ``timed fills`` and
``timed busts``, for each ``CHUNK`` of ids of a span, which go with their span.

``Touched`` says which parts a settlement changed; ``changed_cells`` looks at nothing else, but for the names of accounts that got
or lost a cell.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from crdtledger.ledger.factkeys import Keys
from crdtledger.ledger.facts import Kind
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.identity import digest
from crdtledger.ledger.idwindow import IdWindow
from crdtledger.ledger.reference import MarkEntry
from crdtledger.ledger.seenids import Contents, SeenIds
from crdtledger.ledger.settled import Key, SettledState
from crdtledger.ledger.settledparts import SettledNote

from .accountcells import balance_value, label_value
from .cells import CellName, content_digest, encode_value, manifest_name, manifest_value, plain_data
from .positioncells import position_cells

CHUNK: Final = 4_096
"""Ids under one cell."""
NOTES: Final = 64
"""Notes of a lane under one cell."""
TIMED: Final = (Kind.FILL, Kind.BUST)
"""Kinds whose ids a window lets go of."""

Cells: TypeAlias = dict[CellName, bytes | None]
Pair: TypeAlias = tuple[str, str]


class Touched(NamedTuple):
    """The parts of a state that one settlement may have changed, by their names in it. Appended ids, suspended fills, breaks and totals
    need not be named, and no position is named twice."""

    lanes: frozenset[bytes] = frozenset()
    definitions: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()
    marks: frozenset[Pair] = frozenset()
    cursors: frozenset[tuple[bytes, str]] = frozenset()
    positions: Collection[Pair] = ()
    collateral: frozenset[Pair] = frozenset()
    reserves: frozenset[tuple[bytes, Key]] = frozenset()
    orders: frozenset[Pair] = frozenset()
    pending: frozenset[Pair] = frozenset()
    carried: frozenset[Pair] = frozenset()
    prices: frozenset[str] = frozenset()
    board: frozenset[bytes] = frozenset()
    heard: frozenset[bytes] = frozenset()
    spans: frozenset[tuple[Kind, int]] = frozenset()


def everything(state: SettledState) -> Touched:
    """Every part of ``state``."""
    window = state.window
    return Touched(
        frozenset(state.lanes),
        frozenset(state.definitions),
        frozenset(state.labels),
        frozenset(state.marks),
        frozenset(state.cursors),
        [*state.positions],
        frozenset(state.collateral),
        frozenset((lane, key) for lane, held in state.reserves.items() for key in held),
        frozenset(state.orders),
        frozenset(state.pending),
        frozenset(state.carried),
        frozenset(state.prices),
        frozenset(state.board),
        frozenset(window.heard if window else ()),
        frozenset((kind, span) for kind in TIMED if window for span in window.ids(kind).spans()),
    )


def cells_of(state: SettledState, genesis: Genesis) -> dict[CellName, bytes]:
    """Every cell of ``state``."""
    cells = changed_cells(SettledState.empty(genesis), state, everything(state), genesis)
    return {name: value for name, value in cells.items() if value is not None}


def changed_cells(before: SettledState, after: SettledState, touched: Touched, genesis: Genesis) -> Cells:
    """The cells in which ``after`` differs from ``before``: new value by name, None where the cell is gone."""
    cells = dict(_touched_cells(before, after, touched, genesis))
    for kind, old, new in _id_lists(before, after, genesis):
        cells |= _id_cells(kind, old, new)
    for lane in touched.board:
        cells |= _board_cells(lane, len(before.board.get(lane, ())), after.board.get(lane, ()))
    if before.window is not None and after.window is not None:
        cells |= _window_cells(before.window, after.window, touched)
    cells |= _suspended(before, after)
    if after.breaks != before.breaks:
        cells[CellName("breaks", "")] = content_digest("breaks", after.breaks) if after.breaks else None
    if (after.facts, after.batches) != (before.facts, before.batches):
        cells[CellName("totals", "")] = encode_value({"facts": after.facts, "batches": after.batches})
    return cells


def liabilities_of(state: SettledState, genesis: Genesis) -> dict[str, dict[str, int]]:
    """What is owed: asset -> account -> minor units, zeros left out."""
    owed: dict[str, dict[str, int]] = {asset: {} for asset in genesis.asset_decimals}
    for (account, asset), balance in state.collateral.items():
        if balance.held:
            owed[asset][account] = balance.held
    return owed


def changed_liabilities(
    before: SettledState, after: SettledState, touched: Touched
) -> dict[str, dict[str, int | None]]:
    """Asset -> account -> what it is owed now, None where that is nothing; only where it changed."""
    changed: dict[str, dict[str, int | None]] = {}
    for account, asset in touched.collateral:
        old, new = (state.collateral.get((account, asset)) for state in (before, after))
        was, now = (balance.held if balance else 0 for balance in (old, new))
        if was != now:
            changed.setdefault(asset, {})[account] = now or None
    return changed


# -- parts ----------------------------------------------------------------------------------------------------


def _touched_cells(
    before: SettledState, after: SettledState, touched: Touched, genesis: Genesis
) -> Iterator[tuple[CellName, bytes | None]]:
    members: dict[str, None] = {}  # accounts whose set of cells may have changed

    def part(
        old: Mapping[Any, Any],
        new: Mapping[Any, Any],
        keys: Iterable[Any],
        name: Callable[[Any], CellName],
        value: Callable[[Any, Any], bytes],
    ) -> Iterator[tuple[CellName, bytes | None]]:
        for key in keys:
            was, now = old.get(key), new.get(key)
            if was == now:
                continue
            cell = name(key)
            if cell.kind in _OF_ACCOUNTS and (was is None) != (now is None):
                members[cell.account] = None
            yield cell, None if now is None else value(key, now)

    yield from part(before.lanes, after.lanes, touched.lanes, _lane_name, lambda _, lane: content_digest("lane", lane))
    yield from part(
        before.definitions,
        after.definitions,
        touched.definitions,
        lambda name: CellName("instrument", "", name),
        lambda _, rivals: content_digest("instrument", [[digest, plain_data(d)] for digest, d in rivals]),
    )
    yield from part(before.labels, after.labels, touched.labels, label_name, lambda _, label: label_value(label))
    yield from part(before.marks, after.marks, touched.marks, lambda at: _pair_name("mark", *at), _mark)
    yield from part(
        before.cursors,
        after.cursors,
        touched.cursors,
        lambda at: _pair_name("cursor", at[0].hex(), at[1]),
        lambda at, cursor: content_digest("cursor", [*at, *cursor]),
    )
    positions = position_cells(before, after, [*touched.positions], genesis)
    members |= dict.fromkeys(positions.members)
    yield from positions.cells.items()
    yield from part(
        before.collateral,
        after.collateral,
        touched.collateral,
        lambda at: CellName("collateral", *at),
        lambda at, balance: balance_value(at[1], balance, genesis),
    )
    old = {(lane, key): one for lane, key in touched.reserves if (one := before.reserves.get(lane, {}).get(key))}
    new = {(lane, key): one for lane, key in touched.reserves if (one := after.reserves.get(lane, {}).get(key))}
    yield from part(
        old, new, touched.reserves, _reserve_name, lambda _, held: content_digest("reserve", plain_data(held))
    )
    for kind, olds, news, names in (
        ("order", before.orders, after.orders, touched.orders),
        ("match", before.pending, after.pending, touched.pending),
        ("carried", before.carried, after.carried, touched.carried),
    ):
        yield from part(olds, news, names, partial(_pair_cell, kind), partial(_pair_digest, kind))
    yield from part(
        before.prices,
        after.prices,
        touched.prices,
        lambda name: CellName("price", "", name),
        lambda name, price: content_digest("price", [name, price]),
    )
    yield from _manifests(after, members)


def _pair_cell(kind: str, at: Pair) -> CellName:
    return _pair_name(kind, *at)


def _pair_digest(kind: str, at: Pair, value: Any) -> bytes:
    return content_digest(kind, [*at, plain_data(value)])


_OF_ACCOUNTS: Final = frozenset({"collateral", "label"})


def label_name(account: str) -> CellName:
    """The name of the cell of an account's label."""
    return CellName("label", account)


def account_cells(state: SettledState, account: str) -> list[CellName]:
    """The names of all cells of an account but its manifest, sorted."""
    cells = [CellName("collateral", account, asset) for asset in sorted(state.collateral.under(account))]
    cells += [label_name(account)] if account in state.labels else []
    cells += [CellName("position", account, instrument) for instrument in sorted(state.positions.under(account))]
    return cells


def _manifests(state: SettledState, accounts: Iterable[str]) -> Iterator[tuple[CellName, bytes | None]]:
    for account in accounts:  # one by one: the names of all together are as many as the cells that are held
        cells = account_cells(state, account)
        yield manifest_name(account), manifest_value(cells) if cells else None


def _lane_name(lane: bytes) -> CellName:
    return CellName("lane", "", lane.hex())


def _pair_name(kind: str, one: str, other: str) -> CellName:
    """A cell with two names: by digest, since joined names could be split in two ways, and recorded text may be long."""
    return CellName(kind, "", digest("cell-subject", one.encode(), other.encode()).hex())


def _reserve_name(at: tuple[bytes, Key]) -> CellName:
    lane, (high, low) = at
    return CellName("reserve", "", f"{lane.hex()}/{high:016x}{low:016x}")


def _mark(at: Pair, entry: MarkEntry) -> bytes:
    return content_digest("mark", [*at, entry.ts_us, entry.sequence, entry.price, *entry.instrument])


# -- what is only appended, or changes as one -----------------------------------------------------------------


def _id_lists(
    before: SettledState, after: SettledState, genesis: Genesis
) -> Iterator[tuple[str, SeenIds | None, SeenIds | None]]:
    yield "fills", before.fills, after.fills
    yield "busts", before.busts, after.busts
    yield "shared", before.shared, after.shared
    for member in before.used.keys() | after.used.keys():
        yield f"used {genesis.nodes[member].name}", before.used.get(member), after.used.get(member)


def _id_cells(kind: str, old: SeenIds | None, new: SeenIds | None) -> Cells:
    """The chunks that differ. Ids are never taken away."""
    start, end = len(old) if old else 0, len(new) if new else 0
    cells: Cells = {}
    if new is None or start == end:
        return cells
    first = start // CHUNK
    for chunk, value in _chunks(first, *new.rows(first * CHUNK)):
        cells[CellName(kind, "", str(chunk))] = value
    return cells


def _chunks(first: int, keys: Keys, contents: Contents) -> Iterator[tuple[int, bytes]]:
    """The numbers and values of chunks from ``first`` on, of the ids that are in them."""
    high, low = keys
    for start in range(0, len(high), CHUNK):
        rows = slice(start, start + CHUNK)
        columns = [part.astype("<u8").tobytes() for part in (high[rows], low[rows], contents[rows])]
        yield first + start // CHUNK, digest("cell-ids", *columns)


def _window_cells(before: IdWindow, after: IdWindow, touched: Touched) -> Cells:
    """What differs of a window. Of a span that is kept no id is taken away; one that is not loses all."""
    cells: Cells = {}
    if (before.floor_us, before.newest_us) != (after.floor_us, after.newest_us):
        cells[CellName("window", "")] = content_digest("window", [after.floor_us, after.newest_us])
    for lane in touched.heard:
        cells[CellName("heard", "", lane.hex())] = content_digest("heard", [lane, *after.heard[lane]])
    for kind, span in touched.spans:
        ids, held, holds = after.ids(kind), before.ids(kind).count(span), after.ids(kind).count(span)
        name = f"timed {kind.name.lower()}s"
        if holds > held:
            first = held // CHUNK
            for chunk, value in _chunks(first, *ids.rows(span, first * CHUNK)):
                cells[CellName(name, "", f"{span}/{chunk}")] = value
        elif not holds:
            cells |= dict.fromkeys(CellName(name, "", f"{span}/{chunk}") for chunk in range(-(-held // CHUNK)))
    return cells


def _board_cells(lane: bytes, held: int, notes: Sequence[SettledNote]) -> Cells:
    """The chunks of a lane's notes that differ once there are more than ``held``. Notes are never taken away."""
    chunks = range(held // NOTES, -(-len(notes) // NOTES)) if len(notes) > held else ()
    return {
        CellName("board", "", f"{lane.hex()}/{chunk}"): content_digest(
            "board", notes[chunk * NOTES : (chunk + 1) * NOTES]
        )
        for chunk in chunks
    }


def _suspended(before: SettledState, after: SettledState) -> Cells:
    if before.suspended == after.suspended:
        return {}

    def grouped(state: SettledState) -> dict[CellName, list[Any]]:
        groups: dict[CellName, list[Any]] = {}
        for waiting in state.suspended:
            name = CellName("suspended", "", f"{waiting.key.hex()}/{waiting.seq}")
            groups.setdefault(name, []).append([waiting.rows, waiting.raw])
        return groups

    old, new = grouped(before), grouped(after)
    cells: Cells = dict.fromkeys(old.keys() - new.keys())
    return cells | {name: content_digest("suspended", told) for name, told in new.items() if told != old.get(name)}
