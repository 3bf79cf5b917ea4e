"""Desks that see each other late: no order is matched beyond its quantity, every match is answered, and all come to the same books."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from crdtledger.ledger.facts import Accept, Cancel, Match, Order, Share
from crdtledger.matching.events import AskFor, Ended, Holds, Record, Seen, Tick, Unrecorded
from crdtledger.matching.match import FIRM
from crdtledger.matching.queues import DeskLimits
from crdtledger.matching.sharing import SharePolicy
from tests.matching.lanes import INSTRUMENT, Lanes

HALF = SharePolicy(share_ppm=500_000)

orders = st.fixed_dictionaries(
    {
        "side": st.sampled_from(["buy", "sell"]),
        "qty": st.integers(1, 9),
        "price": st.integers(1, 4),
        "account": st.sampled_from("XYZW"),
        "tif": st.sampled_from(["gtc", "gtc", "gtc", "ioc", "fok"]),
        "market": st.sampled_from([False, False, False, True]),
        "post_only": st.sampled_from([False, False, False, True]),
        "min_survival": st.sampled_from([0, 0, 999_999]),
    }
)
nodes = st.sampled_from("abc")
steps = st.one_of(
    st.tuples(st.just("enter"), nodes, orders),
    st.tuples(st.just("enter"), nodes, orders),
    st.tuples(st.just("cancel"), st.integers(0, 99), st.none()),
    st.tuples(st.just("deliver"), nodes, nodes),
    st.tuples(st.just("deliver"), nodes, nodes),
    st.tuples(st.just("deliver"), nodes, nodes),
    st.tuples(st.just("tick"), nodes, st.none()),
    st.tuples(st.just("wishes"), st.none(), st.none()),
)


def play(lanes: Lanes, script: list) -> None:
    entered = []
    for what, one, other in script:
        match what:
            case "enter":
                entered.append(lanes.enter(one, **other))
            case "cancel" if entered:
                lanes.cancel(entered[one % len(entered)])
            case "deliver" if one != other:
                lanes.deliver(one, other)
            case "tick":
                lanes.tick(one)
            case "wishes":
                lanes.grant_wishes()
            case _:
                pass
        quantities = lanes.quantities()
        assert all(qty <= quantities[name] for name, qty in lanes.matched().items()), "matched beyond its quantity"


@settings(max_examples=200)
@given(st.lists(steps, max_size=60), st.sampled_from([None, HALF]), st.booleans())
def test_no_order_is_matched_beyond_its_quantity_and_every_match_is_answered(script, sharing, tight: bool) -> None:
    lanes = Lanes(sharing=sharing, limits=DeskLimits(proposals=3) if tight else None)
    play(lanes, script)
    lanes.settle_down()
    quantities = lanes.quantities()
    assert all(qty <= quantities[name] for name, qty in lanes.matched().items())
    answers = lanes.answers()
    tentative = {name for name, match in lanes.matches().items() if match.survival != FIRM}
    assert tentative == set(answers), "every tentative match is answered, and nothing else"
    books = {desk.book(INSTRUMENT).encode() for desk in lanes.desks.values()}
    assert len(books) == 1, "who has seen the same has the same book"
    assert all(desk.unanswered == 0 for desk in lanes.desks.values())
    cancels = [
        (writer, s.fact.order) for writer, lane in lanes.written.items() for s in lane if isinstance(s.fact, Cancel)
    ]
    assert len(set(cancels)) == len(cancels), "an order is cancelled once"


@given(st.lists(steps, max_size=40), st.sampled_from([None, HALF]))
def test_a_desk_that_reads_the_lanes_anew_comes_to_the_same_book_and_says_nothing_twice(script, sharing) -> None:
    lanes = Lanes(sharing=sharing)
    play(lanes, script)
    lanes.settle_down()
    fresh = lanes.desk("a")
    everything = [seen for lane in lanes.written.values() for seen in lane]
    for seen in everything:
        fresh.offer(seen, 1_000)
        fresh.work()
    fresh.begin(1_000)
    assert fresh.take(100) == []
    assert fresh.book(INSTRUMENT).encode() == lanes.desks["a"].book(INSTRUMENT).encode()


def matched(lanes: Lanes) -> list[tuple[str, int, bool]]:
    return [(w, m.qty, m.survival == FIRM) for (w, _), m in lanes.matches().items()]


def test_a_match_is_firm_at_the_makers_home_and_tentative_elsewhere() -> None:
    lanes = Lanes()
    lanes.enter("a", side="sell", qty=4, price=2)
    lanes.enter("a", side="buy", qty=1, price=2)
    lanes.settle_down()
    lanes.enter("b", side="buy", qty=2, price=3)
    assert matched(lanes) == [("a", 1, True), ("b", 2, False)]
    (tentative,) = [m for m in lanes.matches().values() if m.survival]
    assert 0 < tentative.survival < 1_000_000
    lanes.settle_down()
    (answer,) = lanes.answers().values()
    assert answer.qty == 2


def test_the_home_lane_decides_between_a_cancel_and_a_match() -> None:
    lanes = Lanes()
    maker = lanes.enter("a", side="sell", qty=4, price=2)
    lanes.settle_down()
    lanes.cancel(maker)
    taker = lanes.enter("b", side="buy", qty=2, price=2)
    lanes.settle_down()
    (answer,) = lanes.answers().values()
    assert (answer.qty, answer.reason) == (0, "the order was cancelled")
    assert lanes.desks["c"].book(INSTRUMENT).open(taker) == 2, "the refusal gave the taker its quantity back"


def test_two_takers_who_want_the_same_get_it_once_and_the_second_is_trimmed() -> None:
    lanes = Lanes()
    lanes.enter("a", side="sell", qty=5, price=2)
    lanes.settle_down()
    lanes.enter("b", side="buy", qty=3, price=2)
    lanes.enter("c", side="buy", qty=3, price=2)
    lanes.settle_down()
    assert sorted(a.qty for a in lanes.answers().values()) == [2, 3]
    assert [a.reason for a in lanes.answers().values() if a.qty == 2] == ["only a part was left"]


def test_of_two_orders_that_cross_unseen_exactly_the_later_one_takes() -> None:
    lanes = Lanes()
    lanes.enter("a", side="sell", qty=3, price=2)
    lanes.clock["b"] = 50
    lanes.enter("b", side="buy", qty=3, price=2)
    lanes.settle_down()
    assert matched(lanes) == [("b", 3, False)]


def test_a_share_lets_another_node_match_firmly_and_goes_home_with_the_cancel() -> None:
    lanes = Lanes(sharing=HALF)
    maker = lanes.enter("a", side="sell", qty=8, price=2)
    lanes.settle_down()
    lanes.enter("b", side="buy", qty=6, price=2, min_survival=999_999)
    assert matched(lanes) == [], "too unlikely: it waits"
    lanes.grant_wishes()
    lanes.deliver("b", "a")
    assert matched(lanes) == [("b", 4, True)]
    lanes.enter("c", side="sell", qty=1, price=4)
    lanes.cancel(maker)
    lanes.settle_down()
    standing = lanes.desks["c"].standing(maker)
    assert standing is not None
    assert (standing.visible(), standing.at) == (0, {"a": 4, "b": 0})


def test_what_nodes_wanted_lately_is_shared_ahead() -> None:
    lanes = Lanes(sharing=HALF)
    lanes.enter("a", side="sell", qty=8, price=2)
    lanes.settle_down()
    lanes.enter("b", side="buy", qty=8, price=2)
    lanes.settle_down()
    lanes.enter("a", side="sell", qty=8, price=2)
    (share,) = [s.fact for s in lanes.written["a"] if isinstance(s.fact, Share)]
    assert (share.node, share.qty) == ("b", 4)
    lanes.settle_down()
    lanes.enter("b", side="buy", qty=4, price=2)
    assert matched(lanes)[-1] == ("b", 4, True)


def test_an_order_of_the_moment_does_not_come_back_when_what_it_met_is_refused() -> None:
    lanes = Lanes()
    maker = lanes.enter("a", side="sell", qty=4, price=2)
    lanes.settle_down()
    lanes.cancel(maker)
    taker = lanes.enter("b", side="buy", qty=4, price=2, tif="ioc")
    lanes.settle_down()
    standing = lanes.desks["c"].standing(taker)
    assert standing is not None
    assert standing.closed


def test_an_order_ends_when_its_time_is_past() -> None:
    lanes = Lanes()
    order = lanes.enter("a", side="sell", qty=4, price=2, tif="gtt", expires_us=50)
    lanes.tick("a")
    assert order in lanes.desks["a"].book(INSTRUMENT)
    lanes.clock["a"] = 50
    lanes.tick("a")
    assert order not in lanes.desks["a"].book(INSTRUMENT)
    assert any(isinstance(s.fact, Cancel) for s in lanes.written["a"])


def test_a_reduce_only_order_gives_no_more_than_the_position() -> None:
    lanes = Lanes()
    lanes.desks["a"].offer(Holds("R", INSTRUMENT, 2), 1)
    lanes.enter("a", side="sell", qty=2, price=2, account="R", reduce_only=True)
    lanes.settle_down()
    lanes.desks["a"].offer(Holds("R", INSTRUMENT, 1), 1)
    lanes.enter("b", side="buy", qty=2, price=2)
    lanes.settle_down()
    assert [a.qty for a in lanes.answers().values()] == [1]


def test_a_full_desk_takes_nothing_and_loses_nothing() -> None:
    lanes = Lanes(limits=DeskLimits(events=2, instructions=1))
    desk = lanes.desks["a"]
    assert desk.offer(Tick(), 1)
    assert desk.offer(Tick(), 1)
    assert not desk.offer(Tick(), 1)
    desk.work()
    sell = lanes.record("a", Order(id=1, account="A", instrument=INSTRUMENT, side="sell", qty=1, price=2, reserve=1))
    takes = [Order(id=n, account="B", instrument=INSTRUMENT, side="buy", qty=1, price=2, reserve=1) for n in (2, 3)]
    assert desk.offer(sell, 2)
    desk.work()
    for order in takes:
        assert desk.offer(
            lanes.record("a", Order(**{**{f: getattr(order, f) for f in order.__struct_fields__}, "tif": "ioc"})), 3
        )
    assert desk.work() == 1, "one instruction waits to be taken: the next event must wait, too"
    assert len(desk.take(9)) == 1
    assert desk.work() == 1
    assert len(desk.take(9)) == 1


def test_a_match_that_was_not_recorded_never_was() -> None:
    lanes = Lanes()
    maker = lanes.enter("a", side="sell", qty=4, price=2)
    lanes.deliver("b", "a")
    desk = lanes.desks["b"]
    order = Order(id=9, account="B", instrument=INSTRUMENT, side="buy", qty=3, price=2, reserve=1)
    desk.offer(lanes.record("b", order), 5)
    desk.work()
    (instruction,) = desk.take(9)
    assert isinstance(instruction, Record)
    assert isinstance(instruction.fact, Match)
    assert desk.book(INSTRUMENT).open(maker) == 1
    desk.offer(Unrecorded(instruction.fact), 6)
    desk.work()
    assert (desk.book(INSTRUMENT).open(maker), desk.book(INSTRUMENT).open(("b", 9)), desk.unanswered) == (4, 3, 0)


def test_what_settlement_has_ended_is_forgotten() -> None:
    lanes = Lanes()
    order = lanes.enter("a", side="sell", qty=4, price=2)
    lanes.cancel(order)
    desk = lanes.desks["a"]
    desk.offer(Ended((order,), ()), 9)
    desk.work()
    assert desk.standing(order) is None
    resting = lanes.enter("a", side="sell", qty=4, price=2)
    desk.offer(Ended((resting,), ()), 9)
    desk.work()
    assert resting not in desk.book(INSTRUMENT), "and whatever it was, it rests no longer"


def test_matches_that_are_not_on_the_makers_terms_are_refused() -> None:
    lanes = Lanes()
    lanes.enter("a", side="sell", qty=4, price=2)
    lanes.enter("b", side="buy", qty=4, price=1)
    lanes.enter("c", side="sell", qty=4, price=3)
    for writer, taker, price, said in (
        ("b", 2, 1, "terms"),
        ("b", 2, 2, "limit"),
        ("c", 3, 2, "terms"),
        ("b", 7, 2, "no such"),
    ):
        forged = Match(id=f"x{price}{taker}", taker=taker, maker_home="a", maker=1, qty=1, price=price, survival=1)
        lanes.record(writer, forged)
        lanes.settle_down()
        answer = lanes.written["a"][-1].fact
        assert isinstance(answer, Accept)
        assert answer.qty == 0
        assert said in answer.reason


def test_an_unknown_wish_is_no_trouble() -> None:
    lanes = Lanes()
    lanes.wishes.append(("b", AskFor(("a", 77), 3)))
    lanes.grant_wishes()
    assert isinstance(lanes.record("a", Cancel(id=1, order=77)), Seen)


def test_a_share_that_comes_after_its_need_goes_home_with_the_cancel() -> None:
    lanes = Lanes(sharing=HALF)
    maker = lanes.enter("a", side="sell", qty=8, price=2)
    lanes.settle_down()
    taker = lanes.enter("b", side="buy", qty=6, price=2, min_survival=999_999)
    lanes.cancel(taker)
    lanes.grant_wishes()
    lanes.cancel(maker)
    lanes.settle_down()
    standing = lanes.desks["c"].standing(maker)
    assert standing is not None
    assert (standing.visible(), standing.at) == (0, {"a": 8, "b": 0})


def test_a_cancelled_taker_stays_cancelled_when_its_match_is_refused() -> None:
    lanes = Lanes()
    maker = lanes.enter("a", side="sell", qty=4, price=2)
    lanes.settle_down()
    lanes.cancel(maker)
    taker = lanes.enter("b", side="buy", qty=4, price=2)
    lanes.cancel(taker)
    lanes.enter("b", side="sell", qty=4, price=2)
    lanes.settle_down()
    assert matched(lanes) == [("b", 4, False)]


def test_to_amend_is_to_cancel_and_enter_anew_at_the_end_of_the_queue() -> None:
    lanes = Lanes()
    old = lanes.enter("a", side="sell", qty=4, price=2)
    other = lanes.enter("a", side="sell", qty=1, price=2)
    new = lanes.enter("a", side="sell", qty=3, price=2, amends=old[1])
    lanes.settle_down()
    book = lanes.desks["b"].book(INSTRUMENT)
    assert (book.open(old), book.open(new), book.ahead(new)) == (0, 3, 1)
    assert book.ahead(other) == 0


def test_a_share_is_asked_for_once_in_a_while_only() -> None:
    lanes = Lanes()
    lanes.enter("a", side="sell", qty=8, price=2)
    lanes.settle_down()
    lanes.enter("b", side="buy", qty=6, price=2, min_survival=999_999)
    for _ in range(5):
        lanes.tick("b")
    assert len(lanes.wishes) == 1
    lanes.clock["b"] += 500_000
    lanes.tick("b")
    assert len(lanes.wishes) == 2


def test_an_id_that_is_used_twice_counts_once() -> None:
    lanes = Lanes()
    first = lanes.enter("a", side="sell", qty=4, price=2)
    again = Order(id=first[1], account="Z", instrument=INSTRUMENT, side="sell", qty=9, price=2, reserve=1)
    lanes.record("a", again)
    lanes.settle_down()
    assert lanes.desks["b"].book(INSTRUMENT).open(first) == 4


def test_of_two_orders_of_one_account_that_cross_unseen_the_later_is_cancelled() -> None:
    lanes = Lanes()
    earlier = lanes.enter("a", side="sell", qty=3, price=2, account="X")
    lanes.clock["b"] = 50
    later = lanes.enter("b", side="buy", qty=3, price=2, account="X")
    lanes.settle_down()
    book = lanes.desks["c"].book(INSTRUMENT)
    assert (matched(lanes), book.open(earlier), book.open(later)) == ([], 3, 0)
