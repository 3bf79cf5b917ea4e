"""A simulated cluster that trades: accounts with rights where they trade, one instrument, and clients that enter orders."""

from __future__ import annotations

from typing import Any

from crdtledger.edge import api
from crdtledger.edge.simulate import writing as facts
from crdtledger.edge.simulate.cluster import SECOND, Cluster
from crdtledger.errors import LedgerError, decimal_text
from crdtledger.ledger.genesis import Policies
from crdtledger.matching.sharing import SharePolicy
from reconcile.agreement import Timeouts

QUICK = Timeouts(propose_us=400_000, prevote_us=200_000, precommit_us=200_000, growth_us=100_000)
PERP = "P"
MARGIN_PPM = 100_000
HOMES = {"A": "n0", "B": "n1", "C": "n2", "D": "n3"}
"""Accounts, and the node where each trades."""


def order(id: str, account: str, side: str, qty: int, price: int, **more: Any) -> facts.Json:
    text = {"qty": decimal_text(qty, 3), "price": decimal_text(price, 2)}
    return {"kind": "order", "id": id, "account": account, "instrument": PERP, "side": side, **text, **more}


def cancel(id: str) -> facts.Json:
    return {"kind": "cancel", "id": f"c {id}", "order": id}


class Market(Cluster):
    """``checked``: every node's invariants are asserted after each of its steps."""

    def __init__(self, seed: int = 0, checked: bool = True, **options: Any) -> None:
        policies = Policies(agreement="tendermint", checkpoint_interval_ms=300)
        sharing = SharePolicy(share_ppm=policies.grant_share_ppm)
        super().__init__(seed=seed, policies=policies, timeouts=QUICK, sharing=sharing, **options)
        if checked:
            self.sim.on_step = lambda _, name: self.look(name)
        self.entered = 0
        self.quantities: dict[tuple[str, str], int] = {}

    def look(self, name: str) -> None:
        """Everybody here is honest: no view shows more of an order matched than there is."""
        core = self.core(name)
        core.check_invariants()
        orders = core.replica.view.orders
        known = [orders.get(one) for one in orders.names()]
        assert all(qty >= 0 for record in known if record is not None for qty in record.held.values())

    def open(self, amount: int = 10_000_000) -> None:
        """Define everything, and give each account rights at its home."""
        instrument = facts.linear(PERP, margin_ppm=MARGIN_PPM)
        first = self.names[0]
        self.record(first, instrument, *(facts.account(name) for name in HOMES))
        self.record(first, *(facts.deposit(f"d {name}", name, "USDT", amount) for name in HOMES))
        given = [facts.grant(f"g {a}", a, "USDT", amount, home) for a, home in HOMES.items() if home != first]
        self.record(first, *given)
        assert self.settle()

    def enter(self, account: str, side: str, qty: int, price: int, **more: Any) -> str:
        """Enter an order at the account's home; its id."""
        self.entered += 1
        id = f"o{self.entered}"
        self.record(HOMES[account], order(id, account, side, qty, price, **more))
        self.quantities[HOMES[account], id] = qty
        return id

    def try_enter(self, account: str, side: str, qty: int, price: int, **more: Any) -> LedgerError | None:
        try:
            self.enter(account, side, qty, price, **more)
        except LedgerError as error:
            return error
        return None

    def cancel(self, account: str, id: str) -> None:
        self.record(HOMES[account], cancel(id))

    def rows(self, name: str, view: api.QueryName, **narrow: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.ask(name, api.Query(view, **narrow))
        return rows

    def matches(self, name: str) -> list[dict[str, Any]]:
        return self.rows(name, "matches")

    def position(self, account: str, name: str = "n0") -> str:
        rows = self.rows(name, "positions", account=account)
        return str(rows[0]["settled_qty"]) if rows else "0.000"

    def at_rest(self) -> bool:
        """Whether all agree, everything is settled, and no match waits."""
        if not self.in_step():
            return False
        cores = [self.core(name) for name in self.names]
        return all(
            not core.replica.unsettled() and not core.replica.state.pending and core.orders.settled_down
            for core in cores
        )

    def rest(self, limit_us: int = 120 * SECOND) -> None:
        """Heal everything, and run until all is answered and settled."""
        self.settle()
        assert self.sim.run_until(self.at_rest, limit_us), "the market does not come to rest"
