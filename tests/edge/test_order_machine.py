"""No order is ever settled beyond its quantity, and no account beyond its collateral, in any schedule that the machine finds.

Four desks with three accounts trade spot, linear and inverse perpetuals and an option: both sides of a partition take the same maker,
homes answer, refuse, cancel and share, nodes crash and are restored. In every other example one node writes about orders whatever it
likes: matches of what it does not hold, answers to more than it was asked, reserves voided under open orders.

Every settled state is held to its bounds (``edge.simulate.bounds``) as it comes about. In the end the whole history is settled once more,
by the plain telling of the rules (``tests.reconcile.match_model``): each height must be what that says, to the unit, and so every match
without an answer still waits.

The nodes' own desks are muted, so that anything can be done by hand, but in one test: there they match and answer beside the hands.

``CRDTLEDGER_EXAMPLES=200`` is the whole of it; the default is what CI runs.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test

from crdtledger.edge.core import NodeCore
from crdtledger.edge.simulate import writing as facts
from crdtledger.edge.simulate.cluster import NAMES
from crdtledger.edge.simulate.run import QUICK
from crdtledger.edge.simulate.trading import Deal, Floor
from crdtledger.edge.simulate.writing import Json
from crdtledger.errors import CallerError, InvariantBroken
from crdtledger.ledger import recorder
from crdtledger.ledger.genesis import Custodian, Policies
from crdtledger.ledger.orderchecks import OrderChecks
from crdtledger.ledger.orderfacts import Stated
from crdtledger.ledger.settled import SettledState
from crdtledger.testing.drawing import moments, of_machine, pick, pick_once
from crdtledger.testing.machine import ClusterMachine, budget
from crdtledger.testing.opened import Opening
from gossip.network import Faults
from reconcile import matchsettling
from reconcile.adjustments import ACCEPTED, ACCEPTED_LESS, BEYOND_HOLDER
from tests.edge.order_market import ACCOUNTS, RESERVED, opening, order, said_at_random, takers
from tests.edge.settled_again import settled_again

ENOUGH = 12
"""So many examples see everything."""
EXAMPLES = int(os.environ.get("CRDTLEDGER_EXAMPLES", str(ENOUGH)))
PHASES = [Phase.explicit, Phase.reuse, Phase.generate, Phase.target] + [Phase.shrink] * ("CI" not in os.environ)
LIAR = "n3"
SPLITS = (
    (("n0", "n1"), ("n2", "n3")),
    (("n0", "n2"), ("n1", "n3")),
    (("n0",), ("n1", "n2", "n3")),
)

moment = of_machine(lambda machine: moments(machine.nodes, machine.pauses_us))
which = st.integers(0, 5)


class Lax(OrderChecks):
    """Lets a liar write what it likes."""

    liars: ClassVar[set[str]] = set()

    def check(self, fact: Stated) -> None:
        try:
            super().check(fact)
        except CallerError:
            if self._node not in self.liars:
                raise


def leave_to_hands(core: NodeCore) -> None:
    """The node's own desk sees and does nothing."""
    desk: Any = core.orders
    desk.arrived = desk.timer = lambda *_: []
    desk.replayed = desk.check_invariants = lambda: None


class OrderMachine(ClusterMachine):
    """``tally`` counts, over all examples, how many saw what."""

    nodes = NAMES
    agreement = True
    purse = None
    tally: ClassVar[Counter[str]] = Counter()
    desks: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.states: dict[int, SettledState] = {}

    def facts(self) -> st.SearchStrategy[Json]:
        return said_at_random()

    def options(self) -> dict[str, Any]:
        custodians = (Custodian(node="n1", asset="BTC"),)
        how: Any = {"agreement": "tendermint", "checkpoint_interval_ms": 300} if self.agreement else {}
        return {"policies": Policies(custodians=custodians, beneficiary="F", **how), "timeouts": QUICK}

    def opening(self) -> Opening:
        return opening()

    def found(self, faults: Faults, seed: int) -> None:
        """Then the network is cut, and both sides take the same makers."""
        Lax.liars = {LIAR} if seed % 2 else set()
        super().found(faults, seed)
        self.watch.dishonest = bool(Lax.liars)
        split = SPLITS[seed // 4 % len(SPLITS)]
        self.begin_step(f"cut into {split}, and n2 and n3 take what they see" + f"; {LIAR} lies" * len(Lax.liars))
        self.do("partition", split)
        for node in ("n2", "n3"):
            self.record(node, *takers("t"))
        self.do("run", 20_000)
        for node in ("n2", "n3"):
            for at in range(4):
                self.take_at(node, at, "all", "firmly" if node in Lax.liars else "as it is")
        self.do("run", 300_000)

    # -- what is said of orders -----------------------------------------------------------------------------

    @precondition(lambda self: self.watch.dishonest)
    @rule(which=which, what=pick(("take", "answer", "share", "void")), pause_us=pick((0, 300_000, 2_000_000)))
    def lie(self, which: int, what: str, pause_us: int) -> None:
        """What no honest node may: take firmly what is not held, accept and share more than there is, free a reserve that orders need."""
        self.begin_step(f"{LIAR} lies: {what} ({which})")
        for floor in self.floor(LIAR):
            if what == "take":
                self.take_at(LIAR, which, "beyond", "firmly")
            elif what == "answer":
                self.answer_at(LIAR, floor, which, "beyond")
            elif what == "share":
                self.share_at(LIAR, floor, which, NAMES[which % 3], "beyond")
            elif what == "void":
                self.record(LIAR, facts.void(self.id("v"), f"{ACCOUNTS[which % 3]}/{list(RESERVED)[which % 2]}"))
        self.wait(pause_us)

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
            self.share_at(node, floor, which, to, much)
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

    def share_at(self, node: str, floor: Floor, which: int, to: str, much: str) -> None:
        held = floor.held()
        if held:
            row, most = held[which % len(held)]
            self.record(node, floor.share(self.id("h"), row, to, quantity(most, much)))

    def dress(self, name: str, core: NodeCore) -> Any:
        """Nodes whose own desks do nothing: all is done by hand, so that anything can be. Unless ``desks``."""
        if not self.desks:
            leave_to_hands(core)
        elif name in Lax.liars:
            core.orders.check_invariants = lambda: None  # type: ignore[method-assign]
        return core

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
        if self.agreement:
            self.seen |= settled_again(self.cluster, self.states)
        self.tally.update(self.seen)
        self.tally["examples"] += 1


def quantity(most: int, much: str) -> int:
    return {"all": most, "half": most // 2, "one": 1, "beyond": most + 1}[much] or 1


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
    tally = Machine.tally
    for what in (ACCEPTED, ACCEPTED_LESS, BEYOND_HOLDER, "waiting"):
        assert tally[what] or EXAMPLES < ENOUGH, f"no example with {what!r}: {tally}"


@pytest.mark.timeout(0)
def test_no_schedule_settles_an_order_beyond_its_quantity_while_desks_match_and_answer_too() -> None:
    """What a hand does is news to the node's own desk, and what a liar does to everybody's: they come to rest with it all."""

    class Machine(OrderMachine):
        desks = True
        tally: ClassVar[Counter[str]] = Counter()

        def dress(self, name: str, core: NodeCore) -> Any:
            desk: Any = super().dress(name, core).orders
            record = desk._record

            def counted(said: Any, *how: Any) -> Any:
                self.tally["by desks"] += len(said)
                return record(said, *how)

            desk._record = counted
            return core

    examples = max(1, EXAMPLES // 2)
    run_state_machine_as_test(Machine, settings=budget(max_examples=examples, stateful_step_count=50, phases=PHASES))
    assert Machine.tally["by desks"], Machine.tally


@pytest.mark.timeout(0)
def test_no_schedule_shows_other_orders_than_lanes_tell_of() -> None:
    """Without checkpoints, every view is held against the plain ledger after every step."""

    class Machine(OrderMachine):
        agreement = False

    examples = max(1, EXAMPLES // 2)
    run_state_machine_as_test(Machine, settings=budget(max_examples=examples, stateful_step_count=50, phases=PHASES))


def held_whole(matches: Any, name: Any, member: int) -> int:
    """As if everybody held all of every order."""
    qty: int = matches.orders[name].terms.qty
    return qty


def decided_again(matches: Any, name: Any, *how: Any) -> None:
    """An answer that leaves its match waiting counts twice when the lane says it twice, or ends."""
    match = matches.pending[name]
    DECIDES(matches, name, *how)
    matches.pending[name] = match


DECIDES = matchsettling._Matches._decide


@pytest.mark.timeout(0)
@pytest.mark.parametrize(("method", "planted"), [("held", held_whole), ("_decide", decided_again)])
def test_a_settlement_that_forgets_what_is_held_or_counts_answers_twice_is_found(
    monkeypatch: pytest.MonkeyPatch, method: str, planted: Any
) -> None:
    monkeypatch.setattr(matchsettling._Matches, method, planted)

    class Machine(OrderMachine):
        pass

    with pytest.raises(InvariantBroken, match=r"no overdraft broken at n.: height .*: order"):
        run_state_machine_as_test(
            Machine,
            settings=budget(max_examples=ENOUGH, derandomize=True, database=None, phases=[Phase.generate]),
        )
