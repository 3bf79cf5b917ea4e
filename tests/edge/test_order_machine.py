"""No order is ever settled beyond its quantity, and no account beyond its collateral, in any schedule that the machine finds.

Four desks with three accounts trade spot, linear and inverse perpetuals and an option: both sides of a partition take the same maker,
homes answer, refuse, cancel and share, nodes crash and are restored. In every other example one node writes about orders whatever it
likes: matches of what it does not hold, answers to more than it was asked, reserves voided under open orders.

Every settled state is held to its bounds (``edge.simulate.bounds``) as it comes about. In the end the whole history is settled once more,
by the plain telling of the rules (``tests.reconcile.match_model``): each height must be what that says, to the unit, and so every match
without an answer still waits.

``CRDTLEDGER_EXAMPLES=200`` is the whole of it; the default is what CI runs.
"""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from crdtledger.edge.core import NodeCore
from crdtledger.edge.simulate import writing as facts
from crdtledger.edge.simulate.cluster import NAMES
from crdtledger.edge.simulate.run import QUICK
from crdtledger.edge.simulate.trading import Deal, Floor
from crdtledger.edge.simulate.writing import Json
from crdtledger.errors import CallerError, decimal_text
from crdtledger.ledger import recorder
from crdtledger.ledger.batch import Batch, open_batch
from crdtledger.ledger.genesis import Custodian, Policies
from crdtledger.ledger.journalrecord import KIND_BATCH, JournalRecord, decode_record
from crdtledger.ledger.orderchecks import OrderChecks
from crdtledger.ledger.orderfacts import Stated
from crdtledger.ledger.settled import SettledState
from crdtledger.testing.drawing import moments, of_machine, pick, pick_once
from crdtledger.testing.machine import ClusterMachine, budget
from crdtledger.testing.opened import Opening
from gossip.network import Faults
from reconcile.adjustments import decode_adjustments
from reconcile.checkpoint import decode_checkpoint
from reconcile.heights import NONE
from tests.reconcile.match_model import TradingLedger

EXAMPLES = int(os.environ.get("CRDTLEDGER_EXAMPLES", "12"))
PHASES = [Phase.explicit, Phase.reuse, Phase.generate, Phase.target] + [Phase.shrink] * ("CI" not in os.environ)
ACCOUNTS = ("A", "B", "C")
RESERVED = {"USDT": 600_00, "BTC": 530_000_000}
LIAR = "n3"
FEES = {"maker_fee_ppm": 1_000, "taker_fee_ppm": 3_000}
INSTRUMENTS = (
    {**facts.linear("SPOT", **FEES), "type": "spot"},
    facts.linear("PERP", margin_ppm=100_000, **FEES),
    {**facts.inverse("COIN", contract_size="1"), "margin_ppm": 300_000, **FEES},
    {
        **facts.linear("CALL", margin_ppm=50_000, **FEES),
        "type": "option",
        "strike": "120.00",
        "expiry_us": 9,
        "option": "call",
    },
)
UNITS = {one["name"]: (one["qty_decimals"], one["price_decimals"]) for one in INSTRUMENTS}
SPLITS = (
    (("n0", "n1"), ("n2", "n3")),
    (("n0", "n2"), ("n1", "n3")),
    (("n0",), ("n1", "n2", "n3")),
)

moment = of_machine(lambda machine: moments(machine.nodes, machine.pauses_us))
which = st.integers(0, 5)


def order(id: str, instrument: str, account: str, side: str, qty: int, price: int, **more: Any) -> Json:
    """On the reserve that every node keeps for the account and asset."""
    qty_decimals, price_decimals = UNITS[instrument]
    asset = "BTC" if instrument == "COIN" or (instrument, side) == ("SPOT", "sell") else "USDT"
    terms = {"account": account, "instrument": instrument, "side": side, "reserve": f"{account}/{asset}"}
    units = {"qty": decimal_text(qty, qty_decimals), "price": decimal_text(price, price_decimals)}
    return {"kind": "order", "id": id, **terms, **units, **more}


@functools.cache
def said_at_random() -> st.SearchStrategy[Json]:
    """Orders around one price, and now and then money. Those without an id get that of the step."""
    orders = [
        order("", instrument, account, side, qty, 10_000 + offset * (1 if side == "buy" else -1))
        for instrument in UNITS
        for account in ACCOUNTS
        for side in ("buy", "sell")
        for qty, offset in ((3, 0), (700, 0), (40, 500), (3, -500), (90_000, 0))
    ]
    money = [
        facts.void("", "A/USDT"),
        facts.void("", "B/BTC"),
        facts.post("", "C/USDT", "USDT", 5_000, "A"),
        facts.withdrawal("", "B", "USDT", 9_000),
    ]
    return pick([*orders, *money, *(facts.reserve(f"{a}/{s}", a, s, n) for a in ACCOUNTS for s, n in RESERVED.items())])


class Lax(OrderChecks):
    """Lets a liar write what it likes."""

    liars: ClassVar[set[str]] = set()

    def check(self, fact: Stated) -> None:
        try:
            super().check(fact)
        except CallerError:
            if self._node not in self.liars:
                raise


class OrderMachine(ClusterMachine):
    """``tally`` counts, over all examples, how many saw what."""

    nodes = NAMES
    agreement = True
    purse = None
    tally: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.states: dict[int, SettledState] = {}

    def facts(self) -> st.SearchStrategy[Json]:
        return said_at_random()

    def options(self) -> dict[str, Any]:
        custodians = (Custodian(node="n1", asset="BTC"),)
        policies = Policies(custodians=custodians, agreement="tendermint", checkpoint_interval_ms=300, beneficiary="F")
        return {"policies": policies, "timeouts": QUICK}

    def opening(self) -> Opening:
        """Every node keeps a reserve of every account and asset; standing orders of each instrument, at several homes."""
        names = [*map(facts.account, (*ACCOUNTS, "F")), *INSTRUMENTS]
        out: list[tuple[str, list[Json]]] = []
        for custodian, asset in (("n0", "USDT"), ("n1", "BTC")):
            money = [facts.deposit("d", account, asset, 40 * RESERVED[asset]) for account in ACCOUNTS]
            out.append((custodian, [*names, *money]))
            grants = [
                facts.grant(f"{account}{asset}{node}", account, asset, 8 * RESERVED[asset], node)
                for account in ACCOUNTS
                for node in NAMES
                if node != custodian
            ]
            out.append((custodian, grants))
        for node in NAMES:
            kept = [facts.reserve(f"{a}/{s}", a, s, n) for a in ACCOUNTS for s, n in RESERVED.items()]
            out.append((node, kept))
        out.append(
            ("n0", [order("s", "SPOT", "A", "sell", 5_000, 10_000), order("p", "PERP", "A", "sell", 700, 10_000)])
        )
        out.append(("n1", [order("i", "COIN", "B", "buy", 700, 10_000), order("o", "CALL", "B", "sell", 700, 10_000)]))
        takes = [("SPOT", "buy"), ("PERP", "buy"), ("COIN", "sell"), ("CALL", "buy")]
        for node in ("n2", "n3"):
            orders = [order(f"t{name}", name, "C", side, 600, 10_000) for name, side in takes]
            out.append((node, [one if one["instrument"] != "SPOT" else {**one, "qty": "4.000"} for one in orders]))
        return out

    def found(self, faults: Faults, seed: int) -> None:
        """Then the network is cut, and both sides take the same makers."""
        Lax.liars = {LIAR} if seed % 2 else set()
        super().found(faults, seed)
        self.watch.dishonest = bool(Lax.liars)
        split = SPLITS[seed // 2 % len(SPLITS)]
        self.begin_step(f"cut into {split}, and n2 and n3 take what they see" + f"; {LIAR} lies" * len(Lax.liars))
        self.do("partition", split)
        for node in ("n2", "n3"):
            for at in range(4):
                self.take_at(node, at, "all", "as it is")
        self.do("run", 300_000)

    # -- what is said of orders -----------------------------------------------------------------------------

    @rule(moment=moment, which=which, much=pick(("all", "one", "beyond")), how=pick(("as it is", "firmly")))
    def take(self, moment: tuple[str, int], which: int, much: str, how: str) -> None:
        """Two orders that meet are matched; firmly, perhaps, though nothing of the maker is held here."""
        self.begin_step(f"{moment[0]} takes {much} of what meets ({which}), {how}")
        self.take_at(moment[0], which, much, how)
        self.wait(moment[1])

    @rule(sides=pick(SPLITS), which=which, pause_us=pick((0, 300_000, 2_000_000)))
    def both_sides_take(self, sides: tuple[tuple[str, ...], ...], which: int, pause_us: int) -> None:
        """A partition, on both sides of which one maker is taken."""
        self.begin_step(f"{' | '.join(map(','.join, sides))} cut, and everybody takes one maker ({which})")
        self.do("partition", sides)
        for node in self.nodes:
            self.take_at(node, which, "all", "as it is")
        self.wait(pause_us)

    @rule(moment=moment, which=which, much=pick(("all", "half", "nothing", "beyond")))
    def answer(self, moment: tuple[str, int], which: int, much: str) -> None:
        """A maker's home answers a match."""
        node = moment[0]
        self.begin_step(f"{node} accepts {much} of what it was asked ({which})")
        for floor in self.floor(node):
            self.answer_at(node, floor, which, much)
        self.wait(moment[1])

    @rule(moment=moment, which=which, amends=st.booleans())
    def end_an_order(self, moment: tuple[str, int], which: int, amends: bool) -> None:
        """Cancelled, or replaced by another."""
        node = moment[0]
        self.begin_step(f"{node} {'amends' if amends else 'cancels'} one of its orders ({which})")
        for floor in self.floor(node):
            own = floor.own()
            if own:
                one = own[which % len(own)]
                side = "buy" if one.side > 0 else "sell"
                fresh = order(self.id("o"), one.instrument, one.account, side, 600, one.price, amends=one.id)
                self.record(node, fresh if amends else {"kind": "cancel", "id": self.id("c"), "order": one.id})
        self.wait(moment[1])

    @rule(moment=moment, which=which, to=pick_once(NAMES), much=pick(("half", "all", "beyond")))
    def share(self, moment: tuple[str, int], which: int, to: str, much: str) -> None:
        """Open quantity is handed to another node, or back."""
        node = moment[0]
        self.begin_step(f"{node} shares {much} of what it holds of an order ({which}) with {to}")
        for floor in self.floor(node):
            held = floor.held()
            if held:
                row, most = held[which % len(held)]
                self.record(node, floor.share(self.id("h"), row, to, quantity(most, much)))
        self.wait(moment[1])

    @rule(node=pick_once(NAMES))
    def answer_everything(self, node: str) -> None:
        """Whoever stood for a desk clears its table."""
        self.begin_step(f"{node} accepts everything that it was asked")
        for floor in self.floor(node):
            for at in range(len(floor.questions())):
                for now in self.floor(node):
                    self.answer_at(node, now, 0, "all", f".{at}")

    def floor(self, node: str) -> Iterator[Floor]:
        """The orders as ``node`` sees them, if it is up."""
        if node in self.cluster.sim.up():
            yield Floor(self.cluster.core(node))

    def id(self, letter: str, more: str = "") -> str:
        return f"{letter}{len(self.story)}{more}"

    def take_at(self, node: str, which: int, much: str, how: str) -> None:
        for floor in self.floor(node):
            deals = floor.deals()
            if deals:
                deal: Deal = deals[which % len(deals)]
                firm = deal.firm or how == "firmly"
                self.record(node, floor.match(self.id("m", f".{which}"), deal, quantity(deal.most, much), firm))

    def answer_at(self, node: str, floor: Floor, which: int, much: str, more: str = "") -> None:
        asked = floor.questions()
        if asked:
            one = asked[which % len(asked)]
            qty = 0 if much == "nothing" else quantity(one.most, much)
            self.record(node, floor.accept(self.id("a", more), one, qty, "" if qty else "no"))

    # -- what must hold -------------------------------------------------------------------------------------

    def check_node(self, name: str, core: NodeCore) -> None:
        """``Watch`` holds each height to its bounds; here it is kept for the plain telling."""
        self.states.setdefault(core.replica.base[0], core.replica.state)

    @invariant()
    def nodes_that_hold_the_same_show_the_same(self) -> None:
        seen: dict[Any, tuple[str, bytes]] = {}
        for name in self.cluster.sim.up():
            replica = self.cluster.core(name).replica
            key = (replica.base, tuple(sorted((lane, head.hash) for lane, head in replica.frontier().items())))
            other, view = seen.setdefault(key, (name, replica.view.canonical()))
            assert replica.view.canonical() == view, f"{name} and {other} hold the same and show other books"

    def finish(self) -> None:
        super().finish()
        for name in NAMES:
            self.answer_everything(name)
        self.agree("after everybody answered")
        self.settle_again()
        self.tally.update(self.seen)
        self.tally["examples"] += 1

    def settle_again(self) -> None:
        """Each height must be what the plain telling of the rules makes of its batches."""
        model, previous = TradingLedger(self.cluster.genesis), NONE
        batches, done = self.every_batch(), dict[bytes, int]()
        store = max(self.cluster.stores.values(), key=len)
        for stored in store:
            cut = decode_checkpoint(stored.body).cut
            told = [batches[e.lane, seq] for e in cut for seq in range(done.get(e.lane, 0) + 1, e.seq + 1)]
            model.settle(previous, cut, told, ())
            done |= {entry.lane: entry.seq for entry in cut}
            previous = stored.digest
            if stored.height in self.states:
                assert shown(self.states[stored.height]) == plain(model), f"height {stored.height}"
            self.note(decode_adjustments(stored.adjustments))
        self.seen |= {"waiting"} if self.states[max(self.states)].pending else set()

    def every_batch(self) -> dict[tuple[bytes, int], Batch]:
        found: dict[tuple[bytes, int], Batch] = {}
        for name in NAMES:
            for raw in self.cluster.sim.durable_records(name):
                record = decode_record(raw)
                if isinstance(record, JournalRecord) and record.kind == KIND_BATCH:
                    found[record.lane, record.seq] = open_batch(
                        record.body, self.cluster.genesis, check_signature=False
                    )
        return found

    def note(self, adjustments: Any) -> None:
        self.seen |= {one.cause for one in adjustments if one.kind_name in ("match", "accept", "share")}


def quantity(most: int, much: str) -> int:
    return {"all": most, "half": most // 2, "one": 1, "beyond": most + 1}[much] or 1


def shown(state: SettledState) -> dict[str, Any]:
    """What a settled state says of orders and money."""
    balances = state.collateral.items()
    return {
        "orders": {
            name: (one.tally.filled, {NAMES[m]: qty for m, qty in one.open}, one.closed)
            for name, one in state.orders.items()
        },
        "waiting": {name: match.held for name, match in state.pending.items()},
        "carried": {at: (held.qty, held.margin) for at, held in state.carried.items()},
        "prices": dict(state.prices),
        "margin": {at: b.margin for at, b in balances if b.margin},
        "shortfall": {at: b.shortfall for at, b in balances if b.shortfall},
        "reserved": {at: b.reserved for at, b in balances if b.reserved},
        "rights": {(at, NAMES[m]): amount for at, b in balances for m, amount in b.rights},
        "positions": {at: (one.bought, one.sold, one.fees) for at, one in state.positions.items()},
    }


def plain(model: TradingLedger) -> dict[str, Any]:
    """The same of the plain telling."""
    reserved: Counter[Any] = Counter()
    for lane in model.reserves.values():
        for cell, left in lane.values():
            reserved[cell] += left
    return {
        "orders": {
            name: (one["filled"], {node: qty for node, qty in one["open"].items() if qty}, one["closed"])
            for name, one in model.orders.items()
        },
        "waiting": {name: match["held"] for name, match in model.waiting_matches.items()},
        "carried": {at: (held["qty"], held["margin"]) for at, held in model.carried.items()},
        "prices": model.prices,
        "margin": {at: amount for at, amount in model.margin.items() if amount},
        "shortfall": {at: amount for at, amount in model.shortfall.items() if amount},
        "reserved": {at: left for at, left in reserved.items() if left},
        "rights": {(at, node): n for node, cells in model.rights.items() for at, n in cells.items() if n},
        "positions": {
            at: (p["bought"], p["sold"], p["fees"])
            for at, p in model.positions.items()
            if any((p["bought"], p["sold"]))
        },
    }


@pytest.fixture(autouse=True)
def _a_liar_may_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node that lies writes what its recorder would refuse."""
    monkeypatch.setattr(recorder, "OrderChecks", Lax)
    honest = recorder.Recorder._check_reserves

    def check(self: Any, fresh: Any) -> None:
        if self._name not in Lax.liars:
            honest(self, fresh)

    monkeypatch.setattr(recorder.Recorder, "_check_reserves", check)


@pytest.mark.timeout(0)
def test_no_schedule_settles_an_order_beyond_its_quantity_or_an_account_beyond_its_collateral() -> None:
    class Machine(OrderMachine):
        tally: ClassVar[Counter[str]] = Counter()

    run_state_machine_as_test(Machine, settings=budget(max_examples=EXAMPLES, stateful_step_count=50, phases=PHASES))
    print(Machine.tally)  # noqa: T201
