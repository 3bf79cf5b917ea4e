"""A view on a settled state: the base and what is not settled add up, and what is settled stays settled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtledger.errors import Conflict, InsufficientRights
from crdtledger.ledger.batch import Batch
from crdtledger.ledger.factkeys import fact_keys, lone_fill_key
from crdtledger.ledger.facts import (
    Account,
    Bust,
    Fact,
    Fill,
    Kind,
    Mark,
    Post,
    Reserve,
    Transfer,
    Void,
)
from crdtledger.ledger.genesis import Authority, Custodian, Policies
from crdtledger.ledger.positionrow import Position
from crdtledger.ledger.reference import instrument_digest
from crdtledger.ledger.settled import SettledState, decode_state
from crdtledger.ledger.view import View
from tests.crdtledger.settling import any_order, settle_plainly, settling_view
from tests.crdtledger.test_convergence import POLICIES, Action, actions, batches_of, history
from tests.crdtledger.test_rights import FOUNDED, chaos, deposit, grant, withdrawal
from tests.crdtledger.worlds import SPOT, Pen, World, dep_on, genesis

EMPTY = SettledState.empty(FOUNDED)


def view_of(state: SettledState, batches: Sequence[Batch], salt: int = 0) -> View:
    view = View(FOUNDED, salt, base=state)
    for batch in batches:
        view.apply(batch)
    return view


def fill(id: int | str = 1, side: Any = "buy", qty: int = 2, price: int = 5, **terms: Any) -> Fill:
    return Fill(venue="v", trade_id=id, instrument=SPOT.name, account="A", side=side, qty=qty, price=price, **terms)


def bust(id: int | str = 1, side: Any = "buy", qty: int = 2, price: int = 5, **terms: Any) -> Bust:
    return Bust(venue="v", trade_id=id, instrument=SPOT.name, account="A", side=side, qty=qty, price=price, **terms)


def figures(rows: Sequence[Position]) -> list[Position]:
    """The additive figures alone."""
    plain = {"settled": False, "settled_qty": 0, "cost": 0, "realised": 0}
    return [msgspec.structs.replace(row, **plain) for row in rows]


def rights(view: View, account: str = "A") -> dict[str, int]:
    return next((dict(row.rights) for row in view.collateral_rows() if row.account == account), {})


def kinds_of_breaks(view: View) -> list[str]:
    return [one.type for one in view.breaks()]


# -- the base and the rest add up ---------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.sampled_from(POLICIES), st.integers(2, 3), actions, st.integers(0, 99), st.integers(0, 1 << 30))
def test_a_settled_part_and_the_rest_give_what_all_give(
    policies: Policies, nodes: int, steps: list[Action], part: int, seed: int
) -> None:
    world = history(policies, nodes, steps)
    batches = any_order(batches_of(world), seed)
    cut = len(batches) * part // 100
    first = settling_view(world.genesis, SettledState.empty(world.genesis), batches[:cut])
    state = settle_plainly(world.genesis, SettledState.empty(world.genesis), batches[:cut])
    below, above, whole = (View(world.genesis, base=base) for base in (None, state, None))
    for batch in batches[:cut]:
        below.apply(batch)
        whole.apply(batch)
    for batch in batches[cut:]:
        above.apply(batch)
        whole.apply(batch)
    assert not above.collateral.imbalance()
    assert not above.collateral.overdrawn()
    assert above.facts == whole.facts
    told = {one.type for view in (first, below, above, whole) for one in view.breaks()}
    if not told & {"conflict", "definitions", "suspended"}:
        assert figures(above.position_rows()) == figures(whole.position_rows())
    for view in (above, whole):
        accounts = {row.account for row in view.position_rows()} | {*view.catalog.labels, "nobody"}
        assert [row for name in sorted(accounts) for row in view.position_rows(name)] == view.position_rows()
    totals = {row.asset: [0, 0, 0] for row in whole.collateral_rows()}
    for view, sign in ((whole, 1), (above, -1)):
        for row in view.collateral_rows():
            for place, amount in enumerate((row.deposited, row.withdrawn, row.held)):
                totals[row.asset][place] += sign * amount
    if "conflict" not in told:
        assert not any(amount for sums in totals.values() for amount in sums)
    if "conflict" not in told and not whole.collateral.repeated:
        landed = [dict(totals) for totals in first.collateral.landing]
        for member, node in enumerate(world.genesis.nodes):
            for account in first.catalog.account_names:
                for asset in first.catalog.assets:
                    credit = landed[member].get(first.rights.cell(account, asset), 0)
                    mine = above.collateral.rights_of(above.rights.cell(account, asset))[node.name]
                    assert mine == whole.collateral.rights_of(whole.rights.cell(account, asset))[node.name] + credit


@settings(max_examples=50)
@given(st.sampled_from(POLICIES), st.integers(2, 3), actions, st.integers(0, 99), st.integers(0, 1 << 30))
def test_on_one_base_the_order_of_arrival_does_not_show(
    policies: Policies, nodes: int, steps: list[Action], part: int, seed: int
) -> None:
    world = history(policies, nodes, steps)
    batches = any_order(batches_of(world), seed)
    cut = len(batches) * part // 100
    state = settle_plainly(world.genesis, SettledState.empty(world.genesis), batches[:cut])
    loaded = decode_state(state.encode(), world.genesis, seed)
    told = set()
    for salt in range(3):
        view = View(world.genesis, salt, base=(state, loaded)[salt % 2])
        for batch in any_order(batches[cut:], seed + salt):
            view.apply(batch)
        told.add(view.canonical())
        assert view.break_count() == len(view.breaks())
    assert len(told) == 1


def test_nothing_settled_and_no_base_are_the_same() -> None:
    world = World(2).furnish()
    batches = batches_of(world)
    assert view_of(EMPTY, []).canonical() == View(FOUNDED).canonical()
    with_base, without = View(world.genesis, base=SettledState.empty(world.genesis)), View(world.genesis)
    for batch in batches:
        with_base.apply(batch)
        without.apply(batch)
    assert with_base.canonical() == without.canonical()


def test_a_figure_is_settled_until_an_unsettled_fact_touches_it() -> None:
    pen = Pen(FOUNDED, 0)
    start = [pen.write(SPOT, fill(1)), pen.write(deposit(1, 100), deposit(1, 7, "B"))]
    state = settle_plainly(FOUNDED, EMPTY, start)
    assert [row.settled for row in view_of(state, []).position_rows()] == [True]
    assert [row.settled for row in view_of(state, []).collateral_rows()] == [True, True]
    more = [pen.write(fill(2)), pen.write(withdrawal(1, 1))]
    view = view_of(state, more)
    assert [(row.bought, row.settled, row.settled_qty) for row in view.position_rows()] == [(4, False, 2)]
    assert [(row.account, row.settled) for row in view.collateral_rows()] == [("A", False), ("B", True)]


# -- fills --------------------------------------------------------------------------------------------------


def test_a_settled_fill_told_again_counts_once_and_told_otherwise_loses() -> None:
    pens = [Pen(FOUNDED, node) for node in range(3)]
    state = settle_plainly(FOUNDED, EMPTY, [pens[2].write(SPOT), pens[2].write(fill(1), clock=1 << 40)])
    same = pens[0].write(fill(1), clock=1)
    other = [pens[1].write(fill(1, qty=3), clock=1), pens[1].write(fill(1, qty=4))]
    for order in ([same, *other], [*other, same]):
        view = view_of(state, order)
        assert [(row.bought, row.fills, row.settled) for row in view.position_rows()] == [(2, 1, True)]
        [one] = view.breaks()
        assert (one.type, one.subject) == ("conflict", f"fill v/trade/{SPOT.name}/1")
        assert "what is settled" in one.detail
        assert one.detail.index("0.00000003") < one.detail.index("0.00000004")
        assert view.break_count() == 1


def test_an_id_that_is_settled_was_heard_of_and_no_other_was() -> None:
    pen = Pen(FOUNDED, 0)
    told = [pen.write(SPOT), pen.write(fill(1))]
    positions = view_of(settle_plainly(FOUNDED, EMPTY, told), []).positions
    for asked in (told[1], pen.write(fill(2)), pen.write(fill("x"))):
        heard = positions.heard_of(Kind.FILL, *lone_fill_key(asked.body))
        assert heard == positions.heard(Kind.FILL, fact_keys(asked.body, Kind.FILL)) == (asked is told[1])


def test_a_fee_in_an_asset_that_the_cluster_does_not_have_is_told_as_it_was_said() -> None:
    pens = [Pen(FOUNDED, 0), Pen(FOUNDED, 1)]
    told = [pens[0].write(SPOT, fill(1, fee=7)), pens[1].write(fill(1, fee=9, fee_asset="DOGE"))]
    [conflict] = [one for one in view_of(EMPTY, told).breaks() if one.type == "conflict"]
    assert " fee 0.000007 USDT at " in conflict.detail
    assert " fee 9 at " in conflict.detail


def test_a_bust_of_a_settled_fill_takes_it_back_and_a_settled_bust_its_fill() -> None:
    pen = Pen(FOUNDED, 0)
    state = settle_plainly(FOUNDED, EMPTY, [pen.write(SPOT, fill(1)), pen.write(bust(2, qty=7))])
    assert [(row.bought, row.fills) for row in view_of(state, []).position_rows()] == [(-5, 0)]
    matching = view_of(state, [pen.copy().write(bust(1), fill(2, qty=7))])
    assert matching.position_rows() == []
    assert matching.breaks() == []
    wrong = view_of(state, [pen.copy().write(bust(1, price=6), fill(2, qty=8))])
    assert kinds_of_breaks(wrong) == ["bust", "bust"]
    assert all("the settled" in one.detail for one in wrong.breaks())
    settled = settle_plainly(FOUNDED, state, [pen.write(bust(1, price=6))])
    assert kinds_of_breaks(view_of(settled, [])) == ["bust"], "told once, and kept"


def test_a_fill_waits_settled_until_its_definition_is_known() -> None:
    pens = [Pen(FOUNDED, 0), Pen(FOUNDED, 1)]
    early = pens[0].write(fill(1), fill(2, "sell", fee=3, fee_asset="BTC"), bust("x"))
    state = settle_plainly(FOUNDED, EMPTY, [early])
    assert [len(waiting) for waiting in state.suspended] == [2, 1]
    again = settle_plainly(FOUNDED, state, [pens[0].write(Account(name="A"))])
    assert [waiting.stated for waiting in again.suspended] == [waiting.stated for waiting in state.suspended]
    assert kinds_of_breaks(view_of(again, [])) == ["suspended"]
    told = pens[1].write(fill(1), fill(2, "sell", qty=9), SPOT)
    view = view_of(again, [told])
    assert [(row.bought, row.sold, row.fills) for row in view.position_rows()] == [(0, 2, 1)]
    assert kinds_of_breaks(view) == ["conflict"]
    settled = settle_plainly(FOUNDED, again, [told])
    assert settled.suspended == ()
    assert figures(view_of(settled, []).position_rows()) == figures(view.position_rows())


def test_a_fill_under_a_definition_that_lost_its_name_does_not_take_its_id() -> None:
    rival = msgspec.structs.replace(SPOT, price_decimals=4)
    pens = [Pen(FOUNDED, node) for node in range(2)]
    lost = pens[1].seal(pens[1].draft([fill(1)], {SPOT.name: instrument_digest(rival)}))
    state = settle_plainly(FOUNDED, EMPTY, [pens[0].write(SPOT), lost, pens[1].write(rival)])
    assert len(state.fills) == 0
    assert state.suspended == ()
    view = view_of(state, [pens[0].write(fill(1))])
    assert [row.fills for row in view.position_rows()] == [1]
    assert kinds_of_breaks(view) == ["definitions", "suspended"]
    late = pens[1].seal(pens[1].draft([fill(3)], {SPOT.name: instrument_digest(rival)}))
    view = view_of(state, [late, pens[0].write(fill(3))])
    assert [row.fills for row in view.position_rows()] == [1]
    assert kinds_of_breaks(view) == ["definitions", "suspended", "suspended"]


def test_settled_reference_data_stands() -> None:
    pens = [Pen(FOUNDED, node) for node in range(2)]
    first = pens[1].write(SPOT, Account(name="A", label="one"), mark(5, 50), clock=1 << 40)
    state = settle_plainly(FOUNDED, EMPTY, [first])
    rival = msgspec.structs.replace(SPOT, price_decimals=4)
    older = pens[0].write(rival, Account(name="A", label="two"), Account(name="B", label="b"), mark(4, 40), clock=1)
    catalog = view_of(state, [older]).catalog
    assert catalog.standing(SPOT.name) == instrument_digest(SPOT)
    assert dict(catalog.labels) == {"A": "one", "B": "b"}
    assert catalog.marks[SPOT.name, "s"].price == 50
    assert catalog.names() == [SPOT.name]
    newer = pens[0].write(mark(6, 60))
    assert view_of(state, [older, newer]).catalog.marks[SPOT.name, "s"].price == 60


def test_a_settled_definition_told_again_is_no_rival_of_itself() -> None:
    pens = [Pen(FOUNDED, node) for node in range(2)]
    state = settle_plainly(FOUNDED, EMPTY, [pens[0].write(SPOT)])
    view = view_of(state, [pens[1].write(SPOT)])
    assert view.breaks() == []
    assert view.catalog.fresh_definitions() == {}


def test_settling_tells_which_rows_repeat_and_which_contradict() -> None:
    pens = [Pen(FOUNDED, node) for node in range(2)]
    state = settle_plainly(FOUNDED, EMPTY, [pens[0].write(SPOT, fill(1))])
    order = [pens[1].write(fill(1), fill(2), fill(1, qty=9)), pens[0].write(fill(2, qty=9), fill(3), fill(2))]
    positions = settling_view(FOUNDED, state, order).positions
    for held, expected in (
        (positions.counted, [(0, [1]), (1, [1])]),
        (positions.repeated, [(0, [0]), (1, [2])]),
        (positions.contradicted, [(0, [2]), (1, [0])]),
    ):
        assert [(one.number, one.rows.tolist()) for one in held] == expected


def mark(ts_us: int, price: int) -> Mark:
    return Mark(instrument=SPOT.name, price=price, ts_us=ts_us, source="s")


# -- rights -------------------------------------------------------------------------------------------------


def test_rights_begin_with_what_the_base_grants_the_node_in_any_of_its_lanes() -> None:
    old, new, other = Pen(FOUNDED, 0, 1), Pen(FOUNDED, 0, 2), Pen(FOUNDED, 1)
    state = settle_plainly(FOUNDED, EMPTY, [old.write(deposit(1, 100)), old.write(grant(1, 30, "n1"))])
    spends = [new.write(withdrawal(1, 70)), other.write(withdrawal(2, 30)), new.write(withdrawal(3, 1))]
    view = view_of(state, spends)
    assert [(one.lane, one.seq) for one in view.void_batches] == [(new.lane.key, 2)]
    assert view.rights.available(new.lane.key, view.rights.cell("A", "USDT")) == 0
    assert [(row.deposited, row.withdrawn, row.held) for row in view.collateral_rows()] == [(100, 100, 0)]


def test_deps_at_or_below_the_cut_bring_nothing_twice() -> None:
    giver, old, new = Pen(FOUNDED, 0), Pen(FOUNDED, 1, 1), Pen(FOUNDED, 1, 2)
    start, gift = giver.write(deposit(1, 100)), giver.write(grant(1, 30, "n1"))
    taken = old.write(withdrawal(1, 10), deps=[dep_on(gift)])
    state = settle_plainly(FOUNDED, EMPTY, [start, gift, taken])
    claim = new.write(deps=[dep_on(gift), dep_on(taken)])
    view = view_of(state, [claim, new.write(withdrawal(2, 20)), new.write(withdrawal(3, 1))])
    assert [(one.lane, one.seq) for one in view.void_batches] == [(new.lane.key, 3)]
    assert not view.rights.unclaimed(old.lane.key)


def test_an_id_that_any_lane_of_a_node_settled_is_used() -> None:
    old, new = Pen(FOUNDED, 0, 1), Pen(FOUNDED, 0, 2)
    state = settle_plainly(FOUNDED, EMPTY, [old.write(deposit(1, 100)), old.write(grant(7, 10, "n1"))])
    view = view_of(state, [new.write(deposit(1, 100), grant(7, 50, "n2")), old.write(grant(7, 10, "n1"))])
    assert rights(view) == {"n0": 90, "n1": 10}
    assert view.breaks() == []
    view = view_of(state, [new.write(deposit(1, 101))])
    assert rights(view) == {"n0": 90, "n1": 10}
    assert kinds_of_breaks(view) == ["conflict"]
    assert view.break_count() == 1


def test_a_settled_withdrawal_restated_by_another_node_is_refunded_there_and_has_no_second_effect() -> None:
    one, two = Pen(FOUNDED, 0), Pen(FOUNDED, 1)
    start = [one.write(deposit(1, 100)), one.write(grant(1, 50, "n1")), one.write(withdrawal(5, 20), send(6, 5))]
    state = settle_plainly(FOUNDED, EMPTY, start)
    again = [two.write(withdrawal(5, 20), send(6, 5))]
    view = view_of(state, again)
    row = view.collateral_rows()[0]
    assert (row.withdrawn, row.refundable, row.in_transit, row.incoming, dict(row.rights)) == (
        *(20, 25, 0, 0),
        {"n0": 25, "n1": 25},
    )
    assert view.breaks() == []
    assert view.collateral.landing[1] == {view.rights.cell("A", "USDT"): 25}
    settled = settle_plainly(FOUNDED, state, again)
    assert rights(view_of(settled, [])) == {"n0": 25, "n1": 50}
    other = view_of(state, [two.write(withdrawal(5, 21))])
    assert kinds_of_breaks(other) == ["conflict"]
    assert (other.collateral_rows()[0].withdrawn, other.break_count()) == (20, 1)


def send(id: int, amount: int, credit: str = "B") -> Transfer:
    return Transfer(id=id, account="A", asset="USDT", amount=amount, credit=credit)


def test_reserves_of_the_base_are_posted_and_voided_by_their_lane_alone() -> None:
    pen, heir = Pen(FOUNDED, 0, 1), Pen(FOUNDED, 0, 2)
    start = pen.write(deposit(1, 100))
    made = pen.write(*(Reserve(id=id, account="A", asset="USDT", amount=10, expires_us=id) for id in (1, 2, 3)))
    state = settle_plainly(FOUNDED, EMPTY, [start, made])
    assert [held.id for held in state.reserves[pen.lane.key].values()] == ["1", "2", "3"]
    theirs = heir.copy().write(Void(id=1, reserve=1))
    assert [one.cause for one in view_of(state, [theirs]).void_batches] == ["reserve"]
    uses = [pen.write(Post(id=1, reserve=1, amount=4, credit="B")), pen.write(Void(id=1, reserve=2))]
    view = view_of(state, uses)
    assert [(row.reserved, row.in_transit, row.incoming) for row in view.collateral_rows()] == [(16, 4, 0), (0, 0, 4)]
    assert view.rights.reserve(pen.lane.key, keys_of(made, 0)) == (view.rights.cell("A", "USDT"), 6)
    settled = settle_plainly(FOUNDED, state, uses)
    assert [(held.id, held.remaining) for held in settled.reserves[pen.lane.key].values()] == [("1", 6), ("3", 10)]
    assert rights(view_of(settled, []), "B") == {"n0": 4}


def keys_of(batch: Batch, row: int) -> Any:
    high, low = fact_keys(batch.body, Kind.RESERVE)
    return high[row : row + 1], low[row : row + 1]


def test_a_void_of_a_settled_reserve_that_has_nothing_left_is_no_fault() -> None:
    """Its lane could not know, when it wrote the void, that the post before it would be settled first."""
    pen = Pen(FOUNDED, 0)
    start, made = pen.write(deposit(1, 100)), pen.write(Reserve(id=1, account="A", asset="USDT", amount=10))
    drained = pen.write(Post(id=1, reserve=1, amount=10, credit="B"))
    last = pen.write(Void(id=1, reserve=1), withdrawal(1, 90))
    state = settle_plainly(FOUNDED, EMPTY, [start, made, drained])
    assert not state.reserves
    for view in (view_of(EMPTY, [start, made, drained, last]), view_of(state, [last])):
        assert view.void_batches == []
        assert rights(view) == {}


@settings(max_examples=60)
@given(chaos, st.lists(st.integers(0, 18), max_size=3), st.integers(0, 1 << 30))
def test_settling_never_takes_a_node_below_zero_whatever_liars_seal(
    steps: list[tuple[int, str, int, int, list[int]]], cuts: list[int], seed: int
) -> None:
    batches = any_order(chaotic(steps), seed)
    state, done = EMPTY, 0
    for upto in [*sorted(cuts), len(batches)]:
        part, done = batches[min(done, upto) : upto], max(done, upto)
        view = settling_view(FOUNDED, state, part)
        assert view.collateral.overdrawn() == []
        assert not view.collateral.imbalance()
        state = settle_plainly(FOUNDED, state, part)
        assert all(amount > 0 for held in state.collateral.values() for _, amount in held.rights)
        assert not state.imbalance()
        assert decode_state(state.encode(), FOUNDED, seed) == state
        rest = batches[done:]
        told = {view_of(state, any_order(rest, seed + salt), salt).canonical() for salt in range(2)}
        assert len(told) == 1


def chaotic(steps: list[tuple[int, str, int, int, list[int]]]) -> list[Batch]:
    """Six lanes of three nodes seal anything with any deps, as in the chaos of ``test_rights``."""
    pens = [Pen(FOUNDED, lane % 3, 1 + lane // 3) for lane in range(6)]
    batches: list[Batch] = []
    for lane, word, id, amount, wanted in steps:
        made: dict[str, list[Fact]] = {
            "deposit": [deposit(id, amount)],
            "grant": [grant(id, amount, f"n{(lane + 1 + id) % 3}")] if (1 + id) % 3 else [],
            "withdraw": [withdrawal(id, amount)],
            "reserve": [Reserve(id=id, account="A", asset="USDT", amount=amount)],
            "post": [Post(id=amount, reserve=id, amount=amount, credit="B")],
            "void": [Void(id=amount, reserve=id)],
            "transfer": [Transfer(id=id, account="A", asset="USDT", amount=amount, credit="AB"[id % 2])],
            "claim": [],
        }
        known = [batches[n % len(batches)] for n in wanted if batches]
        deps = {batch.key: dep_on(batch) for batch in known if batch.key != pens[lane].lane.key}
        batches.append(pens[lane].write(*made[word], deps=list(deps.values())))
    return batches


def test_of_two_lanes_that_spend_the_same_rights_the_first_in_order_counts() -> None:
    old, new = Pen(FOUNDED, 0, 1), Pen(FOUNDED, 0, 2)
    state = settle_plainly(FOUNDED, EMPTY, [old.write(deposit(1, 100))])
    spends = [old.write(withdrawal(1, 60)), new.write(withdrawal(2, 60))]
    assert kinds_of_breaks(view_of(state, spends)) == ["overdraft"], "no replica can tell which one to void"
    for order in (spends, spends[::-1]):
        view = settling_view(FOUNDED, state, order)
        assert [(one.lane, one.cause) for one in view.void_batches] == [(order[1].key, "divided")]
        assert [judged.number for judged in view.judged] == [0]
        assert [judged.number for judged in view.refused] == [1]


def test_a_deposit_restated_by_another_lane_of_its_node_is_not_spent_twice() -> None:
    old, new = Pen(FOUNDED, 0, 1), Pen(FOUNDED, 0, 2)
    both = [old.write(deposit(1, 100)), new.write(deposit(1, 100))]
    spends = [old.write(withdrawal(1, 60)), new.write(withdrawal(2, 60)), new.write(withdrawal(3, 40))]
    view = settling_view(FOUNDED, EMPTY, [*both, *spends])
    assert [(one.seq, one.cause) for one in view.void_batches] == [(2, "divided")]
    assert rights(view) == {}


def test_a_restated_deposit_pays_for_nothing_beside_it() -> None:
    old, new = Pen(FOUNDED, 0, 1), Pen(FOUNDED, 0, 2)
    order = [old.write(deposit(1, 100)), old.write(withdrawal(1, 60)), new.write(deposit(1, 100), withdrawal(2, 60))]
    view = settling_view(FOUNDED, EMPTY, order)
    assert [(one.lane, one.cause) for one in view.void_batches] == [(new.lane.key, "divided")]
    assert rights(view) == {"n0": 40}


def test_what_a_node_spent_is_not_taken_back_when_an_older_lane_of_it_says_otherwise() -> None:
    old, new = Pen(FOUNDED, 0, 1), Pen(FOUNDED, 0, 2)
    order = [new.write(deposit(1, 100)), new.write(withdrawal(1, 100)), old.write(deposit(1, 10))]
    view = settling_view(FOUNDED, EMPTY, order)
    assert view.collateral.overdrawn() == []
    assert [(row.deposited, row.withdrawn) for row in view.collateral_rows()] == [(100, 100)]
    assert kinds_of_breaks(view) == ["conflict"]


def test_a_credit_lands_where_it_can_be_used() -> None:
    """With the node that recorded it, unless the genesis keeps that one from the account: then with the account's custodian."""
    founded = genesis(3, Policies(authorities=(Authority("n1", ("A", "B")),), custodians=(Custodian("n2", "C*"),)))
    giver, sender = Pen(founded, 0), Pen(founded, 1)
    given = [giver.write(deposit(1, 100)), giver.write(grant(1, 50, "n1"))]
    hold = sender.write(Reserve(id=1, account="A", asset="USDT", amount=9), deps=[dep_on(given[1])])
    sent = sender.write(send(1, 5, "B"), send(2, 7, "C"), Post(id=3, reserve=1, amount=9, credit="C"))
    state = settle_plainly(founded, SettledState.empty(founded), [*given, hold, sent])
    shares = {account: held.rights for (account, _), held in state.collateral.items()}
    assert shares == {"A": ((0, 50), (1, 29)), "B": ((1, 5),), "C": ((2, 16),)}


# -- recording on a base ------------------------------------------------------------------------------------


def test_what_is_settled_is_recorded_before() -> None:
    world = World(2).furnish()
    desk = world.desks[0]
    desk.record(fill(1), bust(2), mark(5, 50))
    desk.record(deposit(1, 100), deposit(1, 50, "B"))
    desk.record(withdrawal(1, 10), Reserve(id=1, account="A", asset="USDT", amount=10), grant(1, 20, "n1"))
    state = settle_plainly(world.genesis, SettledState.empty(world.genesis), list(desk.replica.batches()))
    desk.replica.rebase(1, bytes(32), state)
    again = desk.record(fill(1), bust(2), mark(5, 50), SPOT, Account(name="A"))
    assert (again.facts, again.duplicates) == (0, 5)
    again = desk.record(deposit(1, 100), withdrawal(1, 10), Reserve(id=1, account="A", asset="USDT", amount=10))
    assert (again.facts, again.duplicates) == (0, 3)
    for other in (deposit(1, 99), withdrawal(1, 11), grant(1, 21, "n1")):
        with pytest.raises(Conflict):
            desk.record(other)
    assert desk.record(fill(1, qty=9)).facts == 1, "two venue statements disagree, and operators must see both"
    assert desk.record(fill(1, qty=9)).duplicates == 1
    with pytest.raises(InsufficientRights):
        desk.record(withdrawal(2, 61))
    desk.record(Post(id=1, reserve=1, amount=10, credit="B"), withdrawal(2, 60))
    assert desk.recorder.spendable("A", "USDT") == 0
    assert desk.recorder.spendable("B", "USDT") == 50
