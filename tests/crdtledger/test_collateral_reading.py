"""What can be read of collateral and rights between two batches, figure by figure, on a base and without one."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from crdtledger.ledger.batch import Batch
from crdtledger.ledger.collateral import Balance, Collateral
from crdtledger.ledger.factkeys import Keys, fact_keys
from crdtledger.ledger.facts import Account, Deposit, Grant, Kind, Post, Reserve, Transfer, Void, Withdrawal
from crdtledger.ledger.genesis import Authority, Custodian, Policies
from crdtledger.ledger.lanerights import START, LaneRights, Step, extended
from crdtledger.ledger.settled import SettledState
from crdtledger.ledger.view import View
from tests.crdtledger.settling import settle_plainly
from tests.crdtledger.test_rights import FOUNDED, deposit, grant, withdrawal
from tests.crdtledger.worlds import Pen, dep_on, genesis

EMPTY = SettledState.empty(FOUNDED)


def view_of(batches: Sequence[Batch], state: SettledState = EMPTY) -> View:
    view = View(FOUNDED, base=state)
    for batch in batches:
        view.apply(batch)
    return view


def transfer(id: int, amount: int, account: str = "A", credit: str = "B") -> Transfer:
    return Transfer(id=id, account=account, asset="USDT", amount=amount, credit=credit)


def balance(account: str, **figures: object) -> Balance:
    none = {field.name: 0 for field in msgspec.structs.fields(Balance) if field.type is int}
    return Balance(**{**none, "account": account, "asset": "USDT", "decimals": 6, "rights": (), **figures})  # type: ignore[arg-type]


def busy() -> list[Batch]:
    """100 in at n0, of which 30 are granted to n1, 20 reserved, 5 of these posted to B, 10 sent to B and 7 taken out; n1 says that
    last one again, so 7 of its rights wait to be given back."""
    one, two = Pen(FOUNDED, 0), Pen(FOUNDED, 1)
    batches = [one.write(deposit(1, 100)), one.write(grant(1, 30, "n1"))]
    batches.append(one.write(Reserve(id=1, account="A", asset="USDT", amount=20)))
    batches.append(one.write(Post(id=1, reserve=1, amount=5, credit="B")))
    batches.append(one.write(transfer(1, 10), withdrawal(1, 7)))
    batches.append(two.write(withdrawal(1, 7), deps=[dep_on(batches[1])]))
    return batches


def test_every_figure_of_an_account_is_told_apart() -> None:
    view = view_of(busy())
    a = balance(
        "A",
        deposited=100,
        withdrawn=7,
        reserved=15,
        in_transit=15,
        refundable=7,
        held=93,
        rights=(("n0", 33), ("n1", 23)),
    )
    assert view.collateral_rows() == [a, balance("B", incoming=15)]
    assert a.free == 56
    cell = view.rights.cell("A", "USDT")
    assert view.collateral.held(cell) == 93
    assert view.collateral.rights_of(cell) == {"n0": 33, "n1": 23, "n2": 0}
    landed = view.collateral.landed()
    assert (landed["A", "USDT"].rights, landed["A", "USDT"].reserved) == (
        ((0, 40), (1, 23)),
        15,
    )  # n1 said it first, by its clock
    assert landed["B", "USDT"].rights == ((0, 15),)
    assert sum(one.held for one in landed.values()) == 93


def test_settled_and_unsettled_figures_add_up_and_untouched_rows_are_settled() -> None:
    one = Pen(FOUNDED, 0)
    first = [one.write(deposit(1, 100), deposit(1, 50, "B"))]
    first.append(one.write(grant(1, 40, "n1"), Reserve(id=1, account="A", asset="USDT", amount=10), withdrawal(1, 5)))
    state = settle_plainly(FOUNDED, EMPTY, first)
    untouched = view_of([], state)
    a = balance("A", deposited=100, withdrawn=5, reserved=10, held=95, rights=(("n0", 45), ("n1", 40)), settled=True)
    b = balance("B", deposited=50, held=50, rights=(("n0", 50),), settled=True)
    assert untouched.collateral_rows() == [a, b]
    more = [one.write(deposit(2, 7), withdrawal(2, 50)), one.write(Void(id=1, reserve=1), transfer(1, 2, "B", "A"))]
    a = balance("A", deposited=107, withdrawn=55, held=52, incoming=2, rights=(("n0", 12), ("n1", 40)))
    b = balance("B", deposited=50, in_transit=2, held=50, rights=(("n0", 48),))
    assert view_of(more, state).collateral_rows() == [a, b]


def test_an_account_from_which_all_went_is_told_while_it_was_ever_in_use_and_one_that_nobody_used_is_not() -> None:
    one = Pen(FOUNDED, 0)
    view = view_of([one.write(Account(name="C")), one.write(deposit(1, 5)), one.write(withdrawal(1, 5))])
    assert view.collateral_rows() == [balance("A", deposited=5, withdrawn=5)]


# -- invariants that are watched must be able to fail ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("figure", "gap"),
    [("deposited", 1), ("withdrawn", -1), ("reserved", -1), ("in_transit", -1), ("refundable", -1)],
)
def test_a_unit_that_comes_from_nowhere_unbalances_its_asset(figure: str, gap: int) -> None:
    view = view_of(busy())
    assert view.collateral.imbalance() == {}
    for cell, asset in ((view.rights.cell("A", "USDT"), "USDT"), (view.rights.cell("B", "BTC"), "BTC")):
        totals = getattr(view.collateral, figure)
        totals[cell] = totals.get(cell, 0) + 1
        assert view.collateral.imbalance() == {asset: gap}
        totals[cell] -= 1
    view.collateral.rights[2][view.rights.cell("A", "USDT")] = 1
    assert view.collateral.imbalance() == {"USDT": -1}


def test_a_node_is_overdrawn_where_its_lanes_together_spent_more_than_base_and_batches_gave_it() -> None:
    state = settle_plainly(FOUNDED, EMPTY, [Pen(FOUNDED, 0).write(deposit(1, 100), deposit(1, 100, "B"))])
    one, two = Pen(FOUNDED, 0, 2), Pen(FOUNDED, 0, 3)

    def spent(a: int, b: int) -> Collateral:
        first = one.copy().write(withdrawal(1, 60), withdrawal(3, 60, "B"))
        return view_of([first, two.copy().write(withdrawal(2, a), withdrawal(4, b, "B"))], state).collateral

    assert spent(40, 40).overdrawn() == []
    assert spent(41, 40).overdrawn() == [("A", "USDT", "n0", -1)]
    assert spent(50, 45).overdrawn() == [("A", "USDT", "n0", -10), ("B", "USDT", "n0", -5)]


def test_a_node_whose_lanes_follow_each_other_is_undivided() -> None:
    old, new = Pen(FOUNDED, 0), Pen(FOUNDED, 0, 2)
    start = old.write(deposit(1, 100))
    claim, spend = new.write(deps=[dep_on(start)]), new.write(withdrawal(1, 60))
    node = FOUNDED.nodes[0].id
    assert view_of([start, claim, spend]).rights.undivided(node)
    mints = old.write(deposit(2, 1))  # it goes on after its heir took over, which spent without having seen that
    assert not view_of([start, claim, spend, mints]).rights.undivided(node)
    assert view_of([start, claim, mints]).rights.undivided(node)


def test_what_other_nodes_do_divides_nobody() -> None:
    giver = Pen(FOUNDED, 0)
    start = [giver.write(deposit(1, 100)), giver.write(grant(1, 20, "n1"), grant(2, 20, "n2"))]
    spends = [Pen(FOUNDED, node).write(withdrawal(node, 5), deps=[dep_on(start[1])]) for node in (1, 2)]
    view = view_of([*start, *spends, giver.write(withdrawal(9, 5))])
    assert [view.rights.undivided(member.id) for member in FOUNDED.nodes] == [True, True, True]


# -- who may claim what, and what was said where --------------------------------------------------------------------


def test_grants_that_a_lane_has_not_named_are_told_by_giver_with_the_last_of_them() -> None:
    givers = [Pen(FOUNDED, 0), Pen(FOUNDED, 1)]
    start = [givers[0].write(deposit(1, 100)), givers[0].write(grant(0, 50, "n1"))]
    start.append(givers[1].write(deps=[dep_on(start[-1])]))
    first = givers[0].write(grant(1, 10, "n2"))
    second = givers[0].write(grant(2, 5, "n2"))
    idle = givers[0].write(withdrawal(1, 1))
    theirs = givers[1].write(grant(1, 7, "n2"))
    mine = Pen(FOUNDED, 2)
    view = view_of([*start, first, second, idle, theirs])
    cell = view.rights.cell("A", "USDT")
    lane = mine.lane.key
    assert view.rights.unclaimed(lane) == {first.key: (second.seq, {cell: 15}), theirs.key: (theirs.seq, {cell: 7})}
    view.apply(mine.write(deps=[dep_on(first)]))
    assert view.rights.unclaimed(lane) == {first.key: (second.seq, {cell: 5}), theirs.key: (theirs.seq, {cell: 7})}
    assert view.rights.available(lane, cell) == 10
    view.apply(mine.write(deps=[dep_on(second), dep_on(theirs)]))
    assert view.rights.unclaimed(lane) == {}
    assert view.rights.available(lane, cell) == 22


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("amounts", [(10, 30), (30, 10)])
def test_of_a_deposit_that_two_predecessors_tell_differently_the_first_lane_s_amount_is_left_to_the_heir(
    order: tuple[int, int], amounts: tuple[int, int]
) -> None:
    told = [Pen(FOUNDED, 0, epoch).write(deposit(1, amount)) for epoch, amount in enumerate(amounts, 1)]
    heir = Pen(FOUNDED, 0, 3)
    view = view_of([*told, *(heir.write(deps=[dep_on(told[index])]) for index in order)])
    cell = view.rights.cell("A", "USDT")
    assert view.rights.available(heir.lane.key, cell) == amounts[0]
    assert view.collateral.rights_of(cell)["n0"] == amounts[0]
    both = Pen(FOUNDED, 0, 3)
    at_once = view_of([*told, both.write(deps=[dep_on(one) for one in told])])
    assert at_once.rights.available(both.lane.key, cell) == amounts[0]


def keys(batch: Batch, kind: Kind) -> Keys:
    return fact_keys(batch.body, kind)


def test_where_an_id_was_used_is_found_in_its_lane_and_in_those_that_it_covers_up_to_there() -> None:
    old, new = Pen(FOUNDED, 0), Pen(FOUNDED, 0, 2)
    start = old.write(deposit(1, 100), deposit(2, 1))
    more = old.write(deposit(3, 1), deposit(4, 1))
    claim = new.write(deps=[dep_on(start)])
    mine = new.write(deposit(5, 1), deposit(4, 1), deposit(6, 1))
    view = view_of([start, more, claim, mine])
    asked = Pen(FOUNDED, 0, 9).write(*(deposit(number, 1) for number in range(1, 8)))
    assert view.rights.recorded(new.lane.key, keys(asked, Kind.DEPOSIT)) == [
        (old.lane.key, 1, 0),
        (old.lane.key, 1, 1),
        None,  # recorded after what the heir covers
        (new.lane.key, 2, 1),
        (new.lane.key, 2, 0),
        (new.lane.key, 2, 2),
        None,
    ]
    assert view.rights.used_ids(new.lane.key, keys(asked, Kind.DEPOSIT)).tolist() == [1, 1, 0, 1, 1, 1, 0]
    everything = {old.lane.key: 2}
    assert view.rights.used_ids(new.lane.key, keys(asked, Kind.DEPOSIT), everything).tolist() == [1, 1, 1, 1, 1, 1, 0]
    assert view.rights.used_ids(old.lane.key, keys(asked, Kind.DEPOSIT)).tolist() == [1, 1, 1, 1, 0, 0, 0]


def test_the_first_statement_of_an_id_is_known_whatever_came_later() -> None:
    one, two = Pen(FOUNDED, 0), Pen(FOUNDED, 0, 2)
    first, again = one.write(deposit(1, 100), deposit(2, 7)), two.write(deposit(2, 8))
    collateral = view_of([first, again]).collateral
    asked = Pen(FOUNDED, 0, 9).write(*(deposit(number, 1) for number in (2, 3, 1)))
    told = collateral.known(Kind.DEPOSIT, keys(asked, Kind.DEPOSIT))
    assert [one and (one.lane, one.seq, one.row, one.node, one.amount, one.credit) for one in told] == [
        (first.key, 1, 1, 0, 7, -1),
        None,
        (first.key, 1, 0, 0, 100, -1),
    ]


def test_the_first_statement_is_known_among_hundreds_and_all_of_them_count_once() -> None:
    one, two = Pen(FOUNDED, 0), Pen(FOUNDED, 0, 2)
    first = [one.write(*(deposit(100 * part + n, n + 1) for n in range(100))) for part in range(3)]
    again = two.write(*(deposit(n, n % 100 + 1) for n in range(300)))
    collateral = view_of([*first, again]).collateral
    told = collateral.known(Kind.DEPOSIT, keys(again, Kind.DEPOSIT))
    assert [one and (one.lane, one.seq, one.row, one.amount) for one in told] == [
        (one.lane.key, n // 100 + 1, n % 100, n % 100 + 1) for n in range(300)
    ]
    assert collateral.rows() == [balance("A", deposited=15_150, held=15_150, rights=(("n0", 15_150),))]


# -- where credits and refunds land ---------------------------------------------------------------------------------


def test_a_credit_lands_at_who_recorded_it_or_at_the_custodian_where_that_one_may_not_record_the_account() -> None:
    policies = Policies(authorities=(Authority("n1", ("A",)),), custodians=(Custodian("n2", "B"),))
    founded = genesis(3, policies)
    one, two = Pen(founded, 0), Pen(founded, 1)
    start = one.write(deposit(1, 100))
    given = one.write(grant(1, 50, "n1"))
    view = View(founded, base=SettledState.empty(founded))
    for batch in (start, given, one.write(transfer(1, 5)), two.write(transfer(2, 6), deps=[dep_on(given)])):
        view.apply(batch)
    cell = view.rights.cell("B", "USDT")
    assert [landing.get(cell, 0) for landing in view.collateral.landing] == [5, 0, 6]
    assert view.collateral.landed()["B", "USDT"].rights == ((0, 5), (2, 6))


def test_whatever_was_said_twice_stays_in_its_own_account_and_asset() -> None:
    one, two = Pen(FOUNDED, 0), Pen(FOUNDED, 1)
    start = [
        one.write(*(Deposit(id=f"{a}{s}", account=a, asset=s, amount=100) for a in "AB" for s in ("USDT", "BTC"))),
        one.write(
            *(Grant(id=f"{a}{s}", account=a, asset=s, amount=50, node="n1") for a in "AB" for s in ("USDT", "BTC"))
        ),
    ]
    cells = [(a, s, c) for a, c in (("A", "C"), ("B", "A")) for s in ("USDT", "BTC")]
    moves = [Transfer(id=n, account=a, asset=s, amount=n, credit=c) for n, (a, s, c) in enumerate(cells, 1)]
    outs = [Withdrawal(id=n, account=a, asset=s, amount=10 * n) for n, (a, s, _) in enumerate(cells, 1)]
    twice = [one.write(*moves, *outs), two.write(*moves, *outs, deps=[dep_on(start[1])])]
    figures = {
        (row.account, row.asset): (row.withdrawn, row.in_transit, row.incoming, row.refundable, row.held)
        for row in view_of([*start, *twice]).collateral_rows()
    }
    assert figures == {
        ("A", "BTC"): (20, 2, 4, 22, 80),
        ("A", "USDT"): (10, 1, 3, 11, 90),
        ("B", "BTC"): (40, 4, 0, 44, 60),
        ("B", "USDT"): (30, 3, 0, 33, 70),
        ("C", "BTC"): (0, 0, 2, 0, 0),
        ("C", "USDT"): (0, 0, 1, 0, 0),
    }


def test_what_three_nodes_tell_goes_out_once_and_two_of_them_are_given_back() -> None:
    one, others = Pen(FOUNDED, 0), [Pen(FOUNDED, 1), Pen(FOUNDED, 2)]
    start = [one.write(deposit(1, 100)), one.write(*(grant(n, 20, f"n{n}") for n in (1, 2)))]
    told = [one.write(withdrawal(1, 5)), *(pen.write(withdrawal(1, 5), deps=[dep_on(start[1])]) for pen in others)]
    for order in (told, told[::-1]):
        view = view_of([*start, *order])
        shares = (("n0", 55), ("n1", 15), ("n2", 15))
        assert view.collateral_rows() == [
            balance("A", deposited=100, withdrawn=5, refundable=10, held=95, rights=shares)
        ]
        assert [len(said) for said in view.collateral.repeated.values()] == [3]
        assert sum(amount for landing in view.collateral.landing for amount in landing.values()) == 10


def test_a_statement_names_its_cell_its_amount_and_where_it_goes() -> None:
    pen = Pen(FOUNDED, 0)
    start = pen.write(*(Deposit(id=a, account=a, asset="BTC", amount=9) for a in "AB"))
    sent = pen.write(Transfer(id=7, account="A", asset="BTC", amount=3, credit="B"))
    view = view_of([start, sent])
    (told,) = view.collateral.known(Kind.TRANSFER, keys(sent, Kind.TRANSFER))
    assert told is not None
    assert told.content == (view.rights.cell("A", "BTC"), 3, view.rights.cell("B", "BTC"))


# -- one lane's own books -------------------------------------------------------------------------------------------


def step(seq: int, ids: int = 0) -> Step:
    return Step(seq, {0: seq}, ids, {}, {}, None)


def test_a_lane_tells_its_steps_by_seq_whatever_seqs_moved_no_rights() -> None:
    row = LaneRights(salt=1)
    assert row.last == START == row.at(9)
    for seq, granted in ((2, {}), (5, {1: {0: 7}}), (6, {1: {0: 1}, 2: {3: 4}}), (9, {2: {0: 2}})):
        row.add(step(seq), granted)
    assert row.last.seq == 9
    assert [row.at(seq).seq for seq in range(11)] == [0, 0, 2, 2, 2, 5, 6, 6, 6, 9, 9]
    assert [one.seq for one in row.between(2, 6)] == [5, 6]
    assert [one.seq for one in row.between(0, 2)] == [2]
    assert row.between(9, 12) == []
    assert list(row.granted(1, 0, 9)) == [(5, {0: 7}), (6, {0: 1})]
    assert list(row.granted(1, 5, 9)) == [(6, {0: 1})]
    assert list(row.granted(2, 0, 6)) == [(6, {3: 4})]
    assert list(row.granted(2, 6, 9)) == [(9, {0: 2})]


def test_a_lane_tells_in_which_row_an_id_was_used_and_by_when() -> None:
    row = LaneRights(salt=1)
    first = (np.array([1, 2], np.uint64), np.array([0, 0], np.uint64))
    then = (np.array([3], np.uint64), np.array([0], np.uint64))
    row.tell(first, 2, np.array([4, 6]))
    row.add(step(2, ids=2), {})
    row.tell(then, 5, np.array([0]))
    row.add(step(5, ids=3), {})
    assert [row.told(ordinal) for ordinal in range(3)] == [(2, 4), (2, 6), (5, 0)]
    both = (np.array([3, 1, 9], np.uint64), np.array([0, 0, 0], np.uint64))
    assert row.used(both, 1).tolist() == [False, False, False]
    assert row.used(both, 2).tolist() == [False, True, False]
    assert row.used(both, 5).tolist() == [True, True, False]


def test_reaches_join_to_the_greater_seq_of_each_lane() -> None:
    assert extended({b"a": 2, b"b": 5}, {b"b": 3, b"c": 0, b"a": 4}) == {b"a": 4, b"b": 5, b"c": 0}
    assert extended({}, {b"a": 0}) == {b"a": 0}
