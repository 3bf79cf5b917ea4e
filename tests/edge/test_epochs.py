"""A node whose disk is an old one: it opens a new epoch, forks nothing, spends nothing twice, and gets back what peers hold."""

from __future__ import annotations

import pytest

from crdtledger.edge import api
from crdtledger.edge.epochs import LaneTell
from crdtledger.edge.simulate.cluster import NAMES, SECOND, Cluster
from crdtledger.edge.simulate.watch import Watch
from crdtledger.edge.simulate.writing import account, deposit, grant, linear, void, withdrawal
from crdtledger.edge.simulate.writing import reserve as reserve_fact
from crdtledger.errors import InsufficientRights
from crdtledger.ledger.batch import Lane
from crdtledger.ledger.rightsmanager import RightsPolicy
from gossip.network import Faults


def fill(trade: int) -> dict[str, object]:
    return {
        "kind": "fill",
        "venue": "V",
        "trade_id": trade,
        "instrument": "PERP",
        "account": "A",
        "side": "buy",
        "qty": "1.000",
        "price": "10.00",
    }


def funded(seed: int = 0, faults: Faults | None = None) -> tuple[Cluster, Watch]:
    """A cluster in which every node may spend 100.00 of A's 400.00 USDT, in step, and none gives of it when asked."""
    cluster = Cluster(faults, seed, rights=RightsPolicy(share_ppm=0))
    watch = Watch(cluster)
    cluster.sim.run_for(SECOND)
    cluster.record("n0", account("A"), linear("PERP"), deposit("d", "A", "USDT", 40_000))
    cluster.record("n0", *(grant(f"g{name}", "A", "USDT", 10_000, name) for name in NAMES[1:]))
    assert cluster.sim.run_until(cluster.in_step, 60 * SECOND)
    return cluster, watch


def opened(cluster: Cluster, node: str) -> list[int]:
    """The epochs that a node said it opened."""
    return [
        note.fields["epoch"] for note in cluster.sim.notifications if (note.node, note.topic) == (node, "epoch.opened")
    ]


def agree(cluster: Cluster, watch: Watch) -> None:
    assert cluster.settle()
    watch.check_agreement()


def put_back(cluster: Cluster, watch: Watch, node: str, backup: tuple[bytes, ...], noticed: bool = True) -> None:
    cluster.sim.crash(node)
    cluster.replace_disk(node, backup, noticed)
    watch.disk_replaced(node)
    cluster.sim.restart(node)
    cluster.sim.run_for(1)


def test_a_restored_node_opens_a_new_epoch_and_gets_its_later_batches_back() -> None:
    cluster, watch = funded()
    backup = cluster.sim.durable_records("n1")
    cluster.record("n1", withdrawal("w", "A", "USDT", 4_000))
    cluster.record("n1", fill(1), fill(2))
    assert cluster.sim.run_until(cluster.in_step, 10 * SECOND)
    put_back(cluster, watch, "n1", backup)
    state = cluster.core("n1").epochs.state
    assert state.epoch == 2
    assert opened(cluster, "n1") == [1, 2]
    assert "restored" in state.locked or "incomplete" in state.locked
    agree(cluster, watch)
    assert cluster.spendable("n1") == 6_000, "exactly what the old epoch had left"
    assert cluster.core("n1").replica.view.positions.rows()[0].fills == 2


def test_a_restored_node_that_starts_alone_records_at_once_but_spends_nothing() -> None:
    cluster, watch = funded()
    backup = cluster.sim.durable_records("n1")
    cluster.record("n1", withdrawal("w1", "A", "USDT", 10_000))
    assert cluster.sim.run_until(cluster.in_step, 10 * SECOND)
    cluster.sim.isolate("n1")
    put_back(cluster, watch, "n1", backup)
    cluster.record("n1", fill(1))
    refusal = cluster.try_record("n1", withdrawal("w2", "A", "USDT", 1))
    assert isinstance(refusal, InsufficientRights)
    assert refusal.held_here == 0
    assert "epoch 2" in refusal.note
    cluster.sim.run_for(30 * SECOND)
    assert cluster.core("n1").epochs.state.locked, "nobody was heard"
    assert cluster.ask("n1", api.Query("status"))["locked_until"] == [
        f"{n} has not been heard" for n in ("n0", "n2", "n3")
    ]
    agree(cluster, watch)
    assert cluster.spendable("n1") == 0, "it had spent everything before the backup was put back"


def test_one_peer_that_is_out_of_reach_keeps_the_new_epoch_locked() -> None:
    cluster, watch = funded()
    backup = cluster.sim.durable_records("n1")
    cluster.sim.partition([["n1", "n3"], ["n0", "n2"]])
    cluster.record("n1", withdrawal("w1", "A", "USDT", 10_000))
    cluster.sim.run_for(SECOND)
    cluster.sim.partition([["n0", "n1", "n2"]])
    put_back(cluster, watch, "n1", backup)
    cluster.sim.run_for(30 * SECOND)
    assert isinstance(cluster.try_record("n1", withdrawal("w2", "A", "USDT", 1)), InsufficientRights)
    agree(cluster, watch)
    assert cluster.spendable("n1") == 0, "only n3 knew of the withdrawal"


def test_a_crash_does_not_unlock_an_epoch() -> None:
    cluster, watch = funded()
    cluster.sim.isolate("n1")
    put_back(cluster, watch, "n1", cluster.sim.durable_records("n1"))
    cluster.sim.run_for(SECOND)
    cluster.sim.crash("n1")
    cluster.sim.restart("n1")
    cluster.sim.run_for(SECOND)
    assert cluster.core("n1").epochs.state.epoch == 2
    assert isinstance(cluster.try_record("n1", withdrawal("w", "A", "USDT", 1)), InsufficientRights)
    agree(cluster, watch)
    assert cluster.spendable("n1") == 10_000


@pytest.mark.parametrize("times", [2, 3])
def test_rights_pass_through_every_epoch_of_a_node_restored_again_and_again(times: int) -> None:
    cluster, watch = funded()
    backup = cluster.sim.durable_records("n1")
    for turn in range(times):
        cluster.record("n1", withdrawal(f"w{turn}", "A", "USDT", 1_000))
        assert cluster.sim.run_until(cluster.in_step, 10 * SECOND)
        put_back(cluster, watch, "n1", backup)
        assert cluster.sim.run_until(cluster.in_step, 60 * SECOND), cluster.core("n1").epochs.missing()
    agree(cluster, watch)
    assert cluster.spendable("n1") == 10_000 - 1_000 * times


def test_a_lost_journal_is_refilled_by_the_peers() -> None:
    cluster, watch = funded()
    cluster.record("n0", withdrawal("w", "A", "USDT", 1_000))
    assert cluster.sim.run_until(cluster.in_step, 10 * SECOND)
    put_back(cluster, watch, "n0", ())
    agree(cluster, watch)
    assert cluster.spendable("n0") == 9_000


def test_a_connected_node_learns_from_its_peers_that_its_disk_is_an_old_one() -> None:
    cluster, watch = funded()
    backup = cluster.sim.durable_records("n1")
    cluster.record("n1", withdrawal("w", "A", "USDT", 10_000))
    assert cluster.sim.run_until(cluster.in_step, 10 * SECOND)
    put_back(cluster, watch, "n1", backup, noticed=False)
    assert cluster.sim.run_until(lambda: cluster.core("n1").epochs.state.epoch == 2, 10 * SECOND)
    agree(cluster, watch)
    assert cluster.spendable("n1") == 0


def test_a_batch_of_its_own_that_still_waits_for_others_tells_a_node_that_its_disk_is_an_old_one() -> None:
    """What it wrote instead of what is missing would clash with what waits."""
    cluster, watch = funded()
    backup = cluster.sim.durable_records("n1")
    cluster.record("n1", withdrawal("w", "A", "USDT", 4_000))
    cluster.record("n1", withdrawal("v", "A", "USDT", 6_000))
    assert cluster.sim.run_until(cluster.in_step, 10 * SECOND)
    lane = cluster.core("n1").recorder.lane.key
    later = cluster.core("n0").replica.batch(lane, cluster.core("n0").replica.head(lane).seq)
    assert later is not None
    cluster.sim.partition([["n1"], [name for name in NAMES if name != "n1"]])
    put_back(cluster, watch, "n1", backup, noticed=False)
    cluster.core("n1").replica.admit(later.raw)
    cluster.sim.run_for(5 * SECOND)
    cluster.record("n1", fill(1))
    assert cluster.core("n1").epochs.state.epoch == 2
    agree(cluster, watch)
    assert cluster.spendable("n1") == 0


def test_a_disk_from_before_a_restore_is_noticed_by_the_epoch_that_came_after() -> None:
    """The lane that the node would go on in is no longer than its peers know; but they know of a later one."""
    cluster, watch = funded()
    backup = cluster.sim.durable_records("n1")
    put_back(cluster, watch, "n1", backup)
    assert cluster.sim.run_until(cluster.in_step, 60 * SECOND)
    cluster.record("n1", withdrawal("w", "A", "USDT", 10_000))
    assert cluster.sim.run_until(cluster.in_step, 10 * SECOND)
    put_back(cluster, watch, "n1", backup, noticed=False)
    assert cluster.sim.run_until(lambda: cluster.core("n1").epochs.state.epoch == 3, 10 * SECOND)
    agree(cluster, watch)
    assert cluster.spendable("n1") == 0


@pytest.mark.parametrize("seed", range(6))
def test_a_disk_from_before_a_claim_does_not_claim_anew(seed: int) -> None:
    """A locked node claims by itself as soon as it knows all: it must know, too, that it has claimed before. On a network that loses much
    peers tell what they hold before it comes."""
    cluster, watch = funded(seed, Faults(loss_ppm=150_000, sync_us=100_000))
    backup = cluster.sim.durable_records("n1")
    cluster.record("n1", withdrawal("w", "A", "USDT", 4_000))
    assert cluster.sim.run_until(cluster.in_step, 60 * SECOND)
    cluster.sim.partition([["n1"], [name for name in NAMES if name != "n1"]])
    put_back(cluster, watch, "n1", backup)
    cluster.sim.run_for(SECOND)
    locked = cluster.sim.durable_records("n1")
    cluster.sim.heal()
    assert cluster.sim.run_until(cluster.in_step, 120 * SECOND)
    put_back(cluster, watch, "n1", locked, noticed=False)
    assert cluster.sim.run_until(lambda: cluster.core("n1").epochs.state.epoch == 3, 60 * SECOND)
    agree(cluster, watch)
    assert not any(cluster.core(name).replica.evidence() for name in NAMES)


def test_a_peer_tells_only_what_a_crash_cannot_take_back() -> None:
    """A peer that told of batches and then forgot them would keep the restored node locked for ever."""
    cluster, watch = funded(faults=Faults(sync_us=2 * SECOND))
    backup = cluster.sim.durable_records("n1")
    cluster.sim.partition([["n1", "n3"], ["n0", "n2"]])
    cluster.sim.run_for(SECOND)
    known = cluster.core("n3").position
    cluster.submit("n1", api.Record([withdrawal("w", "A", "USDT", 1_000)]))
    assert cluster.sim.run_until(lambda: cluster.core("n3").position > known, 10 * SECOND)
    assert cluster.core("n3").durable == known
    put_back(cluster, watch, "n1", backup)
    cluster.sim.run_until(lambda: "n3" not in cluster.core("n1").epochs.to_ask(), SECOND)
    assert cluster.core("n3").durable == known
    cluster.sim.crash("n3")
    agree(cluster, watch)


def test_a_reserve_of_the_old_epoch_stays_where_it_is() -> None:
    cluster, watch = funded()
    cluster.record("n1", reserve_fact("r", "A", "USDT", 3_000))
    assert cluster.sim.run_until(cluster.in_step, 10 * SECOND)
    put_back(cluster, watch, "n1", cluster.sim.durable_records("n1"))
    agree(cluster, watch)
    assert cluster.spendable("n1") == 7_000
    assert cluster.try_record("n1", void("v", "r")) is not None, "only the lane that made it may void it"
    agree(cluster, watch)


def test_frames_of_the_life_before_do_not_overtake_the_new_connection() -> None:
    """A batch still on its way when its node is restored must not turn up after its receiver told what it holds."""
    cluster, watch = funded(faults=Faults(reorder=True))
    backup = cluster.sim.durable_records("n1")
    for peer in ("n0", "n2", "n3"):
        cluster.sim.clog("n1", peer, 300_000, 60 * SECOND)
    cluster.record("n1", withdrawal("w", "A", "USDT", 10_000))
    cluster.sim.run_for(300_000)
    put_back(cluster, watch, "n1", backup)
    assert cluster.sim.run_until(cluster.in_step, 30 * SECOND)
    cluster.record("n1", withdrawal("w2", "A", "USDT", 10_000))  # of the first nobody knows, and nobody ever will
    cluster.sim.run_for(120 * SECOND)
    agree(cluster, watch)


def test_a_peer_that_lost_what_it_told_of_is_asked_again_and_holds_nobody_up_for_ever() -> None:
    cluster, watch = funded()
    backup = cluster.sim.durable_records("n1")
    cluster.sim.isolate("n1")
    put_back(cluster, watch, "n1", backup)
    epochs = cluster.core("n1").epochs
    lost = Lane(epochs.lane.node, 1, b"12345678").key
    epochs.told("n2", LaneTell(epochs.state.epoch, ((lost, 5),)))
    assert "n2 holds epoch 1 up to 5, this node up to 0" in epochs.missing()
    assert epochs.to_ask() == ["n0", "n2", "n3"], "n2 may say something else by now"
    agree(cluster, watch)
    assert not epochs.state.locked, "n2 does not hold it any more, and nobody else does"
