"""A simulated cluster for one test, looked after from its first step, that must agree in the end.

``Watched`` is a ``Cluster`` (``edge.simulate.cluster``) under a ``Watch`` (``edge.simulate.watch``). At every step: whatever a node has
acknowledged is on its disk, nothing is spent twice, no height is settled in two ways. ``conclude`` heals it, starts every node, demands
that all agree within ten minutes of virtual time, and checks what they agree on. The fixture ``cluster`` calls it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Final

from crdtledger.edge import api
from crdtledger.edge.simulate.cluster import SECOND, Cluster
from crdtledger.edge.simulate.plainorders import OrderFact, Said, about
from crdtledger.edge.simulate.run import QUICK
from crdtledger.edge.simulate.watch import Watch
from crdtledger.edge.simulate.witness import Slots, Witness
from crdtledger.errors import CallerError, InvariantBroken
from crdtledger.ledger.facts import (
    Account,
    Deposit,
    Fact,
    Fill,
    Grant,
    Instrument,
    Mark,
    Post,
    Reserve,
    Transfer,
    Void,
    Withdrawal,
)
from crdtledger.ledger.genesis import Custodian, Policies
from crdtledger.ledger.text import fact_from_json
from crdtledger.testing.opened import all_settled
from gossip.network import Faults

LIMIT_US: Final = 600 * SECOND
CHECKPOINT_MS: Final = 300
SHOWN: Final = 12
"""Lines of the message trace that a failure shows."""


class Watched(Cluster):
    """``nodes``: how many, or their names. ``agreement``: whether they also certify checkpoints. ``options``: further arguments of
    ``Cluster``. ``watch``: who looks after it."""

    def __init__(
        self,
        nodes: int | Sequence[str] = 4,
        seed: int = 0,
        faults: Faults | None = None,
        agreement: bool = False,
        **options: Any,
    ) -> None:
        names = tuple(f"n{at}" for at in range(nodes)) if isinstance(nodes, int) else tuple(nodes)
        if agreement and "policies" not in options:
            custodians = (Custodian(node=names[1 % len(names)], asset="BTC"),)
            options["policies"] = Policies(
                agreement="tendermint", checkpoint_interval_ms=CHECKPOINT_MS, custodians=custodians
            )
            options.setdefault("timeouts", QUICK)
        self.told = f"seed {seed}, nodes {','.join(names)}, {faults or Faults()}"
        self._slots: Slots = {}
        super().__init__(faults, seed, names, **options)
        self.watch = Watch(self)

    def _start(self, name: str, records: Sequence[bytes], incarnation: int) -> Any:
        core = super()._start(name, records, incarnation)
        return Witness(core, records, self._slots) if core.checkpoints else core

    def submit(self, name: str, request: api.Request) -> int:
        """Hand a request to a node, now, and do not wait. What is to be recorded must be on its disk once it says so."""
        if isinstance(request, api.Record):
            with contextlib.suppress(CallerError, LookupError):  # then the node refuses it, too, or is down
                self.watch.expect(self._requests + 1, self._read(name, request.facts))
        return super().submit(name, request)

    def _read(self, name: str, facts: Sequence[Any]) -> list[Said]:
        catalog = self.core(name).replica.view.catalog
        defined: dict[str, Instrument] = {}
        read: list[Said] = []
        for item in facts:
            fact = fact_from_json(item, catalog, name, defined)
            if isinstance(fact, Instrument):
                defined[fact.name] = fact
            if not isinstance(fact, Mark):  # the oracle does not follow marks
                read.append(said(fact))
        return read

    def replace_disk(self, name: str, records: Sequence[bytes], noticed: bool = True) -> None:
        """Put an old backup under a node that is down. What no other disk holds is lost with the old one."""
        super().replace_disk(name, records, noticed)
        self.watch.disk_replaced(name)

    def conclude(self) -> None:
        """Heal, start everybody, and demand agreement, and that it is the right one; ``InvariantBroken`` with the run's last messages."""
        try:
            if not (self.settle(LIMIT_US) and self.sim.run_until(lambda: all_settled(self), LIMIT_US)):
                frontiers = {name: len(self.core(name).replica.frontier()) for name in self.sim.up()}
                locked = {name: self.core(name).epochs.missing() for name in self.sim.up()}
                detail = f"no agreement: lanes {frontiers}, locked {locked}"
                raise InvariantBroken(invariant="convergence", detail=detail)
            for name in self.names:
                self.core(name).check_invariants()
            self.watch.check_agreement(brief=True)
        except (AssertionError, InvariantBroken) as error:
            error.add_note("\n".join([f"The cluster: {self.told}. Its last messages:", *self.last_messages()]))
            raise

    def last_messages(self) -> list[str]:
        """The end of the message trace."""
        return [f"  {line}" for line in self.sim.trace.tail()[-SHOWN:]]


def said(fact: Fact) -> Said:
    """A fact as the plain ledger reads it from a journal (``edge.simulate.plainledger``)."""
    kind = type(fact).__name__.lower()
    if isinstance(fact, Instrument | Account):
        return (kind, fact.name, ())
    if isinstance(fact, Fill):
        identity = (fact.venue, fact.id_space, fact.instrument, str(fact.trade_id), fact.leg)
        side = 1 if fact.side == "buy" else -1
        return (kind, identity, (fact.account, side, fact.qty, fact.price, fact.fee, fact.fee_asset or ""))
    if isinstance(fact, OrderFact):
        return about(fact)
    if isinstance(fact, Void):
        return (kind, str(fact.id), (str(fact.reserve),))
    if isinstance(fact, Post):
        return (kind, str(fact.id), (str(fact.reserve), fact.amount, fact.credit))
    assert isinstance(fact, Deposit | Withdrawal | Transfer | Grant | Reserve)
    terms: Said = (fact.account, fact.asset, fact.amount)
    if isinstance(fact, Deposit):
        return (kind, (fact.account, fact.asset, str(fact.id)), terms)
    if isinstance(fact, Transfer):
        terms = (*terms, fact.credit)
    elif isinstance(fact, Grant):
        terms = (*terms, fact.node)
    return (kind, str(fact.id), terms)
