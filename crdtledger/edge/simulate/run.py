"""One simulated run: a scenario and a seed, safety looked after at every step, and agreement demanded in the end.

The end: the network is healed, every node is started, and within ``Scenario.settle_s`` all must hold the same, have settled all of it
if they certify checkpoints, and show what the plain ledger shows. Whatever breaks on the way becomes the ``Outcome``; nothing is raised.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec

from crdtledger.edge.simulate.cluster import SECOND, Cluster, identity
from crdtledger.edge.simulate.liars import Liar
from crdtledger.edge.simulate.nemesis import Mischief
from crdtledger.edge.simulate.scenario import Scenario
from crdtledger.edge.simulate.watch import Watch
from crdtledger.edge.simulate.witness import Slots, Witness
from crdtledger.edge.simulate.workload import Clients
from crdtledger.errors import InvariantBroken
from crdtledger.ledger.genesis import Custodian, Policies
from gossip.trace import Line
from reconcile.agreement import Timeouts

QUICK = Timeouts(propose_us=800_000, prevote_us=400_000, precommit_us=400_000, growth_us=200_000)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a run. ``invariant``, ``node`` and ``detail`` are empty where ``ok``; ``at_us`` is when it ended, in virtual time;
    ``digest`` is equal for equal runs. ``story``: (virtual time, what was done), ``lines``: the end of the message trace.
    ``events``, ``requests``: how many of each kind. ``facts``: acknowledged."""

    ok: bool
    seed: int
    scenario: Scenario
    digest: str
    at_us: int
    invariant: str = ""
    node: str = ""
    detail: str = ""
    facts: int = 0
    refused: int = 0
    frames: int = 0
    height: int = 0
    events: dict[str, int] = {}
    requests: dict[str, int] = {}
    story: tuple[tuple[int, str], ...] = ()
    lines: tuple[Line, ...] = ()


class SimulatedRun:
    """A run that can be looked into while it goes on. ``cluster`` and ``watch`` are there from the start."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario = scenario.checked()
        self.seed = seed
        self.story: list[tuple[int, str]] = []
        self._slots: Slots = {}
        self.cluster = _Cast(self, scenario, seed)
        self.watch = Watch(self.cluster)
        self.clients = Clients(self.cluster, self.watch, scenario.workload, Random(f"{seed} clients"))
        self.mischief = Mischief(self.cluster, self.watch, scenario.nemesis, Random(f"{seed} nemesis"))

    def dress(self, name: str, core: Any, records: Sequence[bytes]) -> Any:
        """Let liars lie, and watch the mouths of the others."""
        scenario, names = self.scenario, self.cluster.names
        honest = len(names) - len(scenario.liars)
        if names.index(name) >= honest:
            return Liar(core, identity(name), scenario.liars[names.index(name) - honest], self.seed)
        return Witness(core, records, self._slots) if scenario.agreement else core

    def go(self) -> Outcome:
        """Run to the end, or to the first thing that breaks."""
        try:
            self._go()
        except InvariantBroken as error:
            return self._outcome(error.invariant, error.node, error.detail)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            detail = f"{type(error).__name__}: {error} ({where.name}, line {where.lineno} of {where.filename})"
            return self._outcome("no exception", "", detail)
        return self._outcome()

    # -- how ------------------------------------------------------------------------------------------------

    def _go(self) -> None:
        sim, scenario = self.cluster.sim, self.scenario
        sim.run_for(SECOND)
        for node, facts in self.clients.opening():
            self.clients.record(node, facts)
            sim.run_for(SECOND)
        end_us = sim.now_us + scenario.seconds * SECOND
        request_us = sim.now_us + self.clients.pause()
        while True:
            wrong_us = self.mischief.due_us()
            next_us = request_us if wrong_us is None else min(request_us, wrong_us)
            if next_us > end_us:
                break
            sim.run_for(next_us - sim.now_us)
            if next_us == wrong_us:
                self._tell(self.mischief.act())
            else:
                self._tell(self.clients.act())
                request_us = sim.now_us + self.clients.pause()
        sim.run_for(end_us - sim.now_us)
        self._agree()

    def _agree(self) -> None:
        self.mischief.stop()
        self._tell("all is healed and everybody started")
        limit_us = self.scenario.settle_s * SECOND
        if not self.cluster.settle(limit_us):
            raise InvariantBroken(invariant="convergence", detail=f"no agreement: {self._state()}")
        if self.scenario.agreement and not self.cluster.sim.run_until(self._all_settled, limit_us):
            raise InvariantBroken(invariant="convergence", detail=f"not everything is settled: {self._state()}")
        for name in self.cluster.names:
            self.cluster.core(name).check_invariants()
        self.watch.check_agreement(brief=True)

    def _all_settled(self) -> bool:
        cores = [self.cluster.core(name) for name in self.cluster.names]
        quiet = all(not core.replica.unsettled() and core.durable == core.position for core in cores)
        return quiet and len({core.replica.base for core in cores}) == 1 and self.cluster.in_step()

    def _state(self) -> dict[str, Any]:
        """Each node's height, unsettled batches, what waits, and why it is locked."""
        cores = {name: self.cluster.core(name) for name in self.cluster.sim.up()}
        return {
            name: {
                "height": core.replica.base[0],
                "unsettled": core.replica.unsettled(),
                "waiting": core.replica.waiting(),
                "locked": core.epochs.state.locked,
                "heads": sorted(head.seq for head in core.replica.frontier().values()),
            }
            for name, core in cores.items()
        }

    def _tell(self, what: str) -> None:
        if what:
            self.story.append((self.cluster.sim.now_us, what))

    def _outcome(self, invariant: str = "", node: str = "", detail: str = "") -> Outcome:
        sim = self.cluster.sim
        return Outcome(
            ok=not invariant,
            seed=self.seed,
            scenario=self.scenario,
            digest=sim.trace.digest(),
            at_us=sim.now_us,
            invariant=invariant,
            node=node,
            detail=detail,
            facts=sum(len(facts) for _, facts in self.watch.accepted),
            refused=len(self.watch.refused),
            frames=sim.frames_sent,
            height=max(self.watch.digests, default=0),
            events=dict(sorted(self.mischief.events.items())),
            requests=dict(sorted(self.clients.done.items())),
            story=tuple(self.story),
            lines=tuple(sim.trace.tail()),
        )


class _Cast(Cluster):
    """The cluster of a run: every core goes through ``SimulatedRun.dress``."""

    def __init__(self, run: SimulatedRun, scenario: Scenario, seed: int) -> None:
        self._run = run
        names = tuple(f"n{at}" for at in range(scenario.nodes))
        custodians = (Custodian(node=names[1 % len(names)], asset="BTC"),)
        agreement: dict[str, Any] = {"agreement": "tendermint"} if scenario.agreement else {}
        policies = Policies(custodians=custodians, checkpoint_interval_ms=scenario.checkpoint_ms, **agreement)
        super().__init__(
            scenario.faults,
            seed,
            names,
            policies=policies,
            timeouts=QUICK,
            prunes=scenario.prunes,
            shelf_heights=scenario.shelf_heights,
            jump_heights=scenario.jump_heights,
        )

    def _start(self, name: str, records: Sequence[bytes], incarnation: int) -> Any:
        self._run.cluster = self
        return self._run.dress(name, super()._start(name, records, incarnation), records)


def run(scenario: Scenario, seed: int) -> Outcome:
    """Run ``scenario`` with ``seed``. Raises ``BadInput`` for a scenario that cannot be, and nothing else."""
    return SimulatedRun(scenario, seed).go()
