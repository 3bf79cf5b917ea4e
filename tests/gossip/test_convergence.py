"""Whatever the network does, replicas that can talk again come to hold the same."""

from __future__ import annotations

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gossip import wire
from gossip.effects import Received
from gossip.network import Faults
from gossip.simulation import Simulation
from tests.gossip.toy import SECOND, Record, Toy, ToyNode, chain, cluster, extend, in_step

NAMES = ("north", "east", "south", "west")

faults = st.builds(
    Faults,
    latency_mean_us=st.sampled_from((500, 5_000, 80_000)),
    loss_ppm=st.sampled_from((0, 10_000, 200_000)),
    duplicate_ppm=st.sampled_from((0, 100_000)),
    reorder=st.booleans(),
    sync_us=st.sampled_from((2_000, 400_000)),
    torn=st.booleans(),
)
names = st.sampled_from(NAMES)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("record"), names, st.integers(1, 6)),
        st.tuples(st.just("split"), names, names),
        st.tuples(st.just("isolate"), names),
        st.tuples(st.just("cut"), names, names),
        st.tuples(st.just("clog"), names, names),
        st.tuples(st.just("heal")),
        st.tuples(st.just("crash"), names),
        st.tuples(st.just("lose"), names),
        st.tuples(st.just("restart"), names),
        st.tuples(st.just("wait"), st.integers(1, 3_000)),
    ),
    max_size=25,
)


def play(simulation: Simulation[ToyNode], schedule: list[tuple[object, ...]]) -> list[int]:
    """Carry out ``schedule``; returns the handles of all that was recorded."""
    handles: list[int] = []
    for what, *arguments in schedule:
        if what == "record":
            name, count = arguments
            for _ in range(int(str(count))):
                handles.append(len(handles))
                simulation.submit(str(name), Record(handles[-1], b"fact %d" % handles[-1]))
        elif what == "lose":  # power fails while a record is on its way to the disk, and comes back
            handles.append(len(handles))
            simulation.submit(str(arguments[0]), Record(handles[-1], b"fact %d" % handles[-1]))
            simulation.run_for(100_000)
            simulation.crash(str(arguments[0]))
            simulation.restart(str(arguments[0]))
        elif what == "split":
            chosen = {str(name) for name in arguments}
            simulation.partition([chosen, set(NAMES) - chosen])
        elif what == "clog":
            simulation.clog(str(arguments[0]), str(arguments[1]), 5 * SECOND, SECOND)
        elif what == "wait":
            simulation.run_for(int(str(arguments[0])) * 1000)
        else:
            getattr(simulation, str(what))(*arguments)
    return handles


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(faults=faults, schedule=steps, seed=st.integers(0, 2**32))
def test_replicas_converge_after_any_schedule_and_lose_nothing_acknowledged(
    faults: Faults, schedule: list[tuple[object, ...]], seed: int
) -> None:
    simulation = cluster(NAMES, faults, seed)
    simulation.run_for(SECOND)
    play(simulation, schedule)
    simulation.heal()
    for name in NAMES:
        simulation.restart(name)
    simulation.run_for(SECOND)
    assert simulation.run_until(lambda: in_step(simulation), 600 * SECOND)
    for name in NAMES:
        replica = simulation.core(name).replica
        held = {raw for raws in replica.lanes.values() for raw in raws}
        assert set(simulation.replies.values()) <= held
        assert not replica.proofs, "an honest node was framed"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    faults=faults,
    fork_at=st.integers(1, 4),
    lengths=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    late=names,
    seed=st.integers(0, 2**32),
)
def test_evidence_of_a_fork_reaches_everybody_also_who_comes_late(
    faults: Faults, fork_at: int, lengths: tuple[int, int], late: str, seed: int
) -> None:
    """A member shows one history to one node and another to a second; both sides are cut off when it does."""
    simulation = cluster((*NAMES, "liar"), faults, seed)
    simulation.run_for(20 * SECOND)
    common = chain(b"liar's lane", fork_at - 1)
    one, other = (
        extend(b"liar's lane", common, salt, 1 + more) for salt, more in zip((b"A", b"B"), lengths, strict=True)
    )
    told, told_otherwise, *_ = [name for name in NAMES if name != late]
    simulation.crash(late)
    simulation.partition([[told], [told_otherwise]])
    for name, branch in ((told, one), (told_otherwise, other)):
        push = wire.encode(wire.Push(tuple(common + branch)))
        simulation.submit(name, Received("liar", push))
    simulation.run_for(SECOND)
    simulation.heal()
    simulation.run_for(SECOND)
    simulation.restart(late)

    def everybody_knows() -> bool:
        return all(simulation.core(name).replica.proofs for name in NAMES)

    assert simulation.run_until(everybody_knows, 600 * SECOND)
    for name in NAMES:
        for proof in simulation.core(name).replica.proofs.values():
            sides = [msgspec.msgpack.decode(side, type=Toy) for side in msgspec.msgpack.decode(proof)]
            assert {side.lane for side in sides} == {b"liar's lane"}


def test_a_node_far_behind_catches_up_while_others_record() -> None:
    simulation = cluster(NAMES, Faults(loss_ppm=20_000), seed=3)
    simulation.run_for(SECOND)
    simulation.crash("west")
    for at in range(600):
        simulation.submit(NAMES[at % 3], Record(at, bytes(2_000)))
        simulation.run_for(1_000)
    simulation.restart("west")
    for at in range(600, 700):
        simulation.submit(NAMES[at % 4], Record(at, b"meanwhile"))
        simulation.run_for(1_000)
    assert simulation.run_until(lambda: in_step(simulation), 60 * SECOND)
    assert sum(map(len, simulation.core("west").replica.lanes.values())) == len(simulation.replies)


def test_an_idle_cluster_says_little() -> None:
    simulation = cluster(NAMES, Faults(), seed=1)
    for at in range(100):
        simulation.submit(NAMES[at % 4], Record(at, b"fact"))
    simulation.run_for(5 * SECOND)
    frames, bytes_out = simulation.frames_sent, sum(s.bytes_out for s in simulation.core("west").engine.peers.values())
    simulation.run_for(100 * SECOND)
    assert simulation.frames_sent - frames <= 100 * 4 * 3
    assert sum(s.bytes_out for s in simulation.core("west").engine.peers.values()) - bytes_out < 100 * 3 * 80
