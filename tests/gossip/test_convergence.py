"""Whatever the network does, replicas that can talk again come to hold the same."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gossip.network import Faults
from gossip.simulation import Simulation
from tests.gossip.toy import SECOND, Record, ToyNode, cluster, in_step

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
