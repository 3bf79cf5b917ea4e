"""What orders may draw out of a reserve: the sums that are kept are those of a plain count, and refusals say so."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from crdtledger import Ledger
from crdtledger.errors import CallerError, InsufficientReserve
from crdtledger.ledger.orderchecks import OrderChecks
from crdtledger.ledger.orderfacts import stated_facts
from crdtledger.ledger.reserveneeds import need_of
from tests.crdtledger.test_recording_orders import PERP, desks, match, order

LEFT = 100_000
MARGIN = 1_000
"""Of one contract, in minor units: a tenth of 100.00."""

SIZES = st.tuples(st.integers(1, 40), st.booleans())
STEPS = st.one_of(
    st.tuples(st.just("order"), st.sampled_from("AB"), st.sampled_from(["buy", "sell"]), st.lists(SIZES, max_size=3)),
    st.tuples(st.just("cancel"), st.sampled_from("AB"), st.integers(0, 9)),
    st.tuples(st.just("match"), st.sampled_from("AB"), st.integers(0, 9), st.integers(0, 9), st.integers(1, 9)),
    st.tuples(st.just("accept"), st.sampled_from("AB"), st.integers(0, 9)),
    st.tuples(st.just("join"), st.sampled_from("AB")),
)


def stands(desk: Ledger, meaning: tuple[str, bytes]) -> bool:
    return desk.replica.view.catalog.standing(meaning[0]) == meaning[1]


def plainly(desk: Ledger, reserve: str = "r") -> int:
    """Every order on a reserve of the desk's lane whose definition stands, one by one."""
    view, lane = desk.replica.view, desk._recorder.lane.key
    orders = [one for name in view.orders.names() if (one := view.orders.get(name)) and one.place[1] == lane]
    needs = (need_of(one, desk.genesis, view.catalog.definitions) for one in orders)
    return sum(need.amount for need in needs if need.reserve == reserve and stands(desk, need.meaning))


def kept(desk: Ledger) -> int:
    """The same, as the view keeps it."""
    view, lane = desk.replica.view, desk._recorder.lane.key
    needs = view.orders.needs(lane, "r", view.catalog.definitions)
    return sum(amount for meaning, amount in needs.items() if stands(desk, meaning))


def facts(step: tuple[Any, ...], number: int, home: str, other: str) -> list[dict[str, Any]]:
    kind, account, *rest = step
    if kind == "order":
        side, sizes = rest
        return [
            order(100 * number + at, account, side, str(size), reduce_only=only)
            for at, (size, only) in enumerate(sizes)
        ]
    if kind == "cancel":
        return [{"kind": "cancel", "id": 100 * number, "order": 100 * rest[0]}]
    if kind == "match":
        return [match(100 * number, 100 * rest[0], other, 100 * rest[1], str(rest[2]), survival=5)]
    return [
        {
            "kind": "accept",
            "id": 100 * number,
            "match": 100 * rest[0],
            "match_home": other,
            "qty": "1",
            "instrument": "P",
        }
    ]


def refused(desk: Ledger, told: list[dict[str, Any]]) -> CallerError | None:
    """Record them, or why not."""
    try:
        desk.record(*told)
    except CallerError as refusal:
        return refusal
    return None


@given(st.lists(STEPS, max_size=12))
def test_needs_are_those_of_a_plain_count_after_whatever_happens_to_orders(steps: list[tuple[Any, ...]]) -> None:
    london, tokyo = desks()
    for number, step in enumerate(steps):
        desk, other = (london, tokyo) if step[1] == "A" else (tokyo, london)
        before = plainly(desk)
        if step[0] == "join":
            desk.join(other)
            continue
        refusal = refused(desk, facts(step, number, desk.name, other.name))
        if isinstance(refusal, InsufficientReserve):
            assert refusal.needed > refusal.left == LEFT
            if step[0] == "order":
                wanted = [0 if only else size * MARGIN for size, only in step[3]]
                assert refusal.needed - before in {sum(wanted[: end + 1]) for end in range(len(wanted))}
        elif refusal is None:
            assert plainly(desk) <= LEFT
        assert kept(london) == plainly(london)
        assert kept(tokyo) == plainly(tokyo)


ORDER = st.tuples(st.just("order"), st.booleans(), st.integers(90, 110), st.integers(1, 9))
CANCEL = st.tuples(st.just("cancel"), st.integers(0, 9))
MATCH = st.tuples(st.just("match"), st.integers(0, 9), st.integers(0, 9), st.integers(1, 4))
ACTS = st.one_of(ORDER, ORDER, MATCH, CANCEL)


def desk_of_two() -> Ledger:
    """One node that is home to A, who buys, and B, who sells; the reserves ``A`` and ``B`` hold enough for all that the test does."""
    (desk,) = Ledger.cluster("london", assets={"USDT": 2, "BTC": 8})
    desk.record({"kind": "account", "name": "A"}, {"kind": "account", "name": "B"}, PERP)
    for account in "AB":
        desk.record({"kind": "deposit", "id": account, "account": account, "asset": "USDT", "amount": "9000"})
        desk.record({"kind": "reserve", "id": account, "account": account, "asset": "USDT", "amount": "9000"})
    return desk


def acted(acts: list[tuple[Any, ...]], first: int) -> list[dict[str, Any]]:
    told = []
    for id, (kind, *rest) in enumerate(acts, first):
        if kind == "order":
            account, side = ("A", "buy") if rest[0] else ("B", "sell")
            told.append(order(id, account, side, str(rest[2]), str(rest[1]), reserve=account))
        elif kind == "cancel":
            told.append({"kind": "cancel", "id": id, "order": rest[0]})
        else:
            told.append({**match(id, rest[0], "london", rest[1], str(rest[2])), "price": "100"})
    return told


@given(st.lists(ACTS, max_size=6), st.lists(ACTS, min_size=1, max_size=8))
def test_a_call_counts_what_it_says_as_if_it_were_recorded(
    before: list[tuple[Any, ...]], call: list[tuple[Any, ...]]
) -> None:
    desk, recorded = desk_of_two(), desk_of_two()
    for fact in acted(before, 0):
        refused(desk, [fact])
        refused(recorded, [fact])
    lane = desk._recorder.lane.key
    checks = OrderChecks(desk.replica.view, lane, "london")
    for fact in acted(call, len(before)):
        if refused(recorded, [fact]) is None:
            *_, batch = recorded.replica.batches()
            for stated in stated_facts(batch.body, desk.genesis, "london"):
                checks.check(stated)
            assert [checks._needed(lane, one) for one in "AB"] == [plainly(recorded, one) for one in "AB"]
