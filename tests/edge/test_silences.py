"""What a node remembers of who it lost sight of: told after the network has healed, by both sides, and bounded."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from crdtledger.edge import reading
from crdtledger.edge.simulate.cluster import NAMES, SECOND, Cluster
from gossip.machine import EPOCH_US
from gossip.peers import MAX_SILENCES, SILENT_US, Peer, PeerLimits

LONG = 20 * SECOND


def silences(cluster: Cluster, node: str) -> dict[str, list[dict[str, int]]]:
    """What ``node`` tells of its peers' silences that are over."""
    told = reading.heard(cluster.core(node), 0)
    return {holder["node"]: holder["silences"] for holder in told["holders"]}


def test_a_partition_is_told_after_it_healed_by_both_sides_and_not_within_one() -> None:
    cluster = Cluster()
    cluster.sim.run_for(5 * SECOND)
    began_us = EPOCH_US + cluster.sim.now_us
    cluster.sim.partition([NAMES[:2], NAMES[2:]])
    cluster.sim.run_for(LONG)
    assert not any(spells for node in NAMES for spells in silences(cluster, node).values()), "it is not over"
    cluster.sim.heal()
    healed_us = EPOCH_US + cluster.sim.now_us
    cluster.sim.run_for(LONG)
    for node in NAMES:
        for peer, spells in silences(cluster, node).items():
            if (node in NAMES[:2]) == (peer in NAMES[:2]):
                assert spells == []
                continue
            (spell,) = spells
            assert began_us - 2 * SECOND <= spell["from_us"] <= began_us + SECOND
            assert healed_us <= spell["to_us"] <= healed_us + LONG


def test_a_node_that_was_down_was_silent_and_itself_remembers_nothing() -> None:
    cluster = Cluster()
    cluster.sim.run_for(5 * SECOND)
    cluster.sim.crash("n1")
    cluster.sim.run_for(LONG)
    cluster.sim.restart("n1")
    cluster.sim.run_for(5 * SECOND)
    assert [len(silences(cluster, "n0")[peer]) for peer in NAMES] == [int(peer == "n1") for peer in NAMES]
    assert not any(silences(cluster, "n1").values())


@example([2 * SILENT_US] * (MAX_SILENCES + 6))
@given(st.lists(st.integers(0, 3 * SILENT_US), max_size=2 * MAX_SILENCES))
def test_the_newest_spells_that_were_too_long_are_remembered(gaps: list[int]) -> None:
    peer, now_us = Peer("p", PeerLimits()), 1
    peer.heard(now_us)
    spells = []
    for gap in gaps:
        peer.heard(now_us + gap)
        if gap > SILENT_US:
            spells.append((now_us, now_us + gap))
        now_us += gap
    assert list(peer.silences) == spells[-MAX_SILENCES:]
