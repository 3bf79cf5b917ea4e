"""What the rules of a cluster machine are made of: the cluster that an example plays on, and all that can be done to it.

``Stage`` has no rules. It founds the cluster, looks after it, carries out operations and writes the story; ``machine.ClusterMachine`` adds
the rules, and a user's own rules call the same methods. Everything goes through ``do``, so ``replayed`` can do it all again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant

from crdtledger.edge import api
from crdtledger.edge.core import NodeCore
from crdtledger.edge.simulate.cluster import Cluster
from crdtledger.edge.simulate.run import QUICK
from crdtledger.edge.simulate.writing import Json, said
from crdtledger.errors import InvariantBroken
from crdtledger.ledger.genesis import Custodian, Policies
from crdtledger.testing import deskfacts
from crdtledger.testing.drawing import all_faults, pick
from crdtledger.testing.opened import Opened, Opening, all_settled, watch_over
from crdtledger.testing.steps import Backups, Operation, perform
from crdtledger.testing.story import Story, count_in_words, faults_in_words, time_in_words
from gossip.network import Faults

LIMIT_S = 600
"""How long, in virtual time, a cluster that nothing hinders any more may take to agree."""
TICK_US = 100_000


class Stage(RuleBasedStateMachine):
    """``cluster``, ``watch``, ``story``, ``backups`` and ``seed`` are there once an example has begun.

    ``nodes``: their names. ``agreement``: whether they also agree on checkpoints, every 300 ms; then there are four unless ``nodes`` says
    otherwise, for with fewer no disk may be lost. ``faults``: how bad the network and the disks are, drawn once an example. ``pauses_us``:
    how much virtual time may pass after a step, least first. ``purse``: the account and asset that clients spend to the last unit, if any.
    """

    nodes: ClassVar[tuple[str, ...]] = ("n0", "n1", "n2")
    agreement: ClassVar[bool] = False
    purse: ClassVar[tuple[str, str] | None] = ("A", "USDT")
    pauses_us: ClassVar[tuple[int, ...]] = (0, 3_000, 300_000, 2_000_000)
    faults: ClassVar[st.SearchStrategy[Faults]] = pick(all_faults())

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Operation] = []
        self.story = Story("nothing has happened yet")
        self._outside = sys.exception()

    # -- what a subclass may say otherwise ------------------------------------------------------------------

    def facts(self) -> st.SearchStrategy[Json]:
        """One fact that a client records, as in the client protocol; without an ``id`` it gets the step's."""
        return deskfacts.facts(self.nodes)

    def opening(self) -> Opening:
        """(node, facts) recorded before anything goes wrong. Equal openings are recorded once, not once an example."""
        return deskfacts.opening(self.nodes)

    def options(self) -> dict[str, Any]:
        """More arguments for the ``Cluster``, for instance policies."""
        if not self.agreement:
            return {}
        custodians = (Custodian(node=self.nodes[1], asset="BTC"),)
        policies = Policies(custodians=custodians, agreement="tendermint", checkpoint_interval_ms=300)
        return {"policies": policies, "timeouts": QUICK}

    def dress(self, name: str, core: NodeCore) -> Any:
        """A core that is about to start, or to replay a journal: give back what shall run in its place."""
        return core

    def check_node(self, name: str, core: NodeCore) -> None:
        """Raise if a node is not as it must be, after any of its steps."""

    def check_agreement(self) -> None:
        """Raise if the nodes, which are healed and have agreed, are not as they must be."""

    # -- how an example begins and ends ---------------------------------------------------------------------

    def found(self, faults: Faults, seed: int) -> None:
        """A cluster of ``nodes`` with its opening recorded, watched and linked; every disk is backed up."""
        self.drawn, self.seed = faults, seed
        self.cluster = self._new()
        self.watch = watch_over(self.cluster)
        self.backups: Backups = {name: [] for name in self.nodes}
        look = self.cluster.sim.on_step
        assert look is not None

        def look_closer(sim: Any, name: str) -> None:
            look(sim, name)
            if name in sim.up():
                self.check_node(name, self.cluster.core(name))

        self.cluster.sim.on_step = look_closer
        title = f"{type(self).__name__}: seed {seed}, nodes {','.join(self.nodes)}, {faults_in_words(faults)}"
        self.story = Story(title, self.cluster.sim.replies)
        self.do("run", faults.detect_us + TICK_US)
        for name in self.nodes:
            self.do("backup", name)

    def _new(self) -> Opened:
        return Opened(self.dress, self.drawn, self.seed, self.nodes, self.opening(), self.options())

    def replayed(self) -> Cluster:
        """Another cluster to which everything was done that this example did so far. Its trace's digest must be the same."""
        again = self._new()
        backups: Backups = {name: [] for name in self.nodes}
        for operation in self.log:
            perform(again, backups, operation)
        return again

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
        """Heal, start everybody, and demand agreement, and that it is the right one."""
        self.help_all()
        if not self.wait_until(lambda: all_settled(self.cluster), LIMIT_S):
            raise InvariantBroken(invariant="convergence", detail=f"no agreement {when}: {self.locked()}")
        self.watch.check_agreement(brief=True)
        self.check_agreement()

    @invariant()
    def views_are_exact(self) -> None:
        """Each node that has synced all it holds shows what the plain ledger shows."""
        for name in self.cluster.sim.up() if not self.agreement else ():
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
        """Run in ticks of a tenth of a second, so that a replay needs no predicate. Whether it came true."""
        for _ in range(limit_s * 1_000_000 // TICK_US):
            if predicate():
                return True
            self.do("run", TICK_US)
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

    def help_all(self) -> None:
        """The network is whole and everybody is up."""
        self.do("heal")
        for name in self.nodes:
            self.do("restart", name)
        self.do("run", 1)  # a core that was not started yet knows nothing of its epoch

    def power_off(self, node: str) -> None:
        """Crash a node if it is up, and see whether its disk holds what it must."""
        if node not in self.cluster.sim.up():
            return
        core = self.cluster.core(node)
        unsynced, held = core.position - core.durable, len(self.cluster.sim.durable_records(node))
        self.do("crash", node)
        kept = len(self.cluster.sim.durable_records(node)) - held
        lost = f"{count_in_words(unsynced, 'unsynced write')} lost" if unsynced else "nothing was unsynced"
        self.story.then(f"{lost}, but {count_in_words(kept, 'record')} of them" if kept > 0 else lost)
        if kept < 0:
            self.story.then(f"{count_in_words(-kept, 'record')} that was synced is gone")
        self.watch.check_disk(node)

    def put_back(self, node: str, which: int, noticed: bool) -> bool:
        """Start a node from one of its backups. Whether it was done: what was lost with every disk that held it may not come back, for
        its author may have learnt by then that it is gone, and have spent again."""
        which %= len(self.backups[node])
        held = {entry.hash for disk in self.watch.disks.values() for entry in disk}
        if any(entry.hash not in held for entry in self.watch.batches_on(self.backups[node][which])):
            self.story.then("not so: it holds what is lost everywhere else, and was given up")
            return False
        self.do("crash", node)
        self.do("replace", node, which, noticed)
        self.watch.disk_replaced(node)
        self.do("restart", node)
        self.do("run", 1)
        lane = self.cluster.core(node).epochs.lane.key
        if noticed and any(entry.lane == lane for entry in self.watch.entries.values()):
            detail = "its journal knows that its disk was put back, and it writes on in its old lane"
            raise InvariantBroken(invariant="single writer", node=node, detail=detail)
        return True

    def roll_back_unnoticed(self, node: str, which: int) -> bool:
        """Heal, agree, and put a backup under a node that cannot tell. Whether it found out, if there was something to find."""
        self.help_all()
        if not self.wait_until(self.cluster.in_step):
            raise InvariantBroken(invariant="convergence", detail=f"no agreement before the rollback: {self.locked()}")
        epochs = self.cluster.core(node).epochs
        before, lane = epochs.state.epoch, epochs.lane.key
        head = self.cluster.core(node).replica.head(lane).seq
        if not self.put_back(node, which, noticed=False):
            return True
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
