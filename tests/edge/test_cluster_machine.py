"""No schedule of partition, crash, restart, restore, duplicate and reorder breaks what is promised (docs/explanation/guarantees.md).

The kit's ``ClusterMachine`` with four nodes and all that clients do: the same trades told differently, columns, reserves, definitions that
clash, amounts around what a node holds. At the end everybody spends all it has, and all must agree again. Some examples are replayed, to
see that they give the same run byte for byte.

``CRDTLEDGER_EXAMPLES=5000`` soaks; the default is what CI runs. Shrinking takes minutes: where ``CI`` is set, a failure is
shown as it was found, with the blob that reproduces it.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections import Counter
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from crdtledger.edge import api
from crdtledger.edge.simulate import writing as facts
from crdtledger.edge.simulate.cluster import NAMES
from crdtledger.edge.simulate.writing import DECIMALS, Json, minor
from crdtledger.errors import InsufficientRights, decimal_text
from crdtledger.ledger.drafting import FillColumns
from crdtledger.testing.drawing import pick, pick_once
from crdtledger.testing.machine import ClusterMachine, budget
from crdtledger.testing.opened import Opening
from gossip.network import Faults

EXAMPLES = int(os.environ.get("CRDTLEDGER_EXAMPLES", "200"))
PHASES = [Phase.explicit, Phase.reuse, Phase.generate, Phase.target] + [Phase.shrink] * ("CI" not in os.environ)
SPLITS = (
    (("n0", "n1"), ("n2", "n3")),
    (("n0", "n2"), ("n1", "n3")),
    (("n0",), ("n1", "n2", "n3")),
    (("n0", "n1"), ("n2",), ("n3",)),
)

names = pick_once(NAMES)
pauses_us = pick((0, 300, 3_000, 40_000, 300_000, 1_200_000))


class FullCluster(ClusterMachine):
    """``tally`` counts, over all examples, how many saw what."""

    nodes = NAMES
    tally: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.number = 0
        self.group: dict[str, int] = {}
        self.reserves: dict[str, list[str]] = {name: [] for name in NAMES}
        self.counted = 0

    # -- what is recorded -----------------------------------------------------------------------------------

    def facts(self) -> st.SearchStrategy[Json]:
        return desk_facts()

    def opening(self) -> Opening:
        definitions = [facts.account("A"), facts.account("B"), facts.linear("PERP"), facts.inverse("COIN")]
        grants = [facts.grant(f"g{name}", "A", "USDT", 20_000, name) for name in NAMES[1:]]
        return [
            ("n0", [*definitions, facts.deposit("d0", "A", "USDT", 100_000)]),
            ("n0", grants),
            ("n1", [facts.deposit("d1", "A", "BTC", 50_000_000)]),
        ]

    def found(self, faults: Faults, seed: int) -> None:
        """Then the network is cut, both sides spend, one asks for too much, one crashes."""
        super().found(faults, seed)
        split = SPLITS[seed % len(SPLITS)]
        greedy, crashing = NAMES[seed // 4 % 4], NAMES[seed // 16 % 4]
        self.begin_step(
            f"cut into {split}, both sides spend, {greedy} asks for too much, {crashing} crashes and starts"
        )
        self.do("partition", split)
        for group in split:
            first, last = group[0], group[-1]
            self.record(first, self.spend(first, "A", "USDT", 100), self.spend(first, "A", "USDT", 90, "reserve"))
            self.record(first, facts.post(self.fresh(first), self.reserves[first][0], "USDT", 30, "B"))
            self.record(last, trade(2, "PERP", NAMES.index(last)))
        self.record(greedy, self.spend(greedy, "A", "USDT", 90_000))
        self.do("run", 300_000)
        self.record(crashing, trade(1, "PERP"))
        self.power_off(crashing)
        self.do("run", 100_000)
        self.do("restart", crashing)

    # -- what clients do besides ----------------------------------------------------------------------------

    @rule(node=names, first=st.integers(1, 12), count=st.integers(1, 30), pause_us=pauses_us)
    def import_columns(self, node: str, first: int, count: int, pause_us: int) -> None:
        """A file of trades, a column at a time."""
        self.begin_step(f"{node} imports {count} fills from trade {first} on")
        fills = [trade(number, "PERP") for number in range(first, first + count)]
        self.submit(node, columns(fills), fills)
        self.wait(pause_us)

    @rule(
        node=names,
        cell=pick(tuple(itertools.product("AB", DECIMALS))),
        kind=pick(("withdrawal", "transfer", "reserve")),
        of=pick((1, 3, 8, 100)),
        more=pick((0, 1, -1, 500)),
        twice=st.booleans(),
        pause_us=pauses_us,
    )
    def take(self, node: str, cell: tuple[str, str], kind: str, of: int, more: int, twice: bool, pause_us: int) -> None:
        """Amounts around what the node may spend. Twice: two clients at once, who together want more."""
        self.begin_step(f"{node}: {kind} of a part of {'/'.join(cell)}" + self.unless_up(node, ", but it is down"))
        if node in self.cluster.sim.up():
            amount = max(1, self.cluster.spendable(node, *cell) // of + more)
            for _ in range(1 + twice):
                self.record(node, self.spend(node, *cell, amount, kind))
        self.wait(pause_us)

    @rule(node=names, which=st.integers(0, 5), amount=pick((1, 60, 5_000)), away=st.booleans(), pause_us=pauses_us)
    def close_a_reserve(self, node: str, which: int, amount: int, away: bool, pause_us: int) -> None:
        """Posted, more than once perhaps and by too much perhaps, or voided."""
        self.begin_step(f"{node} {'posts' if away else 'voids'} one of its reserves")
        held = self.reserves[node]
        if held:
            id, reserve = self.fresh(node), held[which % len(held)]
            self.record(node, facts.post(id, reserve, "USDT", amount, "B") if away else facts.void(id, reserve))
        self.wait(pause_us)

    # -- what goes wrong besides ----------------------------------------------------------------------------

    @rule(node=names, count=st.integers(1, 5), after_us=pick((0, 200, 1_500, 20_000)), up=st.booleans())
    def crash_in_a_burst(self, node: str, count: int, after_us: int, up: bool) -> None:
        """The power fails while records are on their way to the disk."""
        self.begin_step(f"{node} crashes in a burst of {2 * count}")
        for number in range(count):
            self.record(node, self.spend(node, "A", "USDT", 10 + number))
            self.record(node, trade(100 + self.number, "PERP"))
            self.do("run", after_us)
        self.power_off(node)
        if up:
            self.do("restart", node)

    @rule(node=names, which=st.integers(0, 3), pause_us=pauses_us)
    def restore_alone(self, node: str, which: int, pause_us: int) -> None:
        """An old backup is put back where nobody can be reached. The node must know, and be careful."""
        self.begin_step(f"{node} is cut off, and its disk replaced by its backup {which % len(self.backups[node])}")
        self.do("partition", ((node,), others(node)))
        self.put_back(node, which, noticed=True)
        self.wait(pause_us)

    @rule(node=names)
    def unlock_and_spend(self, node: str) -> None:
        """Everybody can be heard for a while, so that a restored node may spend; and it spends all it may."""
        self.begin_step(f"all is healed, and {node} spends everything once it may")
        self.help_all()
        assert self.wait_until(lambda: not self.cluster.core(node).epochs.state.locked), self.locked()
        self.spend_everything(node)

    # -- the end --------------------------------------------------------------------------------------------

    def finish(self) -> None:
        self.count()
        if self.seed % 16 == 0:
            digest = self.cluster.sim.trace.digest()
            assert self.replayed().sim.trace.digest() == digest, "the same operations on the same seed gave another run"
            self.seen.add("replays")
        super().finish()
        self.seen |= {item.type for item in self.cluster.core("n0").replica.breaks()}
        for name in NAMES:
            self.spend_everything(name)
        self.agree("after everything was spent")
        self.watch.check_agreement(brief=self.seed % 4 > 0)
        self.tally.update(self.seen)
        self.tally["examples"] += 1

    def do(self, *operation: Any) -> Any:
        match operation:
            case ("partition", sides):
                self.count()
                self.group = {name: number for number, side in enumerate(sides) for name in side}
            case ("heal",):
                self.count()
                self.group = {}
        return super().do(*operation)

    def power_off(self, node: str) -> None:
        if node in self.cluster.sim.up():
            self.seen.add("crashes")
        super().power_off(node)

    def put_back(self, node: str, which: int, noticed: bool) -> bool:
        done = super().put_back(node, which, noticed)
        if done:
            self.reserves[node] = []
            self.seen.add("restores" if noticed else "rollbacks")
        return done

    def count(self) -> None:
        """What was answered since the last change of topology: did both sides spend?"""
        sides = {
            self.group.get(node, 0)
            for node, said in self.watch.accepted[self.counted :]
            if self.group and any(kind in ("withdrawal", "transfer", "reserve") for kind, _, _ in said)
        }
        self.seen |= {"both sides"} if len(sides) > 1 else set()
        self.counted = len(self.watch.accepted)
        refused = any(isinstance(error, InsufficientRights) for _, error in self.watch.refused)
        self.seen |= {"refusals"} if refused else set()

    # -- spending -------------------------------------------------------------------------------------------

    def spend_everything(self, node: str) -> None:
        """To the last unit, everything that ``node`` believes it may spend."""
        for account, asset in itertools.product("AB", DECIMALS):
            amount = self.cluster.spendable(node, account, asset)
            if amount:
                self.record(node, self.spend(node, account, asset, amount))

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


def others(node: str) -> tuple[str, ...]:
    return tuple(name for name in NAMES if name != node)


@functools.cache
def desk_facts() -> st.SearchStrategy[Json]:
    """Trades that several nodes tell of, differently; busts; deposits told twice; definitions that clash; small withdrawals."""
    told = st.builds(
        lambda kind, number, instrument, more: {**trade(number, instrument, more), "kind": kind},
        pick(("fill", "fill", "bust")),
        st.integers(1, 12),
        pick(("PERP", "COIN", "LATE")),
        pick((0, 0, 1, 2, 3)),
    )
    deposits = [
        facts.deposit(f"d{number}", account, asset, 1_000 * (number + 1))
        for number, account, asset in itertools.product(range(7), "AB", DECIMALS)
    ]
    definitions = [facts.linear("LATE", contract_size=size) for size in ("1", "0.1", "2.5")]
    withdrawals = [facts.withdrawal("", "A", "USDT", amount) for amount in (1, 20, 50)]
    return told | pick([*deposits, *withdrawals]) | pick(definitions) | told


def trade(number: int, instrument: str, more: int = 0) -> Json:
    """What the venue says about a trade; ``more``: what another feed says. Some amounts are as large as can be."""
    large = (1 << 62) - 10 if number % 5 == 4 and instrument != "COIN" else 0
    return {
        "kind": "fill",
        "venue": "V",
        "trade_id": number if number % 3 else f"t{number}",
        "instrument": instrument,
        "account": "AB"[number % 2],
        "side": "sell" if number % 4 == 0 else "buy",
        "qty": decimal_text(large or number + more, 0 if instrument == "COIN" else 3),
        "price": decimal_text(large or 50_000 + number, 1 if instrument == "COIN" else 2),
        "fee": decimal_text((number % 7) - 2, 8 if instrument == "COIN" else 2),
    }


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
    class Machine(FullCluster):
        tally: ClassVar[Counter[str]] = Counter()

    # two halves that draw alike would be one half
    run_state_machine_as_test(
        Machine, settings=budget(max_examples=max(1, EXAMPLES // 2), stateful_step_count=50, phases=PHASES)
    )
    tally = Machine.tally
    for what in ("both sides", "crashes", "refusals", "conflict"):
        assert 2 * tally[what] > tally["examples"], f"too few examples with {what}: {tally}"
    for what in ("restores", "rollbacks", "replays"):
        assert tally[what], f"no example with {what}: {tally}"
