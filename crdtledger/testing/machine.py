"""A cluster under a Hypothesis state machine: clients record, everything goes wrong, and nothing that is promised may break.

    class Desk(ClusterMachine):
        def facts(self):
            return st.builds(withdrawal, st.sampled_from(("10.00", "90.00")))

    TestDesk = Desk.TestCase

Real node cores run in the simulator. ``Watch`` (``edge.simulate.watch``) looks after every step of it: nothing acknowledged is
lost, nothing is spent twice, views are exact. At the end everything is healed and all nodes must agree. What is one's own is
added by overriding ``facts``, ``opening``, ``check_node`` and ``check_agreement``, by further rules (with ``begin_step``, ``record``
and ``wait``) and by Hypothesis' ``@invariant``. ``dress`` is where a test plants a bug.

Made for shrinking. A step draws little and what it draws is independent of other steps; the simplest values do nothing; chances of
faults are shrunk towards none, and single frames are lost by count (``drop``). Ids are numbers of steps. A failure carries its
``Story`` as a note, and Hypothesis prints the line that plays it again.

After MacIver, Hatfield-Dodds et al., "Hypothesis: a new approach to property-based testing" (JOSS 2019), and Hughes, "Experiences with
QuickCheck: testing the hard stuff and staying sane" (2016), for machines over distributed stores.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from crdtledger.edge import api
from crdtledger.edge.core import NodeCore
from crdtledger.edge.simulate.cluster import SECOND, Cluster
from crdtledger.edge.simulate.watch import Watch
from crdtledger.edge.simulate.witness import Slots, Witness
from crdtledger.edge.simulate.writing import Json, said
from crdtledger.testing import deskfacts
from crdtledger.testing.steps import Backups, Operation, perform
from crdtledger.testing.story import Story, count_in_words, facts_in_words, sides_in_words, time_in_words
from gossip.network import Faults

LIMIT_S = 600
"""How long, in virtual time, a cluster that nothing hinders any more may take to agree."""


def budget(**changes: Any) -> settings:
    """What a machine is given to find something: 100 examples of 50 steps, unless ``changes`` say otherwise."""
    given = {"max_examples": 100, "stateful_step_count": 50, "deadline": None, "print_blob": True}
    calm = {"report_multiple_bugs": False, "suppress_health_check": list(HealthCheck)}
    return settings(**{**given, **calm, **changes})


def of_machine(ask: Callable[[Any], st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """A strategy that the machine at hand is asked for: so a subclass can say otherwise."""
    return st.runner().flatmap(ask)


@functools.cache
def _one_of(values: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


@functools.cache
def _sides(count: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*(st.integers(0, 2) for _ in range(count)))


some_node = of_machine(lambda machine: _one_of(machine.nodes))
pause = of_machine(lambda machine: _one_of(machine.pauses_us))
few = st.integers(1, 3)


class _Dressed(Cluster):
    """A cluster whose cores go through ``dress`` before they start; what a validator says is heard by a witness."""

    def __init__(self, dress: Callable[[str, NodeCore], Any], *arguments: Any, **options: Any) -> None:
        self._dress = dress
        self._slots: Slots = {}
        super().__init__(*arguments, **options)

    def _start(self, name: str, records: Sequence[bytes], incarnation: int) -> Any:
        core = super()._start(name, records, incarnation)
        return Witness(core, records, self._slots) if core.checkpoints else core

    def build(self, name: str, *arguments: Any) -> Any:
        return self._dress(name, super().build(name, *arguments))


class ClusterMachine(RuleBasedStateMachine):
    """Subclass it. ``cluster``, ``watch``, ``story`` and ``seed`` are there once an example has begun.

    ``nodes``: their names. ``faults``: how bad the network and the disks are, drawn once an example. ``pauses_us``: how much
    virtual time may pass after a step, least first.
    """

    nodes: ClassVar[tuple[str, ...]] = ("n0", "n1", "n2")
    pauses_us: ClassVar[tuple[int, ...]] = (0, 3_000, 300_000, 2_000_000)
    faults: ClassVar[st.SearchStrategy[Faults]] = st.builds(
        Faults,
        latency_mean_us=st.sampled_from((200, 5_000, 80_000)),
        loss_ppm=st.sampled_from((0, 10_000, 150_000)),
        duplicate_ppm=st.sampled_from((0, 100_000)),
        reorder=st.booleans(),
        sync_us=st.sampled_from((2_000, 100_000)),
        torn=st.booleans(),
        trace_lines=st.just(0),
    )

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.TestCase.settings = budget()

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Operation] = []
        self.story = Story("nothing has happened yet")
        self._outside = sys.exception()

    # -- what a subclass may say otherwise ------------------------------------------------------------------

    def facts(self) -> st.SearchStrategy[Json]:
        """One fact that a client records, as in the client protocol; without an ``id`` it gets the step's."""
        return deskfacts.facts(self.nodes)

    def opening(self) -> Sequence[tuple[str, list[Json]]]:
        """(node, facts) recorded before anything goes wrong."""
        return deskfacts.opening(self.nodes)

    def options(self) -> dict[str, Any]:
        """More arguments for the ``Cluster``, for instance policies."""
        return {}

    def dress(self, name: str, core: NodeCore) -> Any:
        """A core that is about to start, or to replay a journal: give back what shall run in its place."""
        return core

    def check_node(self, name: str, core: NodeCore) -> None:
        """Raise if a node is not as it must be, after any of its steps."""

    def check_agreement(self) -> None:
        """Raise if the nodes, which are healed and have agreed, are not as they must be."""

    # -- how an example begins and ends ---------------------------------------------------------------------

    @initialize(faults=of_machine(lambda machine: machine.faults), seed=st.integers(0, 255))
    def begin(self, faults: Faults, seed: int) -> None:
        """Found a cluster and record its opening; then its disks are backed up."""
        self.found(faults, seed)
        for node, facts in self.opening():
            self.record(node, *facts)
        self.wait_until(self.cluster.in_step)
        for name in self.nodes:
            self.do("backup", name)

    def found(self, faults: Faults, seed: int) -> None:
        """A cluster of ``nodes`` that is watched, half a second old."""
        self.drawn, self.seed = faults, seed
        self.cluster: Cluster = _Dressed(self.dress, faults, seed, self.nodes, **self.options())
        self.watch = Watch(self.cluster)
        self.backups: Backups = {name: [] for name in self.nodes}
        look = self.cluster.sim.on_step
        assert look is not None

        def look_closer(sim: Any, name: str) -> None:
            look(sim, name)
            if name in sim.up():
                self.check_node(name, self.cluster.core(name))

        self.cluster.sim.on_step = look_closer
        self.story = Story(
            f"{type(self).__name__}, seed {seed}, nodes {','.join(self.nodes)}, {faults_in_words(faults)}"
        )
        self.story.replies = self.cluster.sim.replies
        self.do("run", 500_000)

    def teardown(self) -> None:
        """Heal everything and demand agreement; or, if the example has failed, tell its story."""
        failed = sys.exception()
        if failed is self._outside:
            try:
                if hasattr(self, "watch"):
                    self.finish()
            except Exception as error:
                error.add_note(self.story.tell(error))
                raise
        elif isinstance(failed, Exception):
            failed.add_note(self.story.tell(failed))

    def finish(self) -> None:
        """The end of an example that held: heal, agree, check."""
        self.story.then("at last all is healed and everybody started")
        self.agree("after everything was healed")

    def agree(self, when: str) -> None:
        """Demand agreement, and that it is the right one."""
        assert self.cluster.settle(LIMIT_S * SECOND), f"no agreement {when}: {self.locked()}"
        self.watch.check_agreement(brief=True)
        self.check_agreement()

    # -- what clients do ------------------------------------------------------------------------------------

    @rule(node=some_node, fact=of_machine(lambda machine: machine.facts()), pause_us=pause)
    def record_fact(self, node: str, fact: Json, pause_us: int) -> None:
        """A client has a node record something."""
        if "id" not in fact and fact["kind"] not in ("fill", "bust", "account", "instrument"):
            fact = {"kind": fact["kind"], "id": f"{fact['kind'][0]}{len(self.story) + 1}", **fact}
        self.begin_step(f"{node} records {facts_in_words([fact])}" + self.unless_up(node, ", but it is down"))
        self.record(node, fact)
        self.wait(pause_us)

    # -- what goes wrong ------------------------------------------------------------------------------------

    @rule(us=st.sampled_from((1_000, 50_000, 700_000, 2_500_000)))
    def deliver(self, us: int) -> None:
        """Frames flow for a while."""
        self.begin_step(f"{time_in_words(us)} pass")
        self.do("run", us)

    @rule(events=st.integers(1, 8))
    def deliver_one_by_one(self, events: int) -> None:
        """A few things happen, of those that are due."""
        self.begin_step(f"the next {count_in_words(events, 'thing')} happen")
        for _ in range(events):
            self.do("step")

    @rule(side_of=of_machine(lambda machine: _sides(len(machine.nodes))), pause_us=pause)
    def partition(self, side_of: tuple[int, ...], pause_us: int) -> None:
        """Sides are cut off from each other."""
        sides = [[name for name, at in zip(self.nodes, side_of, strict=True) if at == side] for side in range(3)]
        self.cut_into([side for side in sides if side])
        self.wait(pause_us)

    @rule(pause_us=pause)
    def heal(self, pause_us: int) -> None:
        """No partition, no cuts."""
        self.begin_step("the network is healed")
        self.do("heal")
        self.wait(pause_us)

    @rule(source=some_node, sink=some_node)
    def cut_one_way(self, source: str, sink: str) -> None:
        """Frames vanish, one way."""
        self.begin_step(f"whatever {source} sends {sink} is lost from now on")
        self.do("cut", source, sink)

    @rule(source=some_node, sink=some_node, extra_us=st.sampled_from((200_000, 4_000_000)))
    def clog(self, source: str, sink: str, extra_us: int) -> None:
        """Frames are slow for two seconds, one way."""
        self.begin_step(f"for 2 s, what {source} sends {sink} takes {time_in_words(extra_us)} longer")
        self.do("clog", source, sink, 2 * SECOND, extra_us)

    @rule(source=some_node, sink=some_node, frames=few)
    def drop(self, source: str, sink: str, frames: int) -> None:
        """A few frames vanish."""
        self.begin_step(f"the next {count_in_words(frames, 'frame')} from {source} to {sink} will be lost")
        self.do("lose", source, sink, frames)

    @rule(source=some_node, sink=some_node, frames=few)
    def duplicate(self, source: str, sink: str, frames: int) -> None:
        """A few frames arrive twice."""
        self.begin_step(f"the next {count_in_words(frames, 'frame')} from {source} to {sink} will arrive twice")
        self.do("repeat", source, sink, frames)

    @rule(node=some_node, pause_us=pause)
    def crash(self, node: str, pause_us: int) -> None:
        """The power fails: memory and unsynced writes are gone."""
        self.begin_step(f"{node} " + self.unless_up(node, "is down already"))
        self.power_off(node)
        self.wait(pause_us)

    @rule(node=some_node, pause_us=pause)
    def restart(self, node: str, pause_us: int) -> None:
        """Power on, from what is on the disk."""
        self.begin_step(f"{node} " + (self.unless_up(node, "starts again") or "is up already"))
        self.do("restart", node)
        self.wait(pause_us)

    @rule(node=some_node, offset_us=st.sampled_from((0, 700_000, 3_600 * SECOND, -50_000, -3_600 * SECOND)))
    def jump_clock(self, node: str, offset_us: int) -> None:
        """A node's clock is set."""
        self.begin_step(
            f"the clock of {node} is set {time_in_words(abs(offset_us))} {'back' if offset_us < 0 else 'ahead'}"
        )
        self.do("skew", node, offset_us)

    @rule(node=some_node)
    def back_up(self, node: str) -> None:
        """A copy of a disk is put aside."""
        self.begin_step(f"the disk of {node} is backed up")
        self.do("backup", node)

    @rule(node=some_node, which=st.integers(0, 3), pause_us=pause)
    def restore(self, node: str, which: int, pause_us: int) -> None:
        """A backup is put back, and the journal knows. The node must be careful."""
        self.begin_step(f"the disk of {node} is replaced by backup {which % len(self.backups[node])}")
        self.put_back(node, which, noticed=True)
        self.wait(pause_us)

    @rule(node=some_node, which=st.integers(0, 3))
    def roll_back(self, node: str, which: int) -> None:
        """A backup is put back and the journal does not know, nor can it; but its peers are there, and tell it."""
        self.begin_step(
            f"all is healed, and the disk of {node} is rolled back to backup {which % len(self.backups[node])} unnoticed"
        )
        assert self.roll_back_unnoticed(node, which), (
            f"{node} did not notice that its disk is an old one: {self.locked()}"
        )

    @invariant()
    def views_are_exact(self) -> None:
        """Each node that has synced all it holds shows what the plain ledger shows."""
        for name in self.cluster.sim.up():
            self.watch.check_views(name)

    # -- to make rules of -----------------------------------------------------------------------------------

    def begin_step(self, words: str) -> None:
        """Call first in a rule: what it does, for the story."""
        self.story.step(words)

    def do(self, *operation: Any) -> Any:
        """Carry out one operation on the cluster (``steps.perform``)."""
        self.log.append(operation)
        return perform(self.cluster, self.backups, operation)

    def wait(self, us: int) -> None:
        """Let ``us`` microseconds of virtual time pass."""
        if us:
            self.story.then(f"{time_in_words(us)} pass")
        self.do("run", us)

    def wait_until(self, predicate: Callable[[], bool], limit_s: int = 300) -> bool:
        """Run in steps of a tenth of a second, so that a replay needs no predicate. Whether it came true."""
        for _ in range(limit_s * 10):
            if predicate():
                return True
            self.do("run", 100_000)
        return False

    def record(self, node: str, *facts: Json) -> None:
        """Ask ``node`` to record facts in one call. Nobody waits: the answer comes when it comes, none from a node that is down."""
        self.submit(node, api.Record(list(facts)), facts)

    def submit(self, node: str, request: api.Request, facts: Sequence[Json]) -> None:
        """Hand a request to ``node`` whose good answer acknowledges ``facts``."""
        if node not in self.cluster.sim.up():
            return
        handle = self.do("submit", node, request)
        self.watch.expect(handle, map(said, facts))
        self.story.asked(handle)
        self.do("run", 0)

    def cut_into(self, sides: Sequence[Sequence[str]]) -> None:
        """Cut the network into sides."""
        self.begin_step(f"{sides_in_words(sides)} cut" if len(sides) > 1 else "everybody is on one side")
        self.do("partition", sides)

    def power_off(self, node: str) -> None:
        """Crash a node if it is up, and see whether its disk holds what it must."""
        if node not in self.cluster.sim.up():
            return
        core = self.cluster.core(node)
        unsynced, held = core.position - core.durable, len(self.cluster.sim.durable_records(node))
        self.do("crash", node)
        kept = len(self.cluster.sim.durable_records(node)) - held
        survived = f", of which {count_in_words(kept, 'record')} survive" if kept else ""
        self.story.then(f"{node} crashes, {count_in_words(unsynced, 'unsynced write')} lost{survived}")
        self.watch.check_disk(node)

    def put_back(self, node: str, which: int, noticed: bool) -> None:
        """Start a node from one of its backups."""
        self.do("crash", node)
        self.do("replace", node, which % len(self.backups[node]), noticed)
        self.watch.disk_replaced(node)
        self.do("restart", node)
        self.do("run", 1)

    def roll_back_unnoticed(self, node: str, which: int) -> bool:
        """Heal, agree, and put a backup under a node that cannot tell. Whether it found out, if there was something to find."""
        self.do("heal")
        for name in self.nodes:
            self.do("restart", name)
        self.do("run", 1)
        assert self.wait_until(self.cluster.in_step), f"no agreement before the rollback: {self.locked()}"
        epochs = self.cluster.core(node).epochs
        before, lane = epochs.state.epoch, epochs.lane.key
        head = self.cluster.core(node).replica.head(lane).seq
        self.put_back(node, which, noticed=False)
        core = self.cluster.core(node)
        if sum(entry.lane == lane for entry in self.watch.disks[node]) == head:
            return True
        return self.wait_until(lambda: core.epochs.state.epoch > before and core.durable == core.position)

    def unless_up(self, node: str, words: str) -> str:
        """``words`` if ``node`` is down, else nothing."""
        return "" if node in self.cluster.sim.up() else words

    def locked(self) -> str:
        """Who may not spend, and why."""
        missing = {name: self.cluster.core(name).epochs.missing() for name in self.cluster.sim.up()}
        return ", ".join(f"{name}: {why}" for name, why in missing.items() if why) or "nobody is locked"


def faults_in_words(faults: Faults) -> str:
    """The faults that are not the calmest there are, one after the other."""
    calm = Faults(latency_mean_us=200, trace_lines=0)
    changed = {
        name: value for name in Faults.__struct_fields__ if (value := getattr(faults, name)) != getattr(calm, name)
    }
    return ", ".join(f"{name} {value}" for name, value in changed.items()) or "a calm network"
