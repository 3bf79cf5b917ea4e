"""The simulator is only worth something if it does what it says: same seed, same run; only unsynced writes are lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.disk import Disk
from gossip.effects import (
    Connected,
    Disconnected,
    Durable,
    Effect,
    Persist,
    Received,
    Reply,
    Send,
    StartTimer,
    TimerFired,
)
from gossip.machine import EPOCH_US
from gossip.network import Faults
from gossip.simulation import Simulation
from tests.gossip.toy import SECOND, Record, cluster


@dataclass
class Probe:
    """A core that does what it is told and remembers what it was told."""

    name: str
    records: tuple[bytes, ...]
    incarnation: int
    seen: list[Any] = field(default_factory=list)
    clocks: list[int] = field(default_factory=list)

    def start(self, now_us: int) -> list[Effect]:
        return []

    def step(self, event: Any, now_us: int) -> list[Effect]:
        self.clocks.append(now_us)
        if isinstance(event, list):
            return list(event)
        self.seen.append(event)
        return []

    def frames(self) -> list[bytes]:
        return [event.frame for event in self.seen if isinstance(event, Received)]

    def links(self) -> list[type]:
        return [type(event) for event in self.seen if isinstance(event, Connected | Disconnected)]


def probes(faults: Faults, seed: int = 0, names: Sequence[str] = ("a", "b")) -> Simulation[Probe]:
    simulation = Simulation(names, lambda name, records, run: Probe(name, tuple(records), run), faults, seed)
    simulation.run_for(SECOND)
    return simulation


def persist(position: int) -> Persist:
    return Persist(position, (b"record %d" % position,))


def a_run(seed: int) -> Simulation[Any]:
    faults = Faults(loss_ppm=100_000, duplicate_ppm=100_000, reorder=True, torn=True)
    simulation = cluster(("a", "b", "c"), faults, seed)
    for at in range(60):
        simulation.submit("abc"[at % 3], Record(at, b"fact"))
        simulation.run_for(20_000)
        if at == 20:
            simulation.partition([["a"], ["b", "c"]])
        if at == 30:
            simulation.crash("c")
        if at == 40:
            simulation.restart("c")
            simulation.heal()
    simulation.run_for(5 * SECOND)
    return simulation


def test_the_same_seed_is_the_same_run_byte_for_byte() -> None:
    assert a_run(7).trace.digest() == a_run(7).trace.digest()


def test_another_seed_is_another_run() -> None:
    assert a_run(7).trace.digest() != a_run(8).trace.digest()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3_000), min_size=1, max_size=20), st.integers(0, 2**32), st.booleans())
def test_a_crash_loses_unsynced_writes_only(gaps_us: list[int], seed: int, torn: bool) -> None:
    simulation = probes(Faults(torn=torn), seed)
    written = []
    for position, gap_us in enumerate(gaps_us, start=1):
        simulation.submit("a", [persist(position), Reply(position, b"done", after=position)])
        written.append(b"record %d" % position)
        simulation.run_for(gap_us)
    acknowledged = [b"record %d" % position for position in simulation.replies]
    durable = simulation.durable_records("a")
    simulation.crash("a")
    simulation.restart("a")
    survived = simulation.core("a").records
    assert list(survived) == written[: len(survived)], "a prefix survives"
    assert acknowledged == written[: len(acknowledged)]
    assert len(acknowledged) <= len(durable) <= len(survived)
    if not torn:
        assert survived == durable


def test_nothing_leaves_before_what_it_depends_on_is_durable_and_nothing_held_survives_a_crash() -> None:
    simulation = probes(Faults(sync_us=100_000))
    simulation.submit("a", [persist(1), Send("b", b"held", after=1), Send("b", b"free"), Reply("r", b"x", after=1)])
    simulation.run_for(20_000)
    assert simulation.core("b").frames() == [b"free"]
    simulation.crash("a")
    simulation.run_for(SECOND)
    simulation.restart("a")
    simulation.run_for(SECOND)
    simulation.submit("a", [persist(1)])
    simulation.run_for(SECOND)
    assert simulation.core("b").frames() == [b"free"]
    assert simulation.replies == {}


def test_what_is_to_happen_in_the_next_sync_happens_once_before_it_ends_and_not_after_a_crash() -> None:
    simulation = probes(Faults(sync_us=10_000))
    simulation.in_next_sync("a", lambda: simulation.crash("a"))
    simulation.run_for(SECOND)
    assert simulation.up() == ["a", "b"]
    simulation.submit("a", [persist(1), Reply("r", b"x", after=1)])
    simulation.run_for(SECOND)
    assert simulation.up() == ["b"]
    assert (simulation.durable_records("a"), simulation.replies) == ((), {})
    simulation.restart("a")
    simulation.submit("a", [persist(1)])
    simulation.run_for(SECOND)
    assert simulation.durable_records("a") == (b"record 1",)
    simulation.in_next_sync("a", lambda: simulation.crash("b"))
    simulation.crash("a")
    simulation.restart("a")
    simulation.submit("a", [persist(1)])
    simulation.run_for(SECOND)
    assert simulation.up() == ["a", "b"]


def test_one_sync_covers_what_was_written_before_it_began() -> None:
    simulation = probes(Faults(sync_us=10_000))
    simulation.submit("a", [persist(1)])
    simulation.submit("a", [persist(2), persist(3)])
    simulation.run_for(SECOND)
    assert [event for event in simulation.core("a").seen if isinstance(event, Durable)] == [Durable(1), Durable(3)]


def test_positions_must_rise() -> None:
    simulation = probes(Faults())
    simulation.submit("a", [persist(2), persist(2)])
    with pytest.raises(ValueError, match="does not rise"):
        simulation.run_for(SECOND)


def test_a_restarted_timer_fires_once_and_none_outlives_a_crash() -> None:
    simulation = probes(Faults())
    simulation.submit("a", [StartTimer("t", 100), StartTimer("t", 5_000), StartTimer("u", 9_000_000)])
    simulation.run_for(SECOND)
    assert [event for event in simulation.core("a").seen if isinstance(event, TimerFired)] == [TimerFired("t")]
    simulation.crash("a")
    simulation.restart("a")
    simulation.run_for(10 * SECOND)
    assert not any(isinstance(event, TimerFired) for event in simulation.core("a").seen)


def test_links_go_down_and_up_with_partitions_after_a_while() -> None:
    simulation = probes(Faults(detect_us=200_000), names=("a", "b", "c"))
    simulation.isolate("a")
    simulation.run_for(100_000)
    assert simulation.core("a").links() == [Connected] * 2
    simulation.run_for(SECOND)
    assert simulation.core("a").links() == [Connected] * 2 + [Disconnected] * 2
    assert simulation.core("b").links() == [Connected] * 2 + [Disconnected]
    simulation.heal()
    simulation.run_for(SECOND)
    assert simulation.core("a").links() == ([Connected] * 2 + [Disconnected] * 2) + [Connected] * 2


def test_a_short_partition_goes_unnoticed_but_eats_what_was_in_flight() -> None:
    simulation = probes(Faults(latency_min_us=10_000, latency_mean_us=10_000))
    simulation.submit("a", [Send("b", b"in flight")])
    simulation.run_for(5_000)
    simulation.partition([["a"], ["b"]])
    simulation.run_for(50_000)
    simulation.heal()
    simulation.run_for(SECOND)
    assert simulation.core("b").frames() == []
    assert simulation.core("b").links() == [Connected]


def test_a_one_way_cut_is_silent() -> None:
    simulation = probes(Faults())
    simulation.cut("a", "b")
    simulation.submit("a", [Send("b", b"lost")])
    simulation.submit("b", [Send("a", b"through")])
    simulation.run_for(SECOND)
    assert simulation.core("b").frames() == []
    assert simulation.core("a").frames() == [b"through"]
    assert simulation.core("a").links() == [Connected]


def test_a_clogged_link_is_slow_for_a_while() -> None:
    simulation = probes(Faults())
    simulation.clog("a", "b", for_us=SECOND, extra_us=3 * SECOND)
    simulation.submit("a", [Send("b", b"slow")])
    simulation.run_for(2 * SECOND)
    assert simulation.core("b").frames() == []
    simulation.run_for(2 * SECOND)
    assert simulation.core("b").frames() == [b"slow"]


def sent_in_order(faults: Faults, seed: int) -> list[bytes]:
    simulation = probes(faults, seed)
    simulation.submit("a", [Send("b", b"%03d" % at) for at in range(200)])
    simulation.run_for(SECOND)
    return simulation.core("b").frames()


def test_links_are_first_in_first_out_unless_reordered() -> None:
    in_order = [b"%03d" % at for at in range(200)]
    assert sent_in_order(Faults(), 1) == in_order
    mixed = sent_in_order(Faults(reorder=True), 1)
    assert mixed != in_order
    assert sorted(mixed) == in_order


def test_frames_are_lost_and_duplicated_about_as_often_as_asked() -> None:
    assert 60 < len(sent_in_order(Faults(loss_ppm=500_000), 1)) < 140
    assert 260 < len(sent_in_order(Faults(duplicate_ppm=500_000), 1)) < 340


def test_a_clock_may_be_skewed_but_never_goes_back_within_an_incarnation() -> None:
    simulation = probes(Faults())
    simulation.skew("a", 10 * SECOND)
    simulation.submit("a", [])
    simulation.run_for(SECOND)
    simulation.skew("a", -10 * SECOND)
    simulation.submit("a", [])
    simulation.run_for(SECOND)
    clocks = simulation.core("a").clocks
    assert clocks == sorted(clocks)
    assert clocks[-1] == EPOCH_US + 11 * SECOND + SECOND // 2, "set back, it runs at half speed"
    simulation.crash("a")
    simulation.restart("a")
    simulation.submit("a", [])
    simulation.run_for(0)
    assert simulation.core("a").clocks == [EPOCH_US + 3 * SECOND - 10 * SECOND]


def test_a_peer_that_came_back_quickly_is_a_new_link() -> None:
    simulation = probes(Faults())
    simulation.submit("b", [Send("a", b"to the old one")])
    simulation.run_for(0)
    simulation.crash("a")
    simulation.restart("a")
    simulation.run_for(SECOND)
    assert simulation.core("b").links() == [Connected, Disconnected, Connected]
    assert simulation.core("a").frames() == [], "a frame into an old connection must not come out of a new one"


def test_every_step_can_be_watched() -> None:
    simulation = probes(Faults())
    watched: list[str] = []
    simulation.on_step = lambda _, name: watched.append(name)
    simulation.submit("b", [])
    simulation.run_for(0)
    assert watched == ["b"]


def test_a_disk_syncs_one_group_at_a_time() -> None:
    disk = Disk()
    assert not disk.begin_sync()
    disk.write(persist(1))
    assert disk.begin_sync()
    assert not disk.begin_sync()
    disk.write(persist(2))
    assert disk.end_sync() == 1
    assert (disk.records, disk.unsynced) == ((b"record 1",), 1)
