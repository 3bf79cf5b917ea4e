"""Matching means what it means at a venue: held against a model that looks at every order for every unit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crdtledger.matching.book import Book, Resting
from crdtledger.matching.match import Incoming, Judgement, Outcome, Proposal, match
from crdtledger.matching.orders import BUY, SELL, OpenOrder
from tests.matching.test_book import ranked, resting_sets


@st.composite
def incoming(draw: st.DrawFn) -> Incoming:
    return Incoming(
        account=draw(st.sampled_from("ABC")),
        side=draw(st.sampled_from([BUY, SELL])),
        qty=draw(st.integers(1, 25)),
        price=draw(st.integers(1, 5)),
        tif=draw(st.sampled_from(["gtc", "ioc", "fok"])),
        market=draw(st.booleans()),
        post_only=draw(st.integers(0, 9)) == 0,
        reduce_only=draw(st.integers(0, 4)) == 0,
        min_survival=draw(st.sampled_from([0, 500_000])),
        self_match=draw(st.sampled_from(["cancel-newest", "skip"])),
        position=draw(st.integers(-9, 9)),
    )


def judged(resting: Resting, wanted: int) -> Judgement:
    """By its id: all firm, all tentative and likely, all tentative and unlikely, or half and half."""
    kind = int(resting.name[1]) % 4
    return [
        Judgement(resting.qty),
        Judgement(0, resting.qty, 900_000),
        Judgement(0, resting.qty, 100_000),
        Judgement(resting.qty // 2, resting.qty - resting.qty // 2, 600_000),
    ][kind]


def expected(orders: list[OpenOrder], order: Incoming, judge) -> tuple[list[Proposal], int]:
    """What the order gets, and what of it is left."""
    wanted = min(order.qty, max(0, -order.side * order.position)) if order.reduce_only else order.qty
    out: list[Proposal] = []
    left = wanted
    makers = [m for m in ranked(orders, -order.side) if order.side * (order.price - m.price) >= 0]
    if order.post_only and makers:
        return [], 0
    for maker in makers:
        if maker.account == order.account:
            if order.self_match == "skip":
                continue
            break
        view = (
            judge(Resting(maker.name, maker.account, maker.place, maker.qty, None), left)
            if judge
            else Judgement(maker.qty)
        )
        parts = [(view.firm, 0)]
        if view.survival >= order.min_survival and order.tif != "fok":
            parts.append((view.tentative, view.survival))
        for most, survival in parts:
            if min(most, left):
                out.append(Proposal(maker.name, min(most, left), maker.price, survival))
                left -= min(most, left)
    if order.tif == "fok" and left:
        return [], wanted
    return out, left


@given(resting_sets(), incoming(), st.booleans())
def test_an_order_gets_what_the_naive_model_gives_it(orders: list[OpenOrder], order: Incoming, probable: bool) -> None:
    judge = judged if probable else None
    book = Book(orders)
    outcome = match(book, order, judge)
    proposals, left = expected(orders, order, judge)
    assert list(outcome.proposals) == proposals
    assert sum(p.qty for p in proposals) + outcome.rest + outcome.cancelled == order.qty
    if order.market or order.tif != "gtc":
        assert outcome.rest in (0, left if order.post_only else 0)
    assert outcome.rest <= left
    assert bool(outcome.reason) == bool(outcome.cancelled)
    taken: dict = {}
    for proposal in proposals:
        taken[proposal.maker] = taken.get(proposal.maker, 0) + proposal.qty
    rests = [
        OpenOrder(o.name, o.account, o.side, o.price, o.qty - taken.get(o.name, 0), o.place)
        for o in orders
        if o.qty > taken.get(o.name, 0)
    ]
    assert book.encode() == Book(rests).encode(), "what was proposed is off the book, and nothing else"


def book_of(*orders: tuple[int, int, int, str]) -> Book:
    """Orders (side, price, qty, account), named and timed 0, 1, 2 ..."""
    return Book(
        OpenOrder(("n", at), who, side, price, qty, (at, b"", 1, 0))
        for at, (side, price, qty, who) in enumerate(orders)
    )


def took(outcome: Outcome) -> list[tuple[int, int, int]]:
    return [(int(p.maker[1]), p.qty, p.price) for p in outcome.proposals]


def test_a_market_order_walks_to_its_worst_price_and_never_rests() -> None:
    book = book_of((SELL, 10, 2, "A"), (SELL, 11, 2, "A"), (SELL, 12, 2, "A"))
    outcome = match(book, Incoming("B", BUY, 9, 11, market=True))
    assert (took(outcome), outcome.rest, outcome.cancelled) == ([(0, 2, 10), (1, 2, 11)], 0, 5)


def test_fill_or_kill_counts_only_what_is_sure() -> None:
    sells = ((SELL, 10, 2, "A"), (SELL, 10, 2, "A"))
    order = Incoming("B", BUY, 4, 10, tif="fok")
    assert took(match(book_of(*sells), order)) == [(0, 2, 10), (1, 2, 10)]
    assert match(book_of(*sells), order, judged).proposals == ()
    first = OpenOrder(("n", 3), "A", SELL, 10, 4, (0, b"", 1, 0))  # half of it is sure
    book = Book([first, OpenOrder(("n", 4), "A", SELL, 10, 2, (1, b"", 1, 0))])
    assert [(p.maker[1], p.qty, p.survival) for p in match(book, order, judged).proposals] == [(3, 2, 0), (4, 2, 0)]


def test_post_only_is_refused_where_it_would_trade_and_rests_elsewhere() -> None:
    assert match(book_of((SELL, 10, 2, "A")), Incoming("B", BUY, 4, 10, post_only=True)).cancelled == 4
    assert match(book_of((SELL, 10, 2, "A")), Incoming("B", BUY, 4, 9, post_only=True)).rest == 4


def test_reduce_only_ends_at_a_flat_position() -> None:
    order = Incoming("B", BUY, 9, 10, reduce_only=True, position=-3)
    outcome = match(book_of((SELL, 10, 5, "A")), order)
    assert (took(outcome), outcome.rest, outcome.cancelled) == ([(0, 3, 10)], 0, 6)
    assert match(book_of((SELL, 10, 5, "A")), Incoming("B", BUY, 9, 10, reduce_only=True, position=2)).cancelled == 9


def test_good_till_time_is_refused_when_its_time_is_past() -> None:
    order = Incoming("B", BUY, 9, 10, tif="gtt", expires_us=100)
    assert match(book_of((SELL, 10, 5, "A")), order, now_us=99).rest == 4
    assert match(book_of((SELL, 10, 5, "A")), order, now_us=100).proposals == ()


def test_an_account_does_not_trade_with_itself() -> None:
    orders = ((SELL, 10, 1, "A"), (SELL, 10, 1, "B"), (SELL, 11, 1, "C"))
    newest = match(book_of(*orders), Incoming("B", BUY, 3, 11))
    assert (took(newest), newest.cancelled) == ([(0, 1, 10)], 2)
    skipping = match(book_of(*orders), Incoming("B", BUY, 3, 11, self_match="skip"))
    assert (took(skipping), skipping.rest) == ([(0, 1, 10), (2, 1, 11)], 1)


def test_what_is_too_unlikely_is_passed_over_and_named() -> None:
    orders = ((SELL, 10, 1, "A"), (SELL, 10, 1, "A"), (SELL, 10, 1, "A"))
    outcome = match(book_of(*orders), Incoming("B", BUY, 3, 10, min_survival=500_000), judged)
    assert [(p.maker[1], p.survival) for p in outcome.proposals] == [(0, 0), (1, 900_000)]
    assert (outcome.passed, outcome.rest) == (((("n", 2), 1),), 1)


def test_a_match_stops_at_its_limit_of_proposals_and_can_go_on() -> None:
    book = book_of(*[(SELL, 10, 1, "A")] * 5)
    first = match(book, Incoming("B", BUY, 5, 10, tif="ioc"), judged, limit=2)
    assert (len(first.proposals), first.rest, first.cancelled) == (1, 4, 0)
