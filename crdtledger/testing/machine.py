"""A cluster under a Hypothesis state machine: clients record, everything goes wrong, and nothing that is promised may break.

    class Desk(ClusterMachine):
        def facts(self):
            return st.builds(withdrawal, st.sampled_from(("10.00", "90.00")))

    TestDesk = Desk.TestCase

Real node cores run in the simulator. ``Watch`` (``edge.simulate.watch``) looks after every step of it: nothing acknowledged is
lost, nothing is spent twice, views are exact. At the end everything is healed and all nodes must agree. What is one's own is
added by overriding ``facts``, ``opening``, ``check_node`` and ``check_agreement``, by further rules (with ``begin_step``, ``record``
and ``wait``, or with ``have_recorded``) and by Hypothesis' ``@invariant``. ``dress`` is where a test plants a bug.

Made for shrinking. A step draws little and what it draws is independent of other steps; the simplest values do nothing; chances of
faults are shrunk towards none, and single frames are lost by count (``drop``). Ids are numbers of steps. A failure carries its
``Story`` as a note, and Hypothesis prints the line that plays it again.

After MacIver, Hatfield-Dodds et al., "Hypothesis: a new approach to property-based testing" (JOSS 2019), and Hughes, "Experiences with
QuickCheck: testing the hard stuff and staying sane" (2016), for machines over distributed stores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from crdtledger.edge.simulate import writing
from crdtledger.edge.simulate.cluster import NAMES, SECOND
from crdtledger.edge.simulate.nemesis import caught_up
from crdtledger.edge.simulate.writing import Json
from crdtledger.errors import InvariantBroken
from crdtledger.testing.drawing import moments, of_machine, pick, pick_once, splits, ways
from crdtledger.testing.stage import Stage
from crdtledger.testing.story import facts_in_words, next_in_words, sides_in_words, time_in_words
from gossip.network import Faults


def budget(**changes: Any) -> settings:
    """What a machine is given to find something: 150 examples of 30 steps, unless ``changes`` say otherwise. Not Hypothesis' phase that
    explains which draws matter: it runs a hundred more examples, slowly, and what it says of draws the story says of steps."""
    given = {"max_examples": 150, "stateful_step_count": 30, "deadline": None, "print_blob": True}
    phases = (Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink)
    calm = {"report_multiple_bugs": False, "phases": phases, "suppress_health_check": list(HealthCheck)}
    return settings(**{**given, **calm, **changes})


some_node = of_machine(lambda machine: pick_once(machine.nodes))
some_pause = of_machine(lambda machine: pick_once(machine.pauses_us))
some_way = of_machine(lambda machine: ways(machine.nodes))
few = st.integers(1, 3)
BORNE = 4
"""How many validators it takes to bear the loss of a disk: one whose disk was put back votes no more until it has caught up."""


class ClusterMachine(Stage):
    """Subclass it: see ``Stage`` for what can be said otherwise and what there is to make rules of."""

    _restored = ""
    """Whose disk was put back last."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.agreement and cls.nodes is Stage.nodes:
            cls.nodes = NAMES
        cls.TestCase.settings = budget()

    @initialize(faults=of_machine(lambda machine: machine.faults), seed=st.integers(0, 255))
    def begin(self, faults: Faults, seed: int) -> None:
        """Every example begins with a cluster and its opening."""
        self.found(faults, seed)

    # -- what clients do ------------------------------------------------------------------------------------

    @rule(
        moment=of_machine(lambda machine: moments(machine.nodes, machine.pauses_us)),
        fact=of_machine(lambda machine: machine.facts()),
    )
    def record_fact(self, moment: tuple[str, int], fact: Json) -> None:
        """A client has a node record something, and some time may pass."""
        self.have_recorded([moment[0]], [fact], moment[1])

    @rule(
        moment=of_machine(lambda machine: moments(machine.nodes, machine.pauses_us)),
        first=of_machine(lambda machine: machine.facts()),
        second=of_machine(lambda machine: machine.facts()),
    )
    def record_together(self, moment: tuple[str, int], first: Json, second: Json) -> None:
        """Two facts in one call: both of them count, or neither."""
        self.have_recorded([moment[0]], [first, second], moment[1])

    @rule(
        way=some_way,
        fact=of_machine(lambda machine: machine.facts()),
    )
    def record_at_two(self, way: tuple[str, str], fact: Json) -> None:
        """A client is not sure that it was heard, and tells another node the same."""
        self.have_recorded(way, [fact], 0)

    @precondition(lambda self: self.purse is not None)
    @rule(moment=of_machine(lambda machine: moments(machine.nodes, machine.pauses_us)), over=pick((0, 1)))
    def spend_all(self, moment: tuple[str, int], over: int) -> None:
        """A client withdraws all that a node may spend, or one minor unit more."""
        assert self.purse is not None
        node, pause_us = moment
        account, asset = self.purse
        held = self.cluster.spendable(node, account, asset) if node in self.cluster.sim.up() else 0
        if held + over > 0:
            self.have_recorded([node], [writing.withdrawal("", account, asset, held + over)], pause_us)
        else:
            self.begin_step(f"{node} may spend no {asset} of {account}")

    def have_recorded(self, nodes: Sequence[str], facts: Sequence[Json], pause_us: int) -> None:
        """A step in which nodes, one after the other, are asked to record facts in one call; those without an id get the step's."""
        named = [self._named(fact, at) for at, fact in enumerate(facts)]
        down = [f", but {node} is down" for node in nodes if node not in self.cluster.sim.up()]
        self.begin_step(
            f"{' and '.join(nodes)} record{'s' * (len(nodes) == 1)} {facts_in_words(named)}" + "".join(down)
        )
        for node in nodes:
            self.record(node, *named)
        self.wait(pause_us)

    def _named(self, fact: Json, at: int) -> Json:
        if fact.get("id") or fact["kind"] in ("fill", "bust", "account", "instrument"):
            return fact
        return {**fact, "id": f"{fact['kind'][0]}{len(self.story) + 1}{'bcd'[at - 1] if at else ''}"}

    # -- what goes wrong ------------------------------------------------------------------------------------

    @rule(us=pick((1_000, 50_000, 700_000, 2_500_000)), events=pick((0, 1, 2, 4, 8)))
    def deliver(self, us: int, events: int) -> None:
        """Frames flow for a while, and then one by one."""
        self.begin_step(
            f"{time_in_words(us)} pass"
            + (f", then {next_in_words(events, 'event')} happen" + "s" * (events == 1) if events else "")
        )
        self.do("run", us)
        for _ in range(events):
            self.do("step")

    @rule(sides=of_machine(lambda machine: splits(machine.nodes)), pause_us=some_pause)
    def partition(self, sides: tuple[tuple[str, ...], ...], pause_us: int) -> None:
        """Sides are cut off from each other."""
        self.begin_step(f"{sides_in_words(sides)} cut")
        self.do("partition", sides)
        self.wait(pause_us)

    @rule(pause_us=some_pause)
    def heal(self, pause_us: int) -> None:
        """No partition, no cuts."""
        self.begin_step("the network is healed")
        self.do("heal")
        self.wait(pause_us)

    @rule(way=some_way, pause_us=some_pause)
    def cut_one_way(self, way: tuple[str, str], pause_us: int) -> None:
        """Frames vanish, one way."""
        self.begin_step(f"whatever {way[0]} sends {way[1]} is lost from now on")
        self.do("cut", *way)
        self.wait(pause_us)

    @rule(way=some_way, extra_us=pick((200_000, 4_000_000)))
    def clog(self, way: tuple[str, str], extra_us: int) -> None:
        """Frames are slow for two seconds, one way."""
        self.begin_step(f"for 2 s, what {way[0]} sends {way[1]} takes {time_in_words(extra_us)} longer")
        self.do("clog", *way, 2 * SECOND, extra_us)

    @rule(way=some_way, frames=few)
    def drop(self, way: tuple[str, str], frames: int) -> None:
        """A few frames vanish."""
        self.begin_step(f"{next_in_words(frames, 'frame')} from {way[0]} to {way[1]} will be lost")
        self.do("lose", *way, frames)

    @rule(way=some_way, frames=few)
    def duplicate(self, way: tuple[str, str], frames: int) -> None:
        """A few frames arrive twice."""
        self.begin_step(f"{next_in_words(frames, 'frame')} from {way[0]} to {way[1]} will arrive twice")
        self.do("repeat", *way, frames)

    @rule(node=some_node, pause_us=some_pause)
    def crash(self, node: str, pause_us: int) -> None:
        """The power fails: memory and unsynced writes are gone."""
        self.begin_step(f"{node} " + (self.unless_up(node, "is down already") or "crashes"))
        self.power_off(node)
        self.wait(pause_us)

    @rule(node=some_node, pause_us=some_pause)
    def restart(self, node: str, pause_us: int) -> None:
        """Power on, from what is on the disk."""
        self.begin_step(f"{node} " + (self.unless_up(node, "starts again") or "is up already"))
        self.do("restart", node)
        self.wait(pause_us)

    @rule(node=some_node, offset_us=pick((0, 700_000, 3_600 * SECOND, -50_000, -3_600 * SECOND)))
    def jump_clock(self, node: str, offset_us: int) -> None:
        """A node's clock is set."""
        where = "back" if offset_us < 0 else "ahead"
        self.begin_step(f"the clock of {node} is set {time_in_words(abs(offset_us))} {where}")
        self.do("skew", node, offset_us)

    @rule(node=some_node, pause_us=some_pause)
    def back_up(self, node: str, pause_us: int) -> None:
        """A copy of a disk is put aside."""
        self.begin_step(f"the disk of {node} is backed up")
        self.do("backup", node)
        self.wait(pause_us)

    @rule(node=some_node, which=few)
    def restore(self, node: str, which: int) -> None:
        """A backup is put back, and the journal knows. The node must be careful."""
        which %= len(self.backups[node])
        self.begin_step(f"the disk of {node} is replaced by its backup {which}")
        if self.agreement and len(self.nodes) < BORNE:
            self.story.then(f"not so: with {len(self.nodes)} validators, no disk may be lost")
            return
        if self.agreement and self._restored and not caught_up(self.cluster, self._restored):
            self.story.then(f"not yet: {self._restored} has not caught up, and more than one cannot be borne")
            return
        self._restored = node
        self.put_back(node, which, noticed=True)

    @precondition(lambda self: not self.agreement)
    @rule(node=some_node, which=few)
    def roll_back(self, node: str, which: int) -> None:
        """A backup is put back and the journal does not know, nor can it; but its peers are there, and tell it. Not for validators: one
        that does not know may vote twice before it is told."""
        which %= len(self.backups[node])
        self.begin_step(f"all is healed, and the disk of {node} is rolled back to backup {which}, unnoticed")
        if not self.roll_back_unnoticed(node, which):
            detail = "its disk is an old one, its peers hold more of its lane, and it writes on in that lane"
            raise InvariantBroken(invariant="single writer", node=node, detail=detail)
