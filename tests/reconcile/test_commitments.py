"""What a height commits to: the whole state, advanced by what changed, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.ledger.body import encode
from crdtledger.ledger.breaks import Break
from crdtledger.ledger.facts import Account, Deposit, Fill, Instrument
from crdtledger.ledger.orderfacts import Terms
from crdtledger.ledger.ordermoney import Drawn, Tally
from crdtledger.ledger.reference import InstrumentKey, MarkEntry
from crdtledger.ledger.settled import SettledState
from crdtledger.ledger.settledparts import (
    Carried,
    PendingMatch,
    Reserved,
    SettledLane,
    SettledNote,
    SettledOrder,
    SuspendedFills,
)
from reconcile.cells import CellName, decode_value, manifest_name, manifest_value
from reconcile.commitments import Commitments
from reconcile.salts import Salts
from reconcile.settlement import settle
from reconcile.statecells import (
    CHUNK,
    NOTES,
    Touched,
    account_cells,
    cells_of,
    changed_cells,
    everything,
    liabilities_of,
)
from reconcile.statetree import verify_cell
from reconcile.sumtree import verify_sum
from tests.crdtledger.worlds import SPOT, Pen, genesis
from tests.reconcile.settlement_worlds import Story, cut_at, stories, written
from tests.reconcile.test_settlement import FIRST, heights

SALTS = Salts(1, b"s" * 32)
GENESIS = genesis(3)
seeds = st.integers(0, 1 << 30)


@given(drawn=stories, seed=seeds, count=st.integers(1, 3))
def test_advancing_by_what_changed_is_committing_to_the_whole_anew(drawn: Any, seed: int, count: int) -> None:
    story = written(drawn)
    advanced = Commitments.empty(story.genesis, SALTS)
    cells: dict[CellName, bytes] = {}
    for state, _, _, settled in heights(story, seed, count):
        advanced = advanced.advance(settled)
        rebuilt = Commitments.rebuild(story.genesis, SALTS, settled.state)
        assert (advanced.state_root, advanced.liabilities) == (rebuilt.state_root, rebuilt.liabilities)
        assert all(settled.cells[name] != cells.get(name) for name in settled.cells)  # only what changed
        cells.update((name, value) for name, value in settled.cells.items() if value is not None)
        for name in [name for name, value in settled.cells.items() if value is None]:
            del cells[name]
        assert cells == cells_of(settled.state, story.genesis)
        held = {asset: sum(owed.values()) for asset, owed in liabilities_of(settled.state, story.genesis).items()}
        assert {asset: tree.root.total for asset, tree in advanced.sums.items()} == held
        assert state.imbalance() == {}


def rich_state() -> SettledState:
    """A state with something in every part."""
    pens = [Pen(GENESIS, node) for node in range(3)]
    batches = [
        pens[0].write(SPOT, Account(name="A", label="desk")),
        pens[0].write(Deposit(id="d", account="A", asset="USDT", amount=100)),
        pens[1].write(fill("BTCUSDT", 1)),
    ]
    story = Story(GENESIS, batches, [])
    height = cut_at(story, SettledState.empty(GENESIS), {pen.lane.key: 9 for pen in pens}, [])
    return settle(GENESIS, SettledState.empty(GENESIS), FIRST, height.cut, height.batches, [], height=1).state


def fill(instrument: str, trade: int) -> Fill:
    return Fill(venue="V", trade_id=trade, instrument=instrument, account="A", side="buy", qty=3, price=200)


def variations(state: SettledState) -> Iterator[tuple[str, SettledState]]:
    """States that differ from ``state`` in one part."""
    other: Instrument = msgspec.structs.replace(SPOT, price_decimals=3)
    lane = next(iter(state.lanes))
    balance, position = state.collateral["A", "USDT"], state.positions["A", "BTCUSDT"]
    keys, contents = state.fills.rows()
    one_more = (keys[0][:1] + 1, keys[1][:1])
    definition = state.definitions["BTCUSDT"][0]
    replace = msgspec.structs.replace
    yield "facts", replace(state, facts=state.facts + 1)
    yield "batches", replace(state, batches=state.batches + 1)
    yield "lane", replace(state, lanes={**state.lanes, lane: replace(state.lanes[lane], base_height=1)})
    yield "closed", replace(state, lanes={**state.lanes, lane: SettledLane(1, b"h" * 32, 0, 2, b"proof")})
    yield "definition", replace(state, definitions={"BTCUSDT": (definition._replace(instrument=other),)})
    yield "rival", replace(state, definitions={"BTCUSDT": (definition, definition._replace(instrument=other))})
    yield "label", replace(state, labels={"A": "trader"})
    mark = MarkEntry(1, 2, 3, InstrumentKey("BTCUSDT", bytes(16)))
    yield "mark", replace(state, marks={("BTCUSDT", "s"): mark})
    yield "cursor", replace(state, cursors={(lane, "file"): (1, 2)})
    yield "cursor moved", replace(state, cursors={(lane, "file"): (1, 3)})
    for name in ("bought", "sold", "value_bought", "value_sold", "fees", "fills", "cost", "realised"):
        changed = replace(position, **{name: getattr(position, name) + 1})
        yield name, replace(state, positions={("A", "BTCUSDT"): changed})
    for fee in (1, 2):
        changed = replace(position, other_fees=(("BTC", fee),))
        yield f"other fee {fee}", replace(state, positions={("A", "BTCUSDT"): changed})
    yield "deposited", replace(state, collateral={("A", "USDT"): replace(balance, deposited=101)})
    yield "shortfall", replace(state, collateral={("A", "USDT"): replace(balance, shortfall=1)})
    yield "whose rights", replace(state, collateral={("A", "USDT"): replace(balance, rights=((1, 100),))})
    yield "whose account", replace(state, collateral={("B", "USDT"): balance})
    yield "fill id", replace(state, fills=state.fills.extended(one_more, contents[:1]))
    yield "bust id", replace(state, busts=state.busts.extended(one_more, contents[:1]))
    yield "what an id says", replace(state, shared=state.busts.extended(one_more, contents[:1] + 1))
    yield "used id", replace(state, used={1: state.busts.extended(one_more, contents[:1])})
    yield "whose id", replace(state, used={2: state.busts.extended(one_more, contents[:1])})
    for remaining in (4, 5):
        held = {lane: {(1, 2): Reserved("A", "USDT", remaining, "r")}}
        yield f"reserve of {remaining}", replace(state, reserves=held)
    yield "whose reserve", replace(state, reserves={bytes(22): {(1, 2): Reserved("A", "USDT", 5, "r")}})
    waiting = Pen(GENESIS, 2).draft([fill("BTCUSDT", 7)], {"BTCUSDT": bytes(16)})
    for row in (0, 1):
        yield f"waits in row {row}", replace(state, suspended=(SuspendedFills(lane, 1, (row,), encode(waiting)),))
    yield "margin", replace(state, collateral={("A", "USDT"): replace(balance, margin=1)})
    terms = Terms("A", "BTCUSDT", definition.digest, 1, 5, 7, "r")
    order = SettledOrder(terms=terms, place=(3, lane, 1, 0), height=1, open=((0, 5),))
    for number, changed_order in enumerate(
        (
            order,
            replace(order, open=((1, 5),)),
            replace(order, closed=True),
            replace(order, terms=replace(terms, price=8)),
            replace(order, tally=Tally(1)),
            replace(order, drawn=Drawn(1)),
            replace(order, height=2),
            replace(order, shown=(1, 2)),
        )
    ):
        yield f"order {number}", replace(state, orders={("n0", "1"): changed_order})
    match = PendingMatch(
        taker=("n1", "1"), maker=("n0", "1"), held=1, qty=2, price=7, height=1, number=1, place=(lane, 1, 0), survival=5
    )
    yield "match", replace(state, pending={("n1", "2"): match})
    yield "match held", replace(state, pending={("n1", "2"): replace(match, held=2)})
    yield "carried", replace(state, carried={("A", "P"): Carried(1, 2)})
    yield "who carries", replace(state, carried={("B", "P"): Carried(1, 2)})
    for price in (1, 2):
        yield f"price {price}", replace(state, prices={"P": price})
    for name, at, notes in (
        ("note", lane, (SettledNote(1, b"kim"),)),
        ("note's clock", lane, (SettledNote(2, b"kim"),)),
        ("what is noted", lane, (SettledNote(1, b"lee"),)),
        ("who noted", bytes(22), (SettledNote(1, b"kim"),)),
        ("notes in order", lane, (SettledNote(1, b"kim"), SettledNote(1, b"lee"))),
        ("notes turned round", lane, (SettledNote(1, b"lee"), SettledNote(1, b"kim"))),
        ("many notes", lane, (SettledNote(1, b"kim"),) * (NOTES + 1)),
        ("more notes", lane, (SettledNote(1, b"kim"),) * (NOTES + 2)),
    ):
        yield name, replace(state, board={at: notes})
    yield "break", replace(state, breaks=(Break("conflict", "x", "y"),))


@given(st.lists(st.integers(0, 2 * NOTES), max_size=4))
def test_notes_that_come_height_by_height_have_the_cells_of_all_of_them(grown: list[int]) -> None:
    lane, state = bytes(22), SettledState.empty(GENESIS)
    cells: dict[CellName, bytes | None] = {}
    for count in grown:
        held = state.board.get(lane, ())
        notes = (*held, *(SettledNote(1, (len(held) + number).to_bytes(4, "big")) for number in range(count)))
        after = msgspec.structs.replace(state, board={lane: notes} if notes else {})
        changed = changed_cells(state, after, Touched(board=frozenset({lane})), GENESIS)
        assert all(cells.get(name) != value for name, value in changed.items())
        cells |= changed
        state = after
    assert cells == cells_of(state, GENESIS)


def test_changing_any_part_of_the_state_changes_the_root() -> None:
    state = rich_state()
    roots = {"as it is": Commitments.rebuild(GENESIS, SALTS, state).state_root}
    for name, changed in variations(state):
        roots[name] = Commitments.rebuild(GENESIS, SALTS, changed).state_root
    assert len(set(roots.values())) == len(roots)


def test_an_account_can_be_shown_with_its_balance_its_position_and_nothing_left_out() -> None:
    state = rich_state()
    commitments, cells = Commitments.rebuild(GENESIS, SALTS, state), cells_of(state, GENESIS)
    names = account_cells(state, "A")
    assert names == [CellName("collateral", "A", "USDT"), CellName("label", "A"), CellName("position", "A", "BTCUSDT")]
    assert cells[manifest_name("A")] == manifest_value(names)
    for name in (*names, manifest_name("A")):
        verify_cell(commitments.tree.prove(name, cells[name]), commitments.state_root)
    balance = decode_value(cells[names[0]])
    assert (balance["free"], balance["reserved"], balance["shortfall"], balance["decimals"]) == ("100", "0", "0", "6")
    position = decode_value(cells[names[2]])
    assert (position["qty"], position["cost"], position["realised"]) == ("3", "600", "0")
    assert (position["qty_decimals"], position["value_decimals"], position["fee_asset"]) == ("8", "10", "USDT")
    proof = commitments.sums["USDT"].prove("A")
    verify_sum(proof, commitments.sums["USDT"].root)
    assert proof.amount == 100


def test_recorded_text_of_any_length_and_look_fits_its_cell() -> None:
    state = rich_state()
    odd = "\u200b\U0001f600" * 64
    position = msgspec.structs.replace(
        state.positions["A", "BTCUSDT"], other_fees=tuple(("BTC", 1 << 300 + n) for n in range(9))
    )
    state = msgspec.structs.replace(
        state, labels={odd: odd, "A": "l"}, positions={(odd, "BTCUSDT"): position, ("A", "BTCUSDT"): position}
    )
    cells = cells_of(state, GENESIS)
    assert decode_value(cells[CellName("label", odd)]).keys() == {"label_digest"}
    assert len(cells[CellName("position", odd, "BTCUSDT")]) < 4096


def test_settled_ids_cost_the_chunks_that_they_fall_into() -> None:
    state = SettledState.empty(GENESIS)
    ids = np.arange(3 * CHUNK, dtype=np.uint64)
    some = state.fills.extended((ids[: CHUNK + 5], ids[: CHUNK + 5]), np.zeros((CHUNK + 5, 2), np.uint64))
    before = msgspec.structs.replace(state, fills=some)
    more = some.extended((ids[: CHUNK + 9], ids[: CHUNK + 9]), np.zeros((CHUNK + 9, 2), np.uint64))
    after = msgspec.structs.replace(state, fills=more)
    changed = changed_cells(before, after, everything(after), GENESIS)
    assert list(changed) == [CellName("fills", "", "1")]
    assert changed.items() <= cells_of(after, GENESIS).items()
