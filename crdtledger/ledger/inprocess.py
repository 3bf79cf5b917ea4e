"""The ledger without a process: for notebooks, tools and other people's tests.

    from crdtledger import Ledger

    london, tokyo = Ledger.cluster("london", "tokyo", assets={"USDT": 2})
    london.record({"kind": "account", "name": "A"},
                  {"kind": "deposit", "id": "d1", "account": "A", "asset": "USDT", "amount": "100.00"})
    tokyo.join(london)

Each ``Ledger`` is one node of a cluster: the same batches, signatures, rights and joins as between real nodes, with
``join`` in place of the network. It is deterministic: keys come from a seed, time from a counter (or from the caller).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from crdtledger.ledger.batch import NONCE_BYTES, Lane
from crdtledger.ledger.breaks import Break
from crdtledger.ledger.clock import HybridClock
from crdtledger.ledger.collateral import Balance
from crdtledger.ledger.drafting import FillColumns
from crdtledger.ledger.facts import Fact, Instrument
from crdtledger.ledger.frontier import Frontier
from crdtledger.ledger.genesis import Asset, Genesis, Member, Policies, check
from crdtledger.ledger.identity import Identity, digest
from crdtledger.ledger.orderrows import MatchRow, OrderRow
from crdtledger.ledger.positionrow import Position
from crdtledger.ledger.recorder import Recorded, Recorder
from crdtledger.ledger.replica import Applied, Forked, Replica
from crdtledger.ledger.text import balance_json, fact_from_json, match_json, order_json, position_json

STATE = "provisional"
TICK_US = 1_000


def counter_clock(start_us: int = 0) -> Callable[[], int]:
    """A clock that moves one millisecond a call: enough for order, and the same in every run."""
    ticks = itertools.count(start_us + TICK_US, TICK_US)
    return lambda: next(ticks)


class Ledger:
    """One node of a cluster, in this process.

    ``identity`` signs as the member called ``name``. ``now_us`` gives the time in microseconds since the Unix epoch.
    ``nonce`` names this incarnation's lane (8 bytes): two ledgers for one member must never share it.
    """

    def __init__(
        self,
        genesis: Genesis,
        name: str,
        identity: Identity,
        now_us: Callable[[], int] | None = None,
        nonce: bytes = bytes(NONCE_BYTES),
    ) -> None:
        self.genesis = genesis
        self.name = name
        self.replica = Replica(genesis)
        lane = Lane(genesis.member(name).id, 1, nonce)
        self._clock = HybridClock()
        self._recorder = Recorder(self.replica, identity, lane, self._clock)
        self._now_us = now_us or counter_clock()

    @classmethod
    def cluster(
        cls,
        *names: str,
        assets: Mapping[str, int],
        policies: Policies | None = None,
        seed: bytes = b"",
        now_us: Callable[[], int] | None = None,
    ) -> tuple[Ledger, ...]:
        """Found a cluster in memory: one ledger per name, the first the custodian of everything.

        ``assets``: name -> decimals. Keys are derived from ``seed``: anybody who knows it can sign for every node, which is
        what a notebook or a test wants and a real cluster must not have (``crdtledger init`` draws them).
        """
        identities = {name: Identity(digest("in-process-key", seed, name.encode())) for name in names}
        members = tuple(
            Member(name, identity.public_key.hex(), _placeholder_curve_key(number), f"inproc://{name}")
            for number, (name, identity) in enumerate(identities.items())
        )
        nonce = digest("in-process-cluster", seed).hex()[:32]
        listed = tuple(Asset(name, decimals) for name, decimals in assets.items())
        genesis = Genesis("in-process", nonce, members, listed, policies or Policies())
        check(genesis)
        clock = now_us or counter_clock()
        return tuple(cls(genesis, name, identity, clock) for name, identity in identities.items())

    # -- writing --------------------------------------------------------------------------------------------

    def record(self, *facts: Fact | Mapping[str, Any]) -> Recorded:
        """Record facts: structs of ``crdtledger.facts`` in minor units, or JSON-like mappings with decimal text.

        Raises the errors of ``crdtledger.errors``; then nothing of the call was recorded.
        """
        defined: dict[str, Instrument] = {}
        read: list[Fact] = []
        for number, item in enumerate(facts, 1):
            fact = item
            if isinstance(fact, Mapping):
                fact = fact_from_json(fact, self.replica.view.catalog, f"fact {number}", defined)
            if isinstance(fact, Instrument):
                defined[fact.name] = fact
            read.append(fact)
        return self._recorder.record(read, self._now_us())

    def record_fills(self, fills: FillColumns) -> Recorded:
        """Record whole columns of fills."""
        return self._recorder.record_fills(fills, self._now_us())

    def join(self, other: Ledger) -> int:
        """Take in everything that ``other`` holds: the join of the two replicas. How many batches were new here."""
        taken = 0
        for batch in list(other.replica.batches()):
            taken += self._admitted(self.replica.admit(batch.raw))
        for raw in other.replica.evidence().values():
            self.replica.admit_evidence(raw)
        return taken

    def admit(self, raw: Sequence[bytes]) -> int:
        """Take in batches as they travel, in any order. How many were applied."""
        return sum(self._admitted(self.replica.admit(one)) for one in raw)

    def _admitted(self, outcome: object) -> int:
        if isinstance(outcome, Applied | Forked):
            for batch in outcome.batches:
                self._clock.observe(batch.header.clock, self._now_us())
            return len(outcome.batches)
        return 0

    # -- reading --------------------------------------------------------------------------------------------

    def positions(self) -> list[Position]:
        """Positions, sorted by account, then instrument; integers in minor units."""
        return self.replica.view.position_rows()

    def collateral(self) -> list[Balance]:
        """Collateral, sorted by account, then asset; integers in minor units."""
        return self.replica.view.collateral_rows()

    def positions_json(self) -> list[dict[str, Any]]:
        """Positions as the command line shows them: decimal text."""
        catalog = self.replica.view.catalog
        return [
            position_json(row, STATE, definition)
            for row in self.positions()
            if (definition := catalog.definition(row.instrument))
        ]

    def collateral_json(self) -> list[dict[str, Any]]:
        """Collateral as the command line shows it: decimal text."""
        return [balance_json(row, STATE) for row in self.collateral()]

    def orders(self) -> list[OrderRow]:
        """Orders that are not done and settled, sorted by home, then id; integers in minor units."""
        return self.replica.view.order_rows()

    def matches(self) -> list[MatchRow]:
        """Matches that are not settled, or wait for their answer, sorted by their writer, then id; integers in minor units."""
        return self.replica.view.match_rows()

    def orders_json(self) -> list[dict[str, Any]]:
        """Orders as the command line shows them: decimal text."""
        definitions = self.replica.view.catalog.definitions
        return [
            order_json(row, STATE, definitions[row.definition])
            for row in self.orders()
            if row.definition in definitions
        ]

    def matches_json(self) -> list[dict[str, Any]]:
        """Matches as the command line shows them: decimal text."""
        catalog = self.replica.view.catalog
        return [
            match_json(row, STATE, definition)
            for row in self.matches()
            if (definition := catalog.definition(row.instrument))
        ]

    def breaks(self) -> list[Break]:
        """Everything recorded that does not simply count."""
        return self.replica.breaks()

    def spendable(self, account: str, asset: str) -> int:
        """What this node may spend now, in minor units."""
        return self._recorder.spendable(account, asset)

    def batches(self) -> list[bytes]:
        """Everything held, as it travels, in an order in which it can be admitted."""
        return [batch.raw for batch in self.replica.batches()]

    def frontier(self) -> Frontier:
        """Exactly what this ledger holds: lane -> head."""
        return self.replica.frontier()

    def digest(self) -> bytes:
        """Equal for equal ledgers, and only for them."""
        return self.replica.digest()


def _placeholder_curve_key(number: int) -> str:
    """In-process nodes have no sockets; the genesis wants a distinct key all the same."""
    return f"{number:040d}"
