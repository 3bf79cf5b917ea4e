"""Reserves, row by row: what is set aside in a lane, what posts take out of it, and what voids set free."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from crdtledger.ledger.batch import Batch
from crdtledger.ledger.facts import Deposit, Fact, Grant, Post, Reserve, Void
from crdtledger.ledger.settled import SettledState
from crdtledger.ledger.settledparts import Reserved
from crdtledger.ledger.view import View
from tests.crdtledger.settling import settle_plainly
from tests.crdtledger.test_rights import FOUNDED, deposit
from tests.crdtledger.worlds import Pen, dep_on

EMPTY = SettledState.empty(FOUNDED)
GONE = "voids a reserve that its lane does not hold"
UNHELD = "posts a reserve that its lane does not hold"
TOO_MUCH = "posts more than is left of a reserve"


def reserve(id: int | str, amount: int, account: str = "A", asset: str = "USDT", expires_us: int = 0) -> Reserve:
    return Reserve(id=id, account=account, asset=asset, amount=amount, expires_us=expires_us)


def post(id: int, reserve: int | str, amount: int, credit: str = "B") -> Post:
    return Post(id=id, reserve=reserve, amount=amount, credit=credit)


def void(id: int, reserve: int | str) -> Void:
    return Void(id=id, reserve=reserve)


def view_of(batches: Sequence[Batch], state: SettledState = EMPTY) -> View:
    view = View(FOUNDED, base=state)
    for batch in batches:
        view.apply(batch)
    return view


def funded() -> tuple[Pen, list[Batch]]:
    """A lane with 100 USDT and 9 BTC of A, and 50 USDT of B."""
    pen = Pen(FOUNDED, 0)
    btc = Deposit(id=2, account="A", asset="BTC", amount=9)
    return pen, [pen.write(deposit(1, 100), btc, deposit(3, 50, "B"))]


def held(view: View) -> list[Reserved]:
    return sorted((one for lane in view.rights.reserves_after().values() for one in lane.values()), key=lambda r: r.id)


def figures(view: View) -> dict[tuple[str, str], tuple[int, int, int, int]]:
    """(free, reserved, in transit, incoming) of every account and asset."""
    return {(b.account, b.asset): (b.free, b.reserved, b.in_transit, b.incoming) for b in view.collateral_rows()}


def faults(view: View) -> list[str]:
    return [one.reason for one in view.void_batches]


def test_reserves_stand_apart_by_account_and_asset_with_their_ids_and_ends() -> None:
    pen, start = funded()
    made = pen.write(reserve(1, 10, expires_us=77), reserve("two", 4, asset="BTC"), reserve(3, 5, "B", expires_us=5))
    view = view_of([*start, made])
    assert held(view) == [
        Reserved("A", "USDT", 10, "1", 77),
        Reserved("B", "USDT", 5, "3", 5),
        Reserved("A", "BTC", 4, "two", 0),
    ]
    assert figures(view) == {("A", "BTC"): (5, 4, 0, 0), ("A", "USDT"): (90, 10, 0, 0), ("B", "USDT"): (45, 5, 0, 0)}


@pytest.mark.parametrize("apart", [True, False], ids=["in batches of their own", "in the reserve's batch"])
def test_posts_take_out_of_a_reserve_until_nothing_is_left(apart: bool) -> None:
    pen, start = funded()
    facts: list[Fact] = [reserve(1, 10), reserve(2, 4, asset="BTC"), post(1, 1, 3), post(2, 1, 6), post(3, 2, 4, "C")]
    batches = [pen.write(fact) for fact in facts] if apart else [pen.write(*facts)]
    view = view_of([*start, *batches])
    assert faults(view) == []
    assert held(view) == [Reserved("A", "USDT", 1, "1", 0)]
    assert figures(view) == {
        ("A", "BTC"): (5, 0, 4, 0),
        ("A", "USDT"): (90, 1, 9, 0),
        ("B", "USDT"): (50, 0, 0, 9),
        ("C", "BTC"): (0, 0, 0, 4),
    }
    assert faults(view_of([*start, *batches, pen.copy().write(post(4, 1, 1))])) == []
    assert faults(view_of([*start, *batches, pen.copy().write(post(4, 1, 2))])) == [TOO_MUCH]
    assert faults(view_of([*start, *batches, pen.copy().write(post(4, 2, 1, "C"))])) == [TOO_MUCH]


def test_posts_of_one_batch_are_held_to_what_is_left_together() -> None:
    pen, start = funded()
    made = pen.write(reserve(1, 10), reserve(2, 10))
    for amounts, fault in (((4, 6), []), ((5, 6), [TOO_MUCH])):
        posts = pen.copy().write(post(1, 1, amounts[0]), post(2, 2, 10), post(3, 1, amounts[1]))
        view = view_of([*start, made, posts])
        assert faults(view) == fault
        assert figures(view)["A", "USDT"] == ((80, 20, 0, 0) if fault else (80, 0, 20, 0))


def test_a_void_frees_what_is_left_and_comes_before_the_posts_of_its_batch() -> None:
    pen, start = funded()
    made = pen.write(reserve(1, 10), reserve(2, 7), reserve(3, 5))
    posted = pen.write(post(1, 1, 4))
    freed = pen.write(void(1, 1), void(2, 2))
    view = view_of([*start, made, posted, freed])
    assert held(view) == [Reserved("A", "USDT", 5, "3", 0)]
    assert figures(view)["A", "USDT"] == (100 - 4 - 5, 5, 4, 0)
    late = pen.copy().write(void(3, 3), post(2, 3, 1))
    assert faults(view_of([*start, made, posted, freed, late])) == [TOO_MUCH]


def test_a_reserve_voided_again_frees_nothing_more() -> None:
    pen, start = funded()
    batches = [*start, pen.write(reserve(1, 10)), pen.write(void(1, 1)), pen.write(void(2, 1), void(3, 1))]
    view = view_of(batches)
    assert faults(view) == []
    assert figures(view)["A", "USDT"] == (100, 0, 0, 0)


@pytest.mark.parametrize(
    ("fact", "fault"),
    [(void(9, 8), GONE), (post(9, 8, 1), UNHELD), (void(9, "one"), GONE), (post(9, "one", 1), UNHELD)],
)
def test_a_reserve_that_nobody_made_here_voids_the_batch_that_names_it(fact: Fact, fault: str) -> None:
    pen, start = funded()
    batches = [*start, pen.write(reserve(1, 10)), pen.write(fact, void(1, 1), post(2, 1, 1))]
    view = view_of(batches)
    assert faults(view) == [fault]
    assert figures(view)["A", "USDT"] == (90, 10, 0, 0)


# -- on a base ------------------------------------------------------------------------------------------------------


def settled() -> tuple[Pen, SettledState]:
    """Reserves 1, 2 and 3 of 10 are settled, of which 2 has 4 left and 3 nothing; 4 is of BTC."""
    pen, start = funded()
    batches = [
        *start,
        pen.write(reserve(1, 10, expires_us=5), reserve(2, 10), reserve(3, 10), reserve(4, 6, asset="BTC")),
        pen.write(post(1, 2, 6), void(1, 3)),
    ]
    return pen, settle_plainly(FOUNDED, EMPTY, batches)


def test_settled_reserves_are_taken_in_when_named_and_the_untouched_stay() -> None:
    pen, state = settled()
    assert view_of([pen.copy().write(deposit(9, 1))], state).rights.reserves_after() == {}
    view = view_of([pen.copy().write(post(2, 1, 3), post(3, 4, 2))], state)
    assert held(view) == [
        Reserved("A", "USDT", 7, "1", 5),
        Reserved("A", "USDT", 4, "2", 0),
        Reserved("A", "BTC", 4, "4", 0),
    ]
    view = view_of([pen.copy().write(void(2, 2), void(3, 4))], state)
    assert held(view) == [Reserved("A", "USDT", 10, "1", 5)]
    assert figures(view)["A", "USDT"][:2] == (84, 10)
    assert figures(view)["A", "BTC"][:2] == (9, 0)


def test_settled_and_new_reserves_are_posted_together() -> None:
    pen, state = settled()
    view = view_of([pen.write(reserve(7, 5), post(2, 7, 5), post(3, 2, 4), post(4, 1, 1))], state)
    assert faults(view) == []
    assert held(view) == [Reserved("A", "USDT", 9, "1", 5), Reserved("A", "BTC", 6, "4", 0)]
    assert faults(view_of([pen.write(post(5, 2, 5))], state)) == [TOO_MUCH]


def test_a_settled_reserve_with_nothing_left_is_voided_in_vain_and_one_that_lives_elsewhere_is_not_voided_here() -> (
    None
):
    pen, state = settled()
    drained = pen.copy().write(void(2, 3), void(3, 1))
    view = view_of([drained], state)
    assert faults(view) == []
    assert figures(view)["A", "USDT"][:2] == (90, 4)
    assert faults(view_of([pen.copy().write(post(2, 3, 1))], state)) == [UNHELD]
    assert faults(view_of([pen.copy().write(void(2, 3), void(3, 8))], state)) == [GONE]
    heir = Pen(FOUNDED, 0, 2)
    assert faults(view_of([heir.copy().write(void(2, 3))], state)) == []
    assert faults(view_of([heir.copy().write(void(2, 3), void(3, 1))], state)) == [GONE]
    assert faults(view_of([Pen(FOUNDED, 1).write(void(2, 3))], state)) == [GONE]


def test_whichever_settled_reserve_is_drained_it_is_voided_in_vain() -> None:
    giver, pen = Pen(FOUNDED, 0), Pen(FOUNDED, 1)
    start = [giver.write(deposit(1, 100)), giver.write(Grant(id=1, account="A", asset="USDT", amount=50, node="n1"))]
    made = pen.write(*(reserve(id, 1) for id in range(9)), deps=[dep_on(start[1])])  # the first ids that n1 ever uses
    freed = pen.write(*(void(id, id) for id in range(9)))
    state = settle_plainly(FOUNDED, EMPTY, [*start, made, freed])
    for id in range(9):
        assert faults(view_of([pen.copy().write(void(100 + id, id))], state)) == []
    assert faults(view_of([pen.copy().write(void(100, 9))], state)) == [GONE]
