"""Many batches folded in one pass show what they show folded one by one, whatever else comes among them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtledger.ledger import catalog
from crdtledger.ledger import view as views
from crdtledger.ledger.batch import Batch
from crdtledger.ledger.factkeys import fact_keys, fill_keys
from crdtledger.ledger.facts import Account, Bust, Fact, Fill, Kind
from crdtledger.ledger.genesis import Authority, Genesis, Policies
from crdtledger.ledger.reference import instrument_digest
from crdtledger.ledger.settled import SettledState
from crdtledger.ledger.view import View
from tests.crdtledger.settling import any_order, settle_plainly
from tests.crdtledger.test_convergence import POLICIES, RIVAL, Action, actions, batches_of, history
from tests.crdtledger.worlds import INVERSE, SPOT, Pen, genesis

OTHER = msgspec.structs.replace(SPOT, name="ETHUSDT")
FOUNDED = genesis(3, Policies(authorities=(Authority("n2", ("A", "C*")),)))

trades = st.builds(
    lambda make, venue, id, instrument, account, side, qty, price, fee: make(
        venue=venue,
        trade_id=id,
        instrument=instrument,
        account=account,
        side=side,
        qty=qty,
        price=price,
        fee=fee[0],
        fee_asset=fee[1],
    ),
    st.sampled_from([Fill, Fill, Fill, Bust]),
    st.sampled_from(["v", "v", "w"]),
    st.one_of(st.integers(0, 40), st.sampled_from(["x", "7", "y"])),
    st.sampled_from([SPOT.name, SPOT.name, OTHER.name, INVERSE.name]),
    st.sampled_from(["A", "B", "Cc"]),
    st.sampled_from(["buy", "sell"]),
    st.sampled_from([1, 1, 2, 1 << 40, 1 << 62]),
    st.sampled_from([1, 1, 2, -3, 1 << 40, 1 << 62]),
    st.sampled_from([(0, None), (0, None), (0, None), (5, None), (2, "BTC"), (1, "USDT")]),
)
written = st.tuples(st.integers(0, 2), st.lists(trades, min_size=1, max_size=14))


def plain(trade: Any) -> Any:
    """The trade among those that most are: a fill, linear, without another asset's fee."""
    terms = {field: getattr(trade, field) for field in trade.__struct_fields__}
    instrument = OTHER.name if trade.instrument == OTHER.name else SPOT.name
    return Fill(**terms | {"instrument": instrument, "fee_asset": None})


def shown(view: View) -> dict[str, Any]:
    """All that a view has to say, and which rows hold their ids."""
    winners = {}
    for kind, index in view.positions.indexes.items():
        (high, low), batches, rows = index.winners()
        for key, batch, row in zip(zip(high.tolist(), low.tolist(), strict=True), batches, rows, strict=True):
            winners[kind, key] = (view.batches[batch].key, view.batches[batch].seq, int(row))
    return {
        "all": view.canonical(),
        "breaks": view.break_count(),
        "facts": view.facts,
        "void": sorted(view.void_facts()),
        "suspended": view.positions.suspended(),
        "winners": winners,
        "sides": {cell: sums for cell, sums in view.positions._sums.sides().items() if any(map(any, sums.values()))},
    }


def check_both_ways(
    founded: Genesis, base: SettledState, batches: Sequence[Batch], cuts: list[int], most: int, few: int
) -> None:
    """Folded one by one, and cut into runs that are folded with at least ``most`` facts in one pass, batches of more than ``few`` rows
    sharing what their dictionaries mean."""
    singly, together = (View(founded, salt, base=base) for salt in (1, 2))
    with patch.object(views, "TOGETHER", most), patch.object(catalog, "FEW", few):
        for batch in batches:
            singly.apply(batch)
        for first, last in pairwise([0, *sorted(cut % (len(batches) + 1) for cut in cuts), len(batches)]):
            together.apply_all(batches[first:last])
    assert shown(together) == shown(singly)


most = st.sampled_from([1, 20, views.TOGETHER])
few = st.sampled_from([0, catalog.FEW])
cuts = st.lists(st.integers(0, 30), max_size=3)


@settings(max_examples=150)
@given(
    st.lists(written, min_size=2, max_size=9),
    st.booleans(),
    st.integers(0, 99),
    st.integers(0, 1 << 30),
    cuts,
    most,
    few,
)
def test_fills_folded_together_are_what_they_are_one_by_one(
    said: list[tuple[int, list[Any]]], often_plain: bool, part: int, seed: int, at: list[int], most: int, few: int
) -> None:
    pens = [Pen(FOUNDED, node) for node in range(3)]
    names = {OTHER.name: instrument_digest(OTHER)}
    rival = names | {SPOT.name: instrument_digest(RIVAL)}
    batches = [pens[0].write(SPOT, *(Account(name=name) for name in ("A", "B", "Cc")))]
    for number, (node, facts) in enumerate(said):
        told: list[Fact] = [plain(fact) for fact in facts] if often_plain and number % 3 else facts
        batches.append(pens[node].seal(pens[node].draft(told, rival if number % 3 == 1 else names)))
    # Some fills under them come before, some after.
    batches += [pens[1].seal(pens[1].draft([defined], names)) for defined in (OTHER, RIVAL)]
    order = any_order(batches, seed)
    cut = len(order) * part // 100 if part % 2 else 0
    base = settle_plainly(FOUNDED, SettledState.empty(FOUNDED), order[:cut])
    check_both_ways(FOUNDED, base, order[cut:], at, most, few)


@settings(max_examples=60)
@given(st.sampled_from(POLICIES), st.integers(2, 3), actions, st.integers(0, 1 << 30), cuts, most, few)
def test_whole_histories_folded_together_are_what_they_are_one_by_one(
    policies: Policies, nodes: int, steps: list[Action], seed: int, at: list[int], most: int, few: int
) -> None:
    world = history(policies, nodes, steps)
    order = any_order(batches_of(world), seed)
    check_both_ways(world.genesis, SettledState.empty(world.genesis), order, at, most, few)


@given(st.lists(st.lists(trades, min_size=1, max_size=14), min_size=1, max_size=6), st.sampled_from([Fill, Bust]))
def test_keys_of_several_bodies_are_those_of_each(tables: list[list[Any]], make: type[Fill]) -> None:
    kind = Kind.FILL if make is Fill else Kind.BUST
    pen = Pen(FOUNDED, 0)
    bodies = []
    for trades_ in tables:
        facts = [make(**{field: getattr(one, field) for field in one.__struct_fields__}) for one in trades_]
        bodies.append(pen.seal(pen.draft(facts, {OTHER.name: instrument_digest(OTHER)})).body)
    singly = [np.concatenate(halves) for halves in zip(*(fact_keys(body, kind) for body in bodies), strict=True)]
    assert all(np.array_equal(*pair) for pair in zip(fill_keys(bodies, kind), singly, strict=True))
