"""Who asks whom for rights: a node reaches what it wants in as few asks as it takes, and nobody is bled by repetition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crdtledger.ledger.rightsmanager import Ask, RightsManager, RightsPolicy

CELL = ("A", "USDT")
POLICY = RightsPolicy(share_ppm=500_000, half_life_us=1_000, patience_us=100)


def asks(manager: RightsManager, available: int, holders: dict[str, int], now_us: int = 0) -> list[Ask]:
    return manager.asks({CELL: available}, {CELL: holders}, holders, now_us)


def test_a_refusal_asks_the_richest_reachable_peer_for_what_is_missing() -> None:
    manager = RightsManager(POLICY)
    manager.refused(CELL, 70, 0)
    (ask,) = manager.asks({CELL: 10}, {CELL: {"b": 500, "c": 900, "d": 9_999}}, ["b", "c"], 0)
    assert (ask.peer, ask.amount) == ("c", 60)


def test_trying_again_does_not_raise_what_is_asked_for() -> None:
    manager = RightsManager(POLICY)
    for _ in range(5):
        manager.refused(CELL, 70, 0)
    (ask,) = asks(manager, 0, {"b": 500})
    assert ask.amount == 70


def test_one_ask_at_a_time_until_rights_arrive_or_patience_ends() -> None:
    manager = RightsManager(POLICY)
    manager.refused(CELL, 70, 0)
    holders = {"b": 50, "c": 40, "d": 30}
    assert [ask.peer for ask in asks(manager, 0, holders)] == ["b"]
    assert asks(manager, 0, holders, 50) == []
    manager.held(CELL, 25)
    assert [(ask.peer, ask.amount) for ask in asks(manager, 25, holders, 60)] == [("c", 45)]
    assert [ask.peer for ask in asks(manager, 25, holders, 160)] == ["d"]
    manager.denied("d", CELL)
    assert asks(manager, 25, holders, 170) == []
    assert manager.wanted == [], "everybody was asked: the next refusal starts over"


def test_enough_ends_the_asking() -> None:
    manager = RightsManager(POLICY)
    manager.refused(CELL, 70, 0)
    asks(manager, 0, {"b": 500})
    manager.held(CELL, 70)
    assert manager.wanted == []


def test_it_asks_ahead_when_less_is_left_than_was_lately_spent() -> None:
    manager = RightsManager(POLICY)
    manager.spent(CELL, 30, 100, 0)
    assert manager.wanted == []
    manager.spent(CELL, 30, 40, 0)
    (ask,) = asks(manager, 40, {"b": 500})
    assert ask.amount == 20


def test_demand_halves_with_time() -> None:
    manager = RightsManager(POLICY)
    manager.spent(CELL, 80, 1_000, 0)
    assert [manager.demand(CELL, now) for now in (0, 999, 1_000, 2_500, 10**12)] == [80, 80, 40, 20, 0]


amounts = st.integers(0, 1 << 70)


@given(asked=amounts, asker=amounts, available=amounts, own=amounts)
def test_a_gift_is_never_more_than_asked_nor_than_the_policy_lets_go(
    asked: int, asker: int, available: int, own: int
) -> None:
    manager = RightsManager(POLICY)
    manager.spent(CELL, own, available, 0)
    gift = manager.gift(CELL, asked, asker, available, 0)
    assert 0 <= gift <= min(asked, available // 2)
