"""No schedule of partition, crash, restart, restore, duplicate and reorder breaks what is promised (docs/explanation/guarantees.md).

A Hypothesis state machine drives real node cores on the simulated network. ``Watch`` looks after every single step of the
simulation; the end of each example heals everything and demands agreement. An example is a list of operations on a seeded
cluster (``perform``), so a failing one can be replayed; some are, to see that they give the same run byte for byte.

``CRDTLEDGER_EXAMPLES=5000`` soaks; the default is what CI runs. Shrinking takes minutes: where ``CI`` is set, a failure is
shown as it was found, with the blob that reproduces it.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from crdtledger.edge import api
from crdtledger.edge.simulate import writing as facts
from crdtledger.edge.simulate.cluster import NAMES, SECOND, Cluster
from crdtledger.edge.simulate.plainledger import Said
from crdtledger.edge.simulate.watch import Watch
from crdtledger.edge.simulate.writing import Json
from crdtledger.errors import InsufficientRights, decimal_text
from crdtledger.ledger.drafting import FillColumns
from gossip.network import Faults

EXAMPLES = int(os.environ.get("CRDTLEDGER_EXAMPLES", "200"))
STEPS = 50
PHASES = [Phase.explicit, Phase.reuse, Phase.generate, Phase.target] + [Phase.shrink] * ("CI" not in os.environ)

names = st.sampled_from(NAMES)
pauses_us = st.sampled_from((0, 300, 3_000, 40_000, 300_000, 1_200_000))
accounts = st.sampled_from(("A", "B"))
assets = st.sampled_from(("USDT", "BTC"))
trades = st.integers(1, 12)
instruments = st.sampled_from(("PERP", "COIN", "LATE"))
groups = st.sampled_from(
    (
        (("n0", "n1"), ("n2", "n3")),
        (("n0", "n2"), ("n1", "n3")),
        (("n0", "n3"), ("n1", "n2")),
        (("n0",), ("n1", "n2", "n3")),
        (("n0", "n1", "n2"), ("n3",)),
        (("n0", "n1"), ("n2",), ("n3",)),
        (("n0",), ("n1",), ("n2",), ("n3",)),
    )
)
faults = st.builds(
    Faults,
    latency_mean_us=st.sampled_from((500, 5_000, 80_000)),
    loss_ppm=st.sampled_from((0, 10_000, 150_000)),
    duplicate_ppm=st.sampled_from((0, 100_000)),
    reorder=st.booleans(),
    sync_us=st.sampled_from((2_000, 100_000)),
    torn=st.booleans(),
    trace_lines=st.just(0),
)

Operation = tuple[Any, ...]


def perform(cluster: Cluster, backups: dict[str, list[tuple[bytes, ...]]], operation: Operation) -> Any:
    """Carry out one operation. All that an example does to its cluster goes through here."""
    sim = cluster.sim
    match operation:
        case ("submit", name, request):
            return cluster.submit(name, request)
        case ("run", us):
            sim.run_for(us)
        case ("backup", name):
            backups[name].append(sim.durable_records(name))
        case ("replace", name, at, noticed):
            cluster.replace_disk(name, backups[name][at], noticed)
        case (what, *arguments):
            getattr(sim, what)(*arguments)
    return None


class ClusterMachine(RuleBasedStateMachine):
    """``tally`` counts, over all examples, how many saw what."""

    def __init__(self, tally: Counter[str]) -> None:
        super().__init__()
        self.tally = tally
        self.seen: set[str] = set()
        self.log: list[Operation] = []
        self.number = 0
        self.sides: set[int] = set()
        self.group: dict[str, int] = {}
        self.reserves: dict[str, list[str]] = {name: [] for name in NAMES}
        self.told = self.refusals = 0

    # -- how an example begins ------------------------------------------------------------------------------

    @initialize(faults=faults, seed=st.integers(0, 2**32), split=groups, crashing=names, greedy=names)
    def found(self, faults: Faults, seed: int, split: tuple[tuple[str, ...], ...], crashing: str, greedy: str) -> None:
        """Everybody holds some rights; then the network is cut, both sides spend, one asks for too much, one crashes."""
        self.faults, self.seed = faults, seed
        self.cluster = Cluster(faults, seed)
        self.watch = Watch(self.cluster)
        self.backups: dict[str, list[tuple[bytes, ...]]] = {name: [] for name in NAMES}
        self.do("run", 500_000)
        names = [facts.account("A"), facts.account("B")]
        definitions = [facts.linear("PERP"), facts.inverse("COIN")]
        self.record("n0", *names, *definitions, facts.deposit("d0", "A", "USDT", 100_000))
        self.record("n0", *(facts.grant(f"g{name}", "A", "USDT", 20_000, name) for name in NAMES[1:]))
        self.wait_until(lambda: all(self.cluster.spendable(name) for name in NAMES))
        self.record("n1", facts.deposit("d1", "A", "BTC", 50_000_000))
        for name in NAMES:
            self.do("backup", name)
        self.cut_into(split)
        for group in split:
            self.record(
                group[0], self.spend(group[0], "A", "USDT", 100), self.spend(group[0], "A", "USDT", 90, "reserve")
            )
            self.record(group[0], facts.post(self.fresh(group[0]), self.reserves[group[0]][0], "USDT", 30, "B"))
            self.record(group[-1], self.trade(2, "PERP", ord(group[-1][-1])))
        self.record(greedy, self.spend(greedy, "A", "USDT", 90_000))
        self.do("run", 300_000)
        self.record(crashing, self.trade(1, "PERP"))
        self.power_off(crashing)
        self.do("run", 100_000)
        self.do("restart", crashing)
        self.settle_books()

    # -- what clients do ------------------------------------------------------------------------------------

    @rule(node=names, trades=st.lists(trades, min_size=1, max_size=4), instrument=instruments, pause_us=pauses_us)
    def record_fills(self, node: str, trades: list[int], instrument: str, pause_us: int) -> None:
        """The same trades turn up at several nodes."""
        if self.knows(node, instrument):
            self.record(node, *(self.trade(trade, instrument) for trade in trades))
        self.do("run", pause_us)

    @rule(node=names, trade=trades, instrument=instruments, more=st.integers(1, 3), pause_us=pauses_us)
    def record_another_story(self, node: str, trade: int, instrument: str, more: int, pause_us: int) -> None:
        """The same id with other content."""
        if self.knows(node, instrument):
            self.record(node, self.trade(trade, instrument, more))
        self.do("run", pause_us)

    @rule(node=names, trade=trades, instrument=instruments, pause_us=pauses_us)
    def bust(self, node: str, trade: int, instrument: str, pause_us: int) -> None:
        """A venue takes a trade back, perhaps before anybody recorded it."""
        if self.knows(node, instrument):
            self.record(node, {**self.trade(trade, instrument), "kind": "bust"})
        self.do("run", pause_us)

    @rule(node=names, first=trades, count=st.integers(1, 30), pause_us=pauses_us)
    def import_columns(self, node: str, first: int, count: int, pause_us: int) -> None:
        """A file of trades, a column at a time."""
        if not self.knows(node, "PERP"):
            return
        fills = [self.trade(trade, "PERP") for trade in range(first, first + count)]
        self.do_submit(node, columns(fills), fills)
        self.do("run", pause_us)

    @rule(node=names, decimals=st.integers(1, 3), pause_us=pauses_us)
    def define_late(self, node: str, decimals: int, pause_us: int) -> None:
        """An instrument is defined, perhaps in several ways at once."""
        self.record(node, facts.linear("LATE", contract_size=["1", "0.1", "2.5"][decimals - 1]))
        self.do("run", pause_us)

    @rule(id=st.integers(0, 6), asset=assets, account=accounts, pause_us=pauses_us)
    def deposit(self, id: int, asset: str, account: str, pause_us: int) -> None:
        node = self.cluster.genesis.custodian(account, asset)
        self.record(node, facts.deposit(f"d{id}", account, asset, 1_000 * (id + 1)))
        self.do("run", pause_us)

    @rule(
        node=names,
        account=accounts,
        asset=assets,
        kind=st.sampled_from(("withdrawal", "transfer", "reserve")),
        of=st.sampled_from((1, 3, 8, 100)),
        more=st.sampled_from((-1, 0, 0, 1, 500)),
        twice=st.booleans(),
        pause_us=pauses_us,
    )
    def take(
        self, node: str, account: str, asset: str, kind: str, of: int, more: int, twice: bool, pause_us: int
    ) -> None:
        """Amounts around what the node may spend. Twice: two clients at once, who together want more."""
        if node not in self.cluster.sim.up():
            return
        amount = max(1, self.cluster.spendable(node, account, asset) // of + more)
        for _ in range(1 + twice):
            self.record(node, self.spend(node, account, asset, amount, kind))
        self.do("run", pause_us)

    @rule(node=names, other=names, amount=st.integers(1, 50), pause_us=pauses_us)
    def the_same_withdrawal_at_two_nodes(self, node: str, other: str, amount: int, pause_us: int) -> None:
        fact = self.spend(node, "A", "USDT", amount)
        self.record(node, fact)
        self.record(other, fact)
        self.do("run", pause_us)

    @rule(
        node=names,
        which=st.integers(0, 5),
        amount=st.sampled_from((1, 60, 5_000)),
        away=st.booleans(),
        pause_us=pauses_us,
    )
    def close_a_reserve(self, node: str, which: int, amount: int, away: bool, pause_us: int) -> None:
        """Posted, more than once perhaps and by too much perhaps, or voided."""
        held = self.reserves[node]
        if held:
            id, reserve = self.fresh(node), held[which % len(held)]
            self.record(node, facts.post(id, reserve, "USDT", amount, "B") if away else facts.void(id, reserve))
        self.do("run", pause_us)

    # -- what goes wrong ------------------------------------------------------------------------------------

    @rule(us=st.sampled_from((10_000, 700_000, 2_500_000)))
    def wait(self, us: int) -> None:
        self.do("run", us)

    @rule(split=groups, pause_us=pauses_us)
    def partition(self, split: tuple[tuple[str, ...], ...], pause_us: int) -> None:
        self.cut_into(split)
        self.do("run", pause_us)

    @rule(pause_us=pauses_us)
    def heal(self, pause_us: int) -> None:
        self.settle_books()
        self.group = {}
        self.do("heal")
        self.do("run", pause_us)

    @rule(source=names, sink=names)
    def cut_one_way(self, source: str, sink: str) -> None:
        self.do("cut", source, sink)

    @rule(source=names, sink=names, extra_us=st.sampled_from((200_000, 4_000_000)))
    def clog(self, source: str, sink: str, extra_us: int) -> None:
        self.do("clog", source, sink, 2 * SECOND, extra_us)

    @rule(node=names, offset_us=st.sampled_from((-3_600 * SECOND, -50_000, 0, 700_000, 3_600 * SECOND)))
    def skew(self, node: str, offset_us: int) -> None:
        self.do("skew", node, offset_us)

    @rule(node=names, pause_us=pauses_us)
    def crash(self, node: str, pause_us: int) -> None:
        self.power_off(node)
        self.do("run", pause_us)

    @rule(node=names, pause_us=pauses_us)
    def restart(self, node: str, pause_us: int) -> None:
        self.do("restart", node)
        self.do("run", pause_us)

    @rule(node=names, count=st.integers(1, 5), after_us=st.sampled_from((0, 200, 1_500, 20_000)), up=st.booleans())
    def crash_in_a_burst(self, node: str, count: int, after_us: int, up: bool) -> None:
        """The power fails while records are on their way to the disk."""
        for number in range(count):
            self.record(node, self.spend(node, "A", "USDT", 10 + number))
            self.record(node, self.trade(100 + self.number, "PERP"))
            self.do("run", after_us)
        self.power_off(node)
        if up:
            self.do("restart", node)

    @rule(node=names)
    def back_up(self, node: str) -> None:
        self.do("backup", node)

    @rule(node=names, which=st.integers(0, 3), alone=st.booleans(), pause_us=pauses_us)
    def restore(self, node: str, which: int, alone: bool, pause_us: int) -> None:
        """An old backup is put back, perhaps where nobody can be reached. The node must know, and be careful."""
        if alone:
            self.settle_books()
            self.group = {node: 1}
            self.do("isolate", node)
        self.put_back(node, which, noticed=True)
        self.do("run", pause_us)
        self.seen.add("restores")

    @rule(node=names)
    def unlock_and_spend(self, node: str) -> None:
        """Everybody can be heard for a while, so that a restored node may spend; and it spends all it may."""
        self.heal(0)
        for name in NAMES:
            self.do("restart", name)
        self.do("run", 1)
        assert self.wait_until(lambda: not self.cluster.core(node).epochs.state.locked), f"locked: {self.story()}"
        self.spend_everything(node)

    @precondition(lambda self: self.number % 4 == 0)
    @rule(node=names, which=st.integers(0, 3))
    def roll_back_unnoticed(self, node: str, which: int) -> None:
        """A disk is rolled back without a trace, and its node is connected: its peers tell it."""
        self.heal(0)
        for name in NAMES:
            self.do("restart", name)
        self.do("run", 1)
        assert self.wait_until(self.cluster.in_step), f"no agreement before the rollback: {self.story()}"
        before = self.cluster.core(node).epochs.state.epoch
        lane = self.cluster.core(node).epochs.lane.key
        head = self.cluster.core(node).replica.head(lane).seq
        self.put_back(node, which, noticed=False)
        held = [entry for entry in self.watch.disks[node] if entry.lane == lane]
        if len(held) == head:
            return
        core = self.cluster.core(node)
        noticed = self.wait_until(lambda: core.epochs.state.epoch > before and core.durable == core.position)
        assert noticed, f"{node} did not notice that its disk is an old one: {self.story()}"
        self.seen.add("rollbacks")

    # -- checks between steps -------------------------------------------------------------------------------

    def check(self) -> None:
        """After every operation: each node that has synced all it holds shows what the plain ledger shows."""
        for name in self.cluster.sim.up():
            self.watch.check_views(name)

    def teardown(self) -> None:
        if not hasattr(self, "watch"):
            return
        self.settle_books()
        digest = self.cluster.sim.trace.digest()
        if self.seed % 16 == 0:
            self.replay(digest)
        self.seen |= {"refusals"} if self.refusals else set()
        assert self.cluster.settle(), f"no agreement after healing: {self.story()}"
        self.watch.check_agreement(brief=True)
        self.seen |= {item.type for item in self.cluster.core("n0").replica.breaks()}
        for name in NAMES:
            self.spend_everything(name)
        assert self.cluster.settle(), f"no agreement after everything was spent: {self.story()}"
        self.watch.check_agreement(brief=self.seed % 4 > 0)
        self.tally.update(self.seen)
        self.tally["examples"] += 1

    def replay(self, digest: Any) -> None:
        """The same operations on the same seed: the same run."""
        again = Cluster(self.faults, self.seed)
        backups: dict[str, list[tuple[bytes, ...]]] = {name: [] for name in NAMES}
        for operation in self.log:
            perform(again, backups, operation)
        assert again.sim.trace.digest() == digest, "the same seed and operations gave another run"
        self.seen.add("replays")

    # -- doing ----------------------------------------------------------------------------------------------

    def do(self, *operation: Any) -> Any:
        self.log.append(operation)
        return perform(self.cluster, self.backups, operation)

    def do_submit(self, node: str, request: api.Request, stated: list[Json]) -> None:
        if node in self.cluster.sim.up():
            self.watch.expect(self.do("submit", node, request), [self.said(fact) for fact in stated])
            self.do("run", 0)

    def record(self, node: str, *stated: Json) -> None:
        """Ask ``node`` to record facts; the answer comes when it comes."""
        self.do_submit(node, api.Record(list(stated)), list(stated))

    def wait_until(self, predicate: Any, limit_s: int = 300) -> bool:
        """Run in steps of a tenth of a second, so that a replay needs no predicate."""
        for _ in range(limit_s * 10):
            if predicate():
                return True
            self.do("run", 100_000)
        return False

    def spend_everything(self, node: str) -> None:
        """To the last unit, everything that ``node`` believes it may spend."""
        for account in ("A", "B"):
            for asset in facts.DECIMALS:
                amount = self.cluster.spendable(node, account, asset)
                if amount:
                    self.record(node, self.spend(node, account, asset, amount))

    def power_off(self, node: str) -> None:
        if node in self.cluster.sim.up():
            self.do("crash", node)
            self.watch.check_disk(node)
            self.seen.add("crashes")

    def put_back(self, node: str, which: int, noticed: bool) -> None:
        self.do("crash", node)
        self.do("replace", node, which % len(self.backups[node]), noticed)
        self.watch.disk_replaced(node)
        self.reserves[node] = []
        self.do("restart", node)
        self.do("run", 1)

    def cut_into(self, split: tuple[tuple[str, ...], ...]) -> None:
        self.settle_books()
        self.group = {name: number for number, group in enumerate(split) for name in group}
        self.do("partition", split)

    def settle_books(self) -> None:
        """Count what was answered since the last change of topology; then a new cut begins."""
        sides = set()
        for node, said in self.watch.accepted[self.told :]:
            if self.group and any(kind in ("withdrawal", "transfer", "reserve") for kind, _, _ in said):
                sides.add(self.group.get(node, 0))
        if len(sides) > 1:
            self.seen.add("both sides")
        self.told = len(self.watch.accepted)
        self.refusals += sum(isinstance(error, InsufficientRights) for _, error in self.watch.refused)
        self.watch.refused.clear()
        self.check()

    # -- facts ----------------------------------------------------------------------------------------------

    def knows(self, node: str, instrument: str) -> bool:
        """Whether ``node`` is up and has a definition of ``instrument``."""
        return node in self.cluster.sim.up() and (
            self.cluster.core(node).replica.view.catalog.standing(instrument) is not None
        )

    def fresh(self, node: str) -> str:
        self.number += 1
        return f"{node}-{self.number}"

    def spend(self, node: str, account: str, asset: str, amount: int, kind: str = "withdrawal") -> Json:
        id = self.fresh(node)
        if kind == "transfer":
            return facts.transfer(id, account, asset, amount, "B" if account == "A" else "A")
        if kind == "reserve":
            if asset == "USDT":
                self.reserves[node].append(id)
            return facts.reserve(id, account, asset, amount)
        return facts.withdrawal(id, account, asset, amount)

    def trade(self, number: int, instrument: str, more: int = 0) -> Json:
        """What the venue says about a trade; ``more``: what another feed says. Some amounts are as large as can be."""
        large = (1 << 62) - 10 if number % 5 == 4 and instrument != "COIN" else 0
        return {
            "kind": "fill",
            "venue": "V",
            "trade_id": number if number % 3 else f"t{number}",
            "instrument": instrument,
            "account": "AB"[number % 2],
            "side": "sell" if number % 4 == 0 else "buy",
            "qty": units(large or number + more, 0 if instrument == "COIN" else 3),
            "price": units(large or 50_000 + number, 1 if instrument == "COIN" else 2),
            "fee": units((number % 7) - 2, 8 if instrument == "COIN" else 2),
        }

    @staticmethod
    def said(fact: Json) -> Said:
        """A fact as the plain ledger reads it from a journal."""
        kind = fact["kind"]
        if kind in ("account", "instrument"):
            return (kind, fact["name"], ())
        if kind in ("fill", "bust"):
            terms = [minor(fact["qty"]), minor(fact["price"]), minor(fact["fee"])]
            identity = (fact["venue"], "trade", fact["instrument"], str(fact["trade_id"]), "")
            return (kind, identity, (fact["account"], 1 if fact["side"] == "buy" else -1, *terms, ""))
        if kind == "void":
            return (kind, fact["id"], (fact["reserve"],))
        if kind == "post":
            return (kind, fact["id"], (fact["reserve"], minor(fact["amount"]), fact["credit"]))
        cell = (fact["account"], fact["asset"])
        if kind == "deposit":
            return (kind, (*cell, fact["id"]), (*cell, minor(fact["amount"])))
        more = {"transfer": ("credit",), "grant": ("node",)}.get(kind, ())
        return (kind, fact["id"], (*cell, minor(fact["amount"]), *(fact[name] for name in more)))

    def story(self) -> str:
        """The operations of this example, for a failure's message."""
        states = {name: self.cluster.core(name).epochs.missing() for name in self.cluster.sim.up()}
        return f"seed {self.seed}, locked: {states}"


def units(amount: int, decimals: int) -> str:
    return decimal_text(amount, decimals)


def minor(text: str) -> int:
    return int(text.replace(".", ""))


def columns(fills: list[Json]) -> api.Columns:
    """Fills of PERP as an importer sends them; ids are text where ``trade`` makes them text."""
    names = sorted({fill["account"] for fill in fills})
    return api.pack_fills(
        FillColumns(
            venue="V",
            instrument="PERP",
            id_space="trade",
            leg="",
            trade_id=np.zeros(len(fills), np.uint64),
            text_ids=[str(fill["trade_id"]) for fill in fills],
            price=np.array([minor(fill["price"]) for fill in fills], np.int64),
            qty=np.array([minor(fill["qty"]) for fill in fills], np.int64),
            side=np.array([1 if fill["side"] == "buy" else -1 for fill in fills], np.int8),
            account=np.array([names.index(fill["account"]) for fill in fills], np.int64),
            accounts=names,
            ts_us=np.zeros(len(fills), np.int64),
            fee=np.array([minor(fill["fee"]) for fill in fills], np.int64),
            fee_asset=np.full(len(fills), -1, np.int64),
            fee_assets=[],
        ),
        None,
    )


@pytest.mark.timeout(0)
@pytest.mark.parametrize("half", [1, 2])
def test_no_schedule_breaks_an_invariant(half: int) -> None:
    tally: Counter[str] = Counter()

    class Machine(ClusterMachine):
        def __init__(self) -> None:
            super().__init__(tally)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=max(1, EXAMPLES // 2),
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=False,  # two halves that draw alike would be one half
            suppress_health_check=list(HealthCheck),
            phases=PHASES,
            print_blob=True,
        ),
    )
    for what in ("both sides", "crashes", "refusals", "conflict"):
        assert 2 * tally[what] > tally["examples"], f"too few examples with {what}: {tally}"
    assert tally["restores"] or tally["rollbacks"], f"no old disk was ever put back: {tally}"
