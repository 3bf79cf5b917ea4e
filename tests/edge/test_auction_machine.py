"""No auction settles an order beyond its quantity, or an account beyond its collateral, in any schedule that the machine finds.

Open and hidden orders at four nodes, reveals in time, late, false or never, cancels, partitions, crashes, restores. Every settled state is
held to its bounds (``edge.simulate.bounds``) as it comes about; what auctions cleared is added up beside it, order by order.

``CRDTLEDGER_EXAMPLES=200`` is the whole of it; the default is what CI runs.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any, ClassVar

import pytest
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from crdtledger.edge import api
from crdtledger.edge.simulate import writing as facts
from crdtledger.edge.simulate.cluster import NAMES, Cluster
from crdtledger.edge.simulate.run import QUICK
from crdtledger.edge.simulate.writing import Json, minor
from crdtledger.errors import InvariantBroken, decimal_text
from crdtledger.ledger.commitment import Terms, commit
from crdtledger.ledger.genesis import Custodian, Policies
from crdtledger.testing.drawing import moments, of_machine, pick
from crdtledger.testing.machine import ClusterMachine, budget
from crdtledger.testing.opened import Opening
from gossip.network import Faults
from reconcile import auctionsettling
from reconcile.adjustments import ENTRIES_CLOSED, FORFEITED, decode_adjustments

ENOUGH = 12
"""So many examples see everything."""
EXAMPLES = int(os.environ.get("CRDTLEDGER_EXAMPLES", str(ENOUGH)))
PHASES = [Phase.explicit, Phase.reuse, Phase.generate, Phase.target] + [Phase.shrink] * ("CI" not in os.environ)
HOMES = {"A": "n0", "B": "n1", "C": "n2"}
AUCTION = facts.linear(
    "X", mode="auction", auction_every=3, reveal_window=2, margin_ppm=100_000, maker_fee_ppm=1_000, taker_fee_ppm=1_000
)
NONCE = "7" * 64
CASH = 100_000

moment = of_machine(lambda machine: moments(machine.nodes, machine.pauses_us))
accounts = pick(tuple(HOMES))
sides = pick(("buy", "sell"))
amounts = pick((1_000, 3_000, 40_000))
worse = pick((0, 500, -300))
which = st.integers(0, 7)


class AuctionMachine(ClusterMachine):
    """``tally`` counts, over all examples, how many saw what."""

    nodes = NAMES
    agreement = True
    purse = None
    tally: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.entered: dict[tuple[str, str], int] = {}
        self.secrets: list[tuple[str, Terms]] = []

    def facts(self) -> st.SearchStrategy[Json]:
        return pick([facts.withdrawal("", "A", "USDT", 9_000), facts.deposit("", "B", "USDT", 100), facts.account("E")])

    def options(self) -> dict[str, Any]:
        custodians = (Custodian(node="n0", asset="USDT"),)
        policies = Policies(custodians=custodians, beneficiary="F", agreement="tendermint", checkpoint_interval_ms=300)
        return {"policies": policies, "timeouts": QUICK}

    def opening(self) -> Opening:
        money = [facts.deposit(f"d{name}", name, "USDT", CASH) for name in HOMES]
        given = [facts.grant(f"g{name}", name, "USDT", CASH, home) for name, home in HOMES.items() if home != "n0"]
        return [("n0", [*map(facts.account, (*HOMES, "F")), AUCTION, *money]), ("n0", given)]

    def found(self, faults: Faults, seed: int) -> None:
        """Then everybody enters something, and C hides two orders, of which one is shown in time."""
        super().found(faults, seed)
        for account, side, qty in (("A", "sell", 3_000), ("B", "buy", 2_000 + seed % 3_000)):
            self.begin_step(f"{account} enters {side} {qty}")
            self.say(account, side, qty, 10_000, {})
        for side in ("buy", "sell"):
            self.hide("C", side, 3_000, 0, 0)
        self.pass_by(("n3", 0), 1)
        self.reveal(0, True, 700_000)
        if seed % 2:
            self.pass_by(("n2", 0), 4)

    # -- what is said ---------------------------------------------------------------------------------------

    @rule(account=accounts, side=sides, qty=amounts, worse=worse, market=st.booleans(), pause_us=pick((0, 400_000)))
    def enter(self, account: str, side: str, qty: int, worse: int, market: bool, pause_us: int) -> None:
        """An order that everybody sees."""
        self.begin_step(f"{account} enters {side} {qty}, {worse} worse, {'at any price' if market else 'limited'}")
        self.say(account, side, qty, self.price(side, worse), {"market": True} if market else {})
        self.wait(pause_us)

    @rule(account=accounts, side=sides, qty=amounts, worse=worse, pause_us=pick((0, 400_000)))
    def hide(self, account: str, side: Any, qty: int, worse: int, pause_us: int) -> None:
        """An order of which only the bounds are seen."""
        self.begin_step(f"{account} hides {side} {qty // 2}")
        home, id = HOMES[account], f"o{len(self.story)}"
        terms = Terms(home, id, account, "X", side, qty // 2, self.price(side, worse))
        if self.say(account, side, qty, self.price(side, -500), {"hidden": commit(terms, NONCE)}):
            self.secrets.append((home, terms))
        self.wait(pause_us)

    @rule(which=which, honestly=pick((True, True, False)), pause_us=pick((0, 400_000, 1_500_000)))
    def reveal(self, which: int, honestly: bool, pause_us: int) -> None:
        """A hidden order is shown, or something that it is not."""
        self.begin_step(f"hidden order {which} is revealed{'' if honestly else ', falsely'}")
        if self.secrets:
            home, terms = self.secrets[which % len(self.secrets)]
            qty = terms.qty if honestly else terms.qty + 1
            shown = {"qty": decimal_text(qty, 3), "price": decimal_text(terms.price, 2), "side": terms.side}
            fact = {
                "kind": "reveal",
                "id": f"r{len(self.story)}",
                "order": terms.id,
                "instrument": "X",
                **shown,
                "nonce": NONCE,
            }
            if honestly:
                self.record(home, fact)
            elif home in self.cluster.sim.up():
                assert self.cluster.try_record(home, fact) is not None, "what opens nothing is not recorded"
        self.wait(pause_us)

    @rule(which=which, pause_us=pick((0, 400_000)))
    def cancel(self, which: int, pause_us: int) -> None:
        """An order is taken back, if it still may be."""
        self.begin_step(f"order {which} is cancelled")
        if self.entered:
            home, id = sorted(self.entered)[which % len(self.entered)]
            self.record(home, {"kind": "cancel", "id": f"c{len(self.story)}", "order": id})
        self.wait(pause_us)

    @rule(moment=moment, heights=pick((1, 3)))
    def pass_by(self, moment: tuple[str, int], heights: int) -> None:
        """Something else is recorded, so that heights come."""
        self.begin_step(f"{heights} heights pass, if they can")
        for number in range(heights):
            self.record(moment[0], facts.account(f"E{len(self.story)}.{number}"))
            self.wait(700_000)

    def price(self, side: str, worse: int) -> int:
        return 10_000 - worse if side == "buy" else 10_000 + worse

    def say(self, account: str, side: str, qty: int, price: int, more: Json) -> bool:
        """Whether the order was taken."""
        home, id = HOMES[account], f"o{len(self.story)}"
        terms = {"account": account, "instrument": "X", "side": side}
        fact = {
            "kind": "order",
            "id": id,
            **terms,
            "qty": decimal_text(qty, 3),
            "price": decimal_text(price, 2),
            **more,
        }
        taken = home in self.cluster.sim.up() and self.cluster.try_record(home, fact) is None
        if taken:
            self.entered[home, id] = qty
        self.story.then("taken" if taken else "not taken")
        return taken

    # -- what must hold -------------------------------------------------------------------------------------

    def finish(self) -> None:
        super().finish()
        for number in range(6):
            self.cluster.record("n3", facts.account(f"Z{number}"))
            self.agree(f"after height {number}")
        traded: Counter[tuple[str, str]] = Counter()
        rows = max((cleared(self.cluster, name) for name in NAMES), key=len)
        for row in rows:
            for name in ((row["home"], row["taker"]), (row["maker_home"], row["maker"])):
                traded[name] += minor(row["stands"])
        for name, qty in traded.items():
            assert qty <= self.entered[name], f"{name} traded {qty} of {self.entered[name]}"
        causes = {
            one.cause
            for stored in max(self.cluster.stores.values(), key=len)
            for one in decode_adjustments(stored.adjustments)
        }
        self.tally.update(causes | ({"cleared"} if rows else set()))


def cleared(cluster: Cluster, node: str) -> list[dict[str, Any]]:
    """What auctions paired, by one node's word."""
    rows: Any = cluster.ask(node, api.Query("matches"))
    return [row for row in rows if row["id"].startswith("auction ")]


@pytest.mark.timeout(0)
def test_no_schedule_clears_an_order_beyond_its_quantity_or_an_account_beyond_its_collateral() -> None:
    class Machine(AuctionMachine):
        tally: ClassVar[Counter[str]] = Counter()

    run_state_machine_as_test(Machine, settings=budget(max_examples=EXAMPLES, stateful_step_count=50, phases=PHASES))
    for what in ("cleared", FORFEITED, ENTRIES_CLOSED):
        assert Machine.tally[what] or EXAMPLES < ENOUGH, f"no example with {what!r}: {Machine.tally}"


@pytest.mark.timeout(0)
def test_an_auction_that_forgets_to_take_what_it_cleared_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auctionsettling.Auctions, "_less", lambda *_: None)
    with pytest.raises((InvariantBroken, AssertionError), match=r"comes to|traded"):
        run_state_machine_as_test(
            AuctionMachine,
            settings=budget(max_examples=4 * ENOUGH, derandomize=True, database=None, phases=[Phase.generate]),
        )
