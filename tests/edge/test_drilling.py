"""A node that forks its own lane in a drill: everybody names it, nothing that was recorded is lost, and it goes on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.edge import api
from crdtledger.edge.drilling import branches
from crdtledger.edge.simulate.cluster import NAMES, SECOND, Cluster
from crdtledger.edge.simulate.writing import account, deposit, withdrawal
from crdtledger.errors import BadInput
from crdtledger.ledger.batch import fork_evidence, open_batch, open_evidence
from crdtledger.ledger.genesis import Policies
from crdtledger.ledger.replica import Applied, Forked, Replica
from reconcile.history import History


def drilled(it: Cluster, name: str = "n1") -> dict[str, object]:
    answer: dict[str, object] = it.ask(name, api.Fork(name))
    return answer


def connected(it: Cluster) -> bool:
    return all(
        sum(peer.connected and peer.greeted for peer in it.core(name).engine.peers.values()) == len(it.names) - 1
        for name in it.names
    )


def started(seed: int = 0, names: tuple[str, ...] = NAMES, policies: Policies | None = None) -> Cluster:
    it = Cluster(seed=seed, names=names, policies=policies)
    assert it.sim.run_until(lambda: connected(it), 30 * SECOND)
    return it


def test_the_two_branches_hold_each_alone_and_prove_a_fork_together() -> None:
    it = started()
    it.record("n1", account("A"))
    recorder = it.core("n1").recorder
    one, other = branches(recorder, SECOND)
    for branch in (one, other):
        assert open_batch(branch.raw, it.genesis).seq == recorder.replica.head(recorder.lane.key).seq + 1
        assert branch.facts == 0, "no fact of anybody hangs on it"
    witness = Replica(it.genesis)
    for batch in recorder.replica.batches():
        witness.admit(batch.raw)
    assert isinstance(witness.admit(one.raw), Applied)
    outcome = witness.admit(other.raw)
    assert isinstance(outcome, Forked)
    assert open_evidence(fork_evidence(one, other).raw, it.genesis).lane == recorder.lane.key
    assert recorder.replica.head(recorder.lane.key).seq == one.seq - 1, "the node itself holds neither"


@given(seed=st.integers(0, 1 << 20), size=st.integers(2, 5))
def test_every_other_node_names_the_forked_lane_and_what_was_recorded_still_counts(seed: int, size: int) -> None:
    names = tuple(f"n{number}" for number in range(size))
    it = started(seed, names)
    it.record("n0", account("A"), deposit("d1", "A", "USDT", 1000))
    it.record("n1", account("B"))
    assert it.settle()
    lane = it.core("n1").recorder.lane.key
    before = it.core("n1").replica.head(lane)
    told = drilled(it)
    assert told["seq"] == before.seq + 1
    shown = [peer for branch in told["branches"] for peer in branch["peers"]]  # type: ignore[attr-defined]
    assert set(shown) == set(names) - {"n1"}
    it.record("n1", account("C"))
    assert it.settle()
    for name in names:
        core = it.core(name)
        assert core.replica.head(lane).fork_seq == before.seq + 1
        assert core.replica.head(lane).seq == before.seq
        assert {"A", "B", "C"} <= core.replica.view.catalog.labels.keys()
        rows = it.ask(name, api.Query("breaks"))
        assert any("n1" in str(row) for row in rows)
        assert not any(other in str(row) for row in rows for other in set(names) - {"n1"})
    assert it.core("n1").recorder.lane.key != lane
    assert not it.core("n1").epochs.state.locked, "it spends again once it has heard all of them"


def open_forks(it: Cluster) -> list[int]:
    """How many forks each node says that no checkpoint has closed."""
    return [it.ask(name, api.Query("status"))["open_forks"] for name in it.names]  # type: ignore[index]


def test_the_rest_go_on_settling_and_take_the_evidence_in() -> None:
    it = started(policies=Policies(agreement="tendermint", checkpoint_interval_ms=200))
    it.record("n0", account("A"), deposit("d1", "A", "USDT", 1000))
    lane = it.core("n1").recorder.lane.key
    drilled(it)
    it.record("n2", account("C"))
    assert it.sim.run_until(lambda: open_forks(it) == [1] * len(NAMES), 60 * SECOND), "known, and not settled yet"

    def taken_in() -> bool:
        cores = [it.core(name) for name in NAMES]
        closed = all(core.replica.state.lanes.get(lane) and core.replica.state.lanes[lane].closed for core in cores)
        return closed and not any(core.replica.unsettled() for core in cores)

    assert it.sim.run_until(taken_in, 60 * SECOND)
    assert open_forks(it) == [0] * len(NAMES)
    it.record("n1", account("D"))
    assert it.sim.run_until(lambda: all("D" in it.core(name).replica.state.labels for name in NAMES), 60 * SECOND)
    for name in NAMES:
        history = History(it.genesis)
        judged = [history.extend(stored) for stored in it.stores[name]]
        assert sum(len(one.checkpoint.evidence) for one in judged) == 1


def test_rights_that_the_forked_lane_held_are_spent_once() -> None:
    it = started(3)
    it.record("n0", account("A"), deposit("d1", "A", "USDT", 1000))
    assert it.settle()
    drilled(it, "n0")
    assert it.settle()
    it.record("n0", withdrawal("w1", "A", "USDT", 900))
    assert it.try_record("n0", withdrawal("w2", "A", "USDT", 200)) is not None


def test_the_drill_is_refused_to_whoever_means_another_node_and_where_nobody_would_see_it() -> None:
    it = started()
    with pytest.raises(BadInput, match="this is n1"):
        it.ask("n1", api.Fork("n2"))
    it.sim.partition([["n0"], ["n1", "n2", "n3"]])
    assert it.sim.run_until(lambda: not any(p.connected for p in it.core("n0").engine.peers.values()), 120 * SECOND)
    with pytest.raises(BadInput, match="nobody would see"):
        it.ask("n0", api.Fork("n0"))
    assert it.settle()
    assert not it.core("n1").replica.evidence()
