"""Matching in real node cores on the simulated network: firm, tentative, through partitions, crashes and settlement."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from crdtledger.edge.matchingdesk import ORDERS_TIMER
from crdtledger.edge.simulate.cluster import SECOND
from crdtledger.edge.simulate.trading import Floor
from crdtledger.edge.simulate.writing import minor
from crdtledger.errors import InsufficientRights
from crdtledger.matching.viewed import spelt
from gossip.machine import EPOCH_US
from gossip.network import Faults
from tests.edge.markets import HOMES, PERP, Market, order


def opened(seed: int, **options: object) -> Market:
    market = Market(seed=seed, **options)
    market.open()
    return market


def settled_of(market: Market) -> dict[tuple[str, str], int]:
    """What was settled of each order, by the accounts' positions."""
    return {("position", a): minor(market.position(a)) for a in HOMES}


def books(market: Market) -> set[bytes]:
    return {market.core(name).orders.book(PERP).encode() for name in market.names}


def test_orders_of_two_nodes_match_and_settle_into_positions() -> None:
    market = opened(seed=1)
    market.enter("A", "sell", 4_000, 10_000)
    market.settle()
    assert market.core("n3").orders.book(PERP).best(-1) == 10_000
    market.enter("B", "buy", 3_000, 10_000)
    market.rest()
    assert market.position("B", "n2") == "3.000"
    assert market.position("A", "n3") == "-3.000"
    assert len(books(market)) == 1


def test_both_sides_of_a_partition_hit_the_same_maker_and_it_is_settled_once() -> None:
    market = opened(seed=2)
    market.enter("A", "sell", 4_000, 10_000)
    market.settle()
    market.sim.partition([["n0", "n1"], ["n2", "n3"]])
    market.enter("B", "buy", 3_000, 10_000)
    market.enter("C", "buy", 3_000, 10_000)
    market.sim.run_for(2 * SECOND)
    waiting = [row for row in market.core("n2").replica.view.match_rows() if row.state == "tentative"]
    assert [(row.home, row.qty) for row in waiting] == [("n2", 3_000)]
    assert 0 < waiting[0].survival < 1_000_000
    market.rest()
    for name in market.names:
        told = {row["taker_account"]: row for row in market.matches(name)}
        assert (told["B"]["status"], told["B"]["stands"], told["B"]["maker_account"]) == ("settled", "3.000", "A")
        assert (told["C"]["status"], told["C"]["stands"], told["C"]["survival"]) == (
            "trimmed",
            "1.000",
            waiting[0].survival,
        )
        assert "only a part was left" in told["C"]["reason"]
    assert market.position("A") == "-4.000"
    assert market.position("B") == "3.000"
    assert market.position("C") == "1.000"
    assert market.core("n1").orders.book(PERP).best(1) == 10_000, "what was refused rests on"
    assert len(books(market)) == 1


def test_a_crash_of_the_makers_home_loses_no_question_and_answers_it_once() -> None:
    market = opened(seed=3)
    market.enter("A", "sell", 4_000, 10_000)
    market.settle()
    market.sim.crash("n0")
    market.enter("B", "buy", 3_000, 10_000)
    market.sim.run_for(SECOND)
    market.rest()
    assert market.position("A", "n3") == "-3.000"
    market.sim.crash("n0")
    market.rest()
    assert market.position("A", "n3") == "-3.000"


def test_a_cancel_that_the_home_records_before_it_sees_the_match_wins() -> None:
    market = opened(seed=4)
    maker = market.enter("A", "sell", 4_000, 10_000)
    market.settle()
    market.sim.partition([["n0"], ["n1", "n2", "n3"]])
    market.enter("B", "buy", 3_000, 10_000, tif="ioc")
    market.cancel("A", maker)
    market.rest()
    (told,) = market.matches("n3")
    assert (told["status"], told["stands"]) == ("voided", "0.000")
    assert "the order was cancelled" in told["reason"]
    assert market.position("B") == "0.000"
    assert market.core("n1").orders.book(PERP).best(1) is None, "an order of the moment does not wait for another"


def test_an_order_reserves_what_it_may_cost_and_frees_it_when_it_is_done() -> None:
    market = opened(seed=5)
    before = market.spendable("n1", "B")
    id = market.enter("B", "buy", 3_000, 10_000)
    assert market.spendable("n1", "B") == before - 3_000
    market.cancel("B", id)
    market.rest()
    market.sim.run_for(2 * SECOND)
    market.rest()
    assert market.spendable("n1", "B") == before


def test_an_order_beyond_rights_is_refused_and_says_what_is_held() -> None:
    market = opened(seed=6)
    refused = market.try_enter("B", "buy", 1_000_000_000, 10_000_00)
    assert isinstance(refused, InsufficientRights)
    assert refused.held_here == 10_000_000
    assert market.core("n1").replica.view.order_rows() == []


def test_to_amend_keeps_the_lineage_and_what_is_not_said() -> None:
    market = opened(seed=7)
    id = market.enter("A", "sell", 4_000, 10_000, post_only=True)
    market.record("n0", {"kind": "amend", "id": "new", "order": id, "price": "101.00"})
    rows = {row.id: row for row in market.core("n0").replica.view.order_rows()}
    assert (rows["new"].amends, rows["new"].qty, rows["new"].price, rows["new"].post_only) == (id, 4_000, 10_100, True)
    assert (rows[id].state, rows["new"].state) == ("closed", "open")
    assert market.core("n0").orders.book(PERP).best(-1) == 10_100


def test_a_repeated_request_sets_nothing_more_aside() -> None:
    market = opened(seed=8)
    told = order("x", "B", "buy", 3_000, 10_000)
    market.record("n1", told)
    left = market.spendable("n1", "B")
    market.record("n1", told)
    assert market.spendable("n1", "B") == left


def test_a_good_till_time_order_ends_by_itself() -> None:
    market = opened(seed=9)
    market.enter("A", "sell", 4_000, 10_000, tif="gtt", expires_us=EPOCH_US + market.sim.now_us + 2 * SECOND)
    market.sim.run_for(SECOND)
    assert market.core("n0").orders.book(PERP).best(-1) == 10_000
    market.sim.run_for(2 * SECOND)
    assert market.core("n0").orders.book(PERP).best(-1) is None


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_to_the_nodes_no_order_is_settled_beyond_its_quantity(seed: int) -> None:
    market = opened(seed=seed, faults=Faults(loss_ppm=20_000))
    draw = Random(seed)
    entered: list[tuple[str, str]] = []
    for _ in range(40):
        step = draw.randrange(12)
        account = draw.choice(sorted(HOMES))
        if step < 7 and HOMES[account] in market.sim.up():
            side, price = draw.choice(["buy", "sell"]), draw.randrange(9_990, 10_010)
            tif = draw.choice(["gtc", "gtc", "ioc", "fok"])
            entered.append((account, market.enter(account, side, draw.randrange(1, 5_000), price, tif=tif)))
        elif step == 7 and entered:
            account, id = draw.choice(entered)
            if HOMES[account] in market.sim.up() and market.core(HOMES[account]).replica.view.orders.get(
                (HOMES[account], id)
            ):
                market.cancel(account, id)
        elif step == 8:
            names = list(market.names)
            draw.shuffle(names)
            cut = draw.randrange(1, 4)
            market.sim.partition([names[:cut], names[cut:]])
        elif step == 9:
            market.sim.heal()
        elif step == 10 and len(market.sim.up()) == 4:
            market.sim.crash(draw.choice(market.names))
        else:
            for name in market.names:
                market.sim.restart(name)
        market.sim.run_for(draw.randrange(1, SECOND // 2))
    market.rest()
    market.sim.run_for(3 * SECOND)  # quantity that is held elsewhere is asked for
    market.rest()
    assert len(books(market)) == 1
    assert sum(settled_of(market).values()) == 0
    book = market.core("n0").orders.book(PERP)
    assert all(0 < one.qty <= market.quantities[spelt(one.name)] for one in book.orders())
    bids, offers = ([one for one in book.orders() if one.side == side] for side in (1, -1))
    crossed = [(b, o) for b in bids for o in offers if b.price >= o.price and b.account != o.account]
    assert not crossed, "orders that meet do not lie side by side"


def test_a_home_that_lost_its_disk_answers_when_it_knows_again_what_it_said() -> None:
    market = opened(seed=10)
    backup = market.sim.durable_records("n0")
    market.enter("A", "sell", 4_000, 10_000)
    market.settle()
    market.enter("B", "buy", 1_000, 10_000)
    market.settle()
    market.sim.partition([["n0"], ["n1", "n2"], ["n3"]])
    market.enter("C", "buy", 2_000, 10_000)
    market.restore("n0", backup)
    market.sim.heal()
    market.sim.partition([["n0", "n2"], ["n1"], ["n3"]])
    market.sim.run_for(2 * SECOND)
    core = market.core("n0")
    assert core.epochs.state.locked
    assert [row.state for row in core.replica.view.match_rows() if row.home == "n2"] == ["tentative"]
    market.rest()
    assert market.position("A", "n3") == "-3.000"
    assert market.position("C", "n3") == "2.000"


def test_quotes_are_shared_ahead_of_need_with_who_lately_wanted_some() -> None:
    market = opened(seed=11)
    market.enter("A", "sell", 4_000, 10_000)
    market.settle()
    market.enter("B", "buy", 4_000, 10_000)
    market.rest()
    market.enter("A", "sell", 4_000, 10_000)
    market.settle()
    market.sim.partition([["n0"], ["n1", "n2", "n3"]])
    market.enter("B", "buy", 2_000, 10_000)
    (firm,) = [row for row in market.matches("n1") if row["state"] == "provisional"]
    assert (firm["status"], firm["qty"], firm["survival"]) == ("firm", "2.000", 0)
    market.rest()
    assert market.position("B") == "6.000"


def test_a_match_that_waits_longer_than_a_height_is_learned_from() -> None:
    market = opened(seed=12)
    market.enter("A", "sell", 4_000, 10_000)
    market.settle()
    market.sim.partition([["n0"], ["n1", "n2", "n3"]])
    market.enter("B", "buy", 3_000, 10_000)
    height = market.core("n1").replica.base[0]
    market.sim.run_for(3 * SECOND)
    assert market.core("n1").replica.base[0] > height, "heights go on without the seller's home"
    learned = []
    survival = market.core("n1").orders.survival
    survival.learn = lambda estimate, accepted, now_us: learned.append((estimate.ppm, accepted))
    market.rest()
    (told,) = market.matches("n1")
    assert learned == [(told["survival"], True)]


def test_quantity_that_is_held_elsewhere_is_asked_for_where_it_is() -> None:
    market = opened(seed=13)
    id = market.enter("A", "sell", 4_000, 10_000)
    share = {"kind": "share", "id": "s", "home": "n0", "order": id, "node": "n3", "qty": "4.000", "instrument": PERP}
    market.record("n0", share)
    market.settle()
    market.enter("B", "buy", 3_000, 10_000)
    market.sim.run_for(2 * SECOND)
    market.rest()
    assert market.position("B") == "3.000"
    (told,) = market.matches("n1")
    assert told["survival"] == 0


def test_a_desk_that_is_made_anew_counts_what_is_handed_to_it_afterwards_no_second_time() -> None:
    """A height lets batches in that waited for it: the desk is made of a view that has them, and told of them then."""
    market = opened(seed=13)
    id = market.enter("A", "sell", 4_000, 10_000)
    market.settle()
    share = {"kind": "share", "id": "s", "home": "n0", "order": id, "node": "n3", "qty": "1.000", "instrument": PERP}
    market.sim.partition([["n0"], ["n1", "n2", "n3"]])
    market.record("n0", share)
    sharer, core = market.core("n0"), market.core("n1")
    lane = sharer.recorder.lane.key
    batch = sharer.replica.batch(lane, sharer.replica.head(lane).seq)
    assert batch is not None
    core.replica.admit_batch(batch)
    core.orders._due = True
    core.orders.timer(ORDERS_TIMER, market.sim.now_us)
    core.orders.arrived([batch], market.sim.now_us)
    core.orders.check_invariants()
    desk: Any = core.orders._desk
    assert desk.standing(("n0", id)).at == {"n0": 3_000, "n3": 1_000}


def test_a_home_that_refuses_whatever_it_is_asked_is_asked_ever_more_seldom() -> None:
    """Its order stays in the book and crosses still, and every checkpoint has desks made anew: they remember."""
    market = opened(seed=11)
    market.enter("A", "sell", 4_000, 10_000)
    market.settle()
    stubborn: Any = market.core("n0").orders
    stubborn.arrived = stubborn.timer = lambda *_: []
    stubborn.check_invariants = lambda: None
    market.enter("B", "buy", 3_000, 10_000)
    refused = 0
    for _ in range(100):
        market.sim.run_for(300_000)
        floor = Floor(market.core("n0"))
        for question in floor.questions():
            refused += 1
            market.record("n0", floor.accept(f"no {refused}", question, 0, "not today"))
    assert 3 <= refused <= 7
    assert market.core("n1").orders.book(PERP).best(1) == 10_000
