"""Clients that wait for news hear it at once, or hear at their time that there is none."""

from __future__ import annotations

from crdtledger.edge import api
from crdtledger.edge.watching import MAX_WATCHERS, Watchers
from gossip.effects import Reply, StartTimer

OLD, NEW = b"old", b"new"


def answered(effects: list[object]) -> list[object]:
    return [effect.request for effect in effects if isinstance(effect, Reply)]


def test_news_that_is_there_already_is_told_at_once() -> None:
    assert answered([*Watchers().add("a", api.Watch(OLD, 1_000), NEW, 0)]) == ["a"]


def test_a_watcher_is_woken_by_news_and_only_by_news() -> None:
    watchers = Watchers()
    assert watchers.add("a", api.Watch(OLD, 1_000), OLD, 0) == [StartTimer("watch", 1_000_000)]
    assert answered([*watchers.news(OLD, 10)]) == []
    assert answered([*watchers.news(NEW, 20)]) == ["a"]
    assert answered([*watchers.news(b"newer", 30)]) == []


def test_a_watcher_whose_time_is_up_hears_that_nothing_changed() -> None:
    watchers = Watchers()
    watchers.add("a", api.Watch(OLD, 5), OLD, 0)
    watchers.add("b", api.Watch(OLD, 9), OLD, 0)
    effects = watchers.news(OLD, 5_000)
    assert effects == [Reply("a", api.encode_answer(OLD)), StartTimer("watch", 4_000)]


def test_one_watcher_too_many_does_not_wait() -> None:
    watchers = Watchers()
    for number in range(MAX_WATCHERS):
        watchers.add(number, api.Watch(OLD, 1_000), OLD, 0)
    assert answered([*watchers.add("last", api.Watch(OLD, 1_000), OLD, 0)]) == ["last"]
