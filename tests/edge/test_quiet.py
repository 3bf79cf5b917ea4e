"""A node that is started again says nothing by itself before others told what they hold of its lane: its disk may be an old one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from crdtledger.edge.epochs import QUIET_US, Epochs
from crdtledger.edge.simulate import writing as facts
from crdtledger.edge.simulate.cluster import SECOND, Cluster
from crdtledger.edge.simulate.watch import Watch
from crdtledger.errors import InvariantBroken
from crdtledger.ledger.journalrecord import JournalRecord, decode_record
from gossip.machine import EPOCH_US
from tests.edge.markets import HOMES, PERP, order

MINUTE = 60 * SECOND
AMOUNT = 10_000_000


def market(**options: Any) -> tuple[Cluster, Watch]:
    """A cluster without agreement in which A sells at n0 and B may buy at n1."""
    it = Cluster(seed=4, **options)
    watch = Watch(it)
    it.sim.run_for(SECOND)
    it.record("n0", facts.linear(PERP, margin_ppm=100_000), *(facts.account(name) for name in HOMES))
    it.record("n0", *(facts.deposit(f"d {name}", name, "USDT", AMOUNT) for name in HOMES))
    it.record(
        "n0", *(facts.grant(f"g {name}", name, "USDT", AMOUNT, home) for name, home in HOMES.items() if home != "n0")
    )
    assert it.settle()
    it.record("n0", order("a", "A", "sell", 4_000, 10_000))
    assert it.settle()
    return it, watch


def roll_back(it: Cluster, watch: Watch, node: str, to: int) -> None:
    """Put a disk with so many records of the present one under ``node``, which cannot tell."""
    records = it.sim.durable_records(node)[:to]
    it.sim.crash(node)
    it.replace_disk(node, records, noticed=False)
    watch.disk_replaced(node)
    it.sim.restart(node)


def answered(it: Cluster) -> int:
    """n1 matches what n0 sells; n0 answers. How many records its disk had before it answered."""
    lane = it.core("n0").recorder.lane.key
    seq = it.core("n0").replica.head(lane).seq
    it.record("n1", order("b", "B", "buy", 1_000, 10_000))
    assert it.sim.run_until(lambda: it.core("n0").replica.head(lane).seq > seq, MINUTE)
    assert it.settle()
    records = [decode_record(raw) for raw in it.sim.durable_records("n0")]
    return next(
        n for n, one in enumerate(records) if isinstance(one, JournalRecord) and (one.lane, one.seq) == (lane, seq + 1)
    )


def on_an_old_disk_with_an_unanswered_match() -> None:
    it, watch = market()
    before = answered(it)
    roll_back(it, watch, "n0", before)
    it.sim.run_for(10 * SECOND)
    assert it.core("n0").epochs.state.epoch == 2
    assert it.settle()
    watch.check_agreement()
    assert [row.state for row in it.core("n2").replica.view.match_rows()] == ["accepted"]


def on_an_old_disk_with_a_reserve_that_has_ended() -> None:
    it, watch = market()
    it.record("n0", {**facts.reserve("r", "A", "USDT", 100), "expires_us": EPOCH_US + it.sim.now_us + 5 * SECOND})
    assert it.settle()
    size = len(it.sim.durable_records("n0"))
    it.record("n0", facts.account("E"))
    assert it.settle()
    it.sim.crash("n0")
    it.sim.run_for(10 * SECOND)
    roll_back(it, watch, "n0", size)
    it.sim.run_for(10 * SECOND)
    assert it.core("n0").epochs.state.epoch == 2
    assert it.settle()
    watch.check_agreement()


STORIES = (on_an_old_disk_with_an_unanswered_match, on_an_old_disk_with_a_reserve_that_has_ended)


@pytest.mark.parametrize("story", STORIES)
def test_a_node_hears_of_its_lane_before_it_says_anything_by_itself(story: Callable[[], None]) -> None:
    story()


@pytest.mark.parametrize("story", STORIES)
def test_without_the_quiet_it_would_fork_its_lane(story: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Epochs, "quiet", property(lambda _: False))
    with pytest.raises(InvariantBroken, match="accountability"):
        story()


def test_a_node_that_is_told_nothing_waits_no_longer_than_it_says() -> None:
    it, _ = market()
    it.sim.isolate("n0")
    it.sim.crash("n0")
    it.sim.restart("n0")
    core = it.core("n0")
    assert core.epochs.quiet
    it.sim.run_for(QUIET_US // 2)
    assert core.epochs.quiet
    it.sim.run_for(QUIET_US)
    assert not core.epochs.quiet
    assert core.orders.settled_down
