"""Desks that trade through partitions: what an honest node wrote firmly stands whole, and settlement says what views said."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from crdtledger.ledger.facts import Accept, Account, Cancel, Deposit, Grant, Match, Order, Reserve, Share
from crdtledger.ledger.genesis import Policies
from crdtledger.ledger.replica import Missing
from crdtledger.ledger.settled import SettledState
from reconcile.adjustments import ACCEPTED, ACCEPTED_LESS, NO_MATCH, NO_ORDER, REFUSED
from reconcile.checkpoint import cut_of
from reconcile.settlement import Settlement, settle
from tests.crdtledger.worlds import World
from tests.reconcile.match_worlds import ACCOUNTS, ASSETS, CALL, COIN, PERP, SPOT

TRADED = (SPOT, PERP, COIN, CALL)
NODES = ("n0", "n1", "n2")


class Market:
    """Three desks, an account each, and a checkpoint of what ``n0`` holds whenever somebody makes one."""

    def __init__(self, luck: random.Random) -> None:
        self.luck = luck
        self.world = World(3, Policies(beneficiary="F"), ASSETS)
        self.desks = self.world.desks
        self.state, self.height, self.digest = SettledState.empty(self.world.genesis), 0, self.world.genesis.hash
        self.id = 0
        self.traded = luck.sample(TRADED, 2)
        self.settled: list[Settlement] = []
        self.refused: Counter[str] = Counter()
        money = [Deposit(id="d", account=a, asset=s, amount=90_000) for a in ACCOUNTS for s in ("USDT", "BTC")]
        shares = [
            Grant(id=f"{account}{asset}", account=account, asset=asset, amount=60_000, node=node)
            for account, node in (("B", "n1"), ("C", "n2"))
            for asset in ("USDT", "BTC")
        ]
        self.desks[0].record(*TRADED, *(Account(name=name) for name in (*ACCOUNTS, "F")), *money)
        self.desks[0].record(*shares)
        self.world.sync()
        for desk, account in zip(self.desks, ACCOUNTS, strict=True):
            desk.record(Reserve(id="u", account=account, asset="USDT", amount=luck.choice((400, 2_000, 50_000))))
            desk.record(Reserve(id="b", account=account, asset="BTC", amount=luck.choice((40, 20_000))))

    def step(self) -> None:
        """One desk writes, or hears, or a checkpoint is made."""
        node = self.luck.randrange(3)
        what = self.luck.choices(
            ("hear", "order", "match", "answer", "cancel", "share", "settle"), (9, 5, 6, 12, 1, 3, 1)
        )[0]
        if what == "hear":
            for other in self.luck.sample(range(3), 2):
                self.world.send(other, node)
        elif what == "settle":
            self.settle()
        else:
            self.id += 1
            for fact in getattr(self, f"_{what}")(node):
                refusal = self.desks[node].tries(fact)
                self.refused[type(refusal).__name__ if refusal else "recorded"] += 1

    def settle(self) -> None:
        """Settle all that ``n0`` holds, and let everybody who holds it stand on it."""
        replica, genesis = self.desks[0].replica, self.world.genesis
        heads = {lane: (head.seq, head.hash) for lane, head in replica.frontier().items()}
        cut = cut_of(heads)
        batches = replica.collect(cut)
        assert not isinstance(batches, Missing)
        self.height += 1
        settled = settle(genesis, self.state, self.digest, cut, batches, (), height=self.height)
        self.settled.append(settled)
        self.state, self.digest = settled.state, bytes([self.height % 251]) * 32
        for index in range(3):
            self.world.send(0, index)
        for desk in self.desks:
            desk.replica.rebase(self.height, self.digest, self.state)

    def _orders(self, node: int) -> Any:
        return self.desks[node].replica.view.orders

    def _order(self, node: int) -> list[Any]:
        luck, traded = self.luck, self.luck.choice(self.traded)
        side = luck.choice(("buy", "sell"))
        reserve = "b" if traded is COIN or (traded is SPOT and side == "sell") else "u"
        terms: dict[str, Any] = {"account": ACCOUNTS[node], "instrument": traded.name, "side": side, "reserve": reserve}
        amends = self._own(node) if luck.random() < 0.1 else None
        price = luck.choice((9, 10, 10, 10, 11))
        return [Order(id=self.id, qty=luck.randint(1, 40), price=price, amends=amends, **terms)]

    def _own(self, node: int) -> Any:
        own = [name[1] for name in self._orders(node).names() if name[0] == NODES[node]]
        return self.luck.choice(own) if own else None

    def _cancel(self, node: int) -> list[Any]:
        own = self._own(node)
        return [Cancel(id=self.id, order=own)] if own is not None else []

    def _share(self, node: int) -> list[Any]:
        held = [
            one for name in self._orders(node).names() if (one := self._orders(node).get(name)).open_at(NODES[node])
        ]
        if not held:
            return []
        one = self.luck.choice(held)
        qty = self.luck.randint(1, one.open_at(NODES[node]))
        to = self.luck.choice([other for other in NODES if other != NODES[node]])
        return [Share(id=self.id, home=one.home, order=one.id, node=to, qty=qty)]

    def _match(self, node: int) -> list[Any]:
        view, me = self._orders(node), NODES[node]
        known = [view.get(name) for name in view.names()]
        pairs = [
            (maker, taker)
            for taker in known
            if taker.home == me and taker.open_at(me)
            for maker in known
            if maker.open and maker.terms.instrument == taker.terms.instrument and maker.terms.side == -taker.terms.side
            if (taker.terms.price - maker.terms.price) * taker.terms.side >= 0
            and maker.terms.account != taker.terms.account
        ]
        if not pairs:
            return []
        maker, taker = self.luck.choice(pairs)
        firm = bool(maker.open_at(me))
        most = min(taker.open_at(me), maker.open_at(me) if firm else maker.open_at(maker.home))
        if not most:
            return []
        terms: dict[str, Any] = {
            "taker": taker.id,
            "maker_home": maker.home,
            "maker": maker.id,
            "price": maker.terms.price,
        }
        return [Match(id=self.id, qty=self.luck.randint(1, most), survival=0 if firm else 500_000, **terms)]

    def _answer(self, node: int) -> list[Any]:
        view, me = self._orders(node), NODES[node]
        out: list[Any] = []
        for name in sorted({*view.matches(), *view.pending_names()}):
            fact, pending = view.match(name), view.pending(name)
            maker, asked = (fact.about, fact.qty) if fact else (pending.maker, pending.held)
            firm = fact is not None and fact.firm
            if maker[0] != me or firm or view.answer(name) is not None:
                continue
            record = view.get(maker)
            left = min(record.open_at(me) if record else 0, asked)
            qty = self.luck.choice((left, left, left, left, left // 2, 0))
            out.append(Accept(id=f"{self.id} {len(out)}", match_home=name[0], match=name[1], qty=qty))
            if qty:
                break  # what is left of the maker is another figure now
        return out


def figures(view: Any) -> dict[Any, tuple[int, int, int]]:
    """Of every order that is not done: what traded, what is open, what waits."""
    rows = {row.name: (row.filled + row.matched, row.open, row.asking) for row in view.order_rows()}
    return {name: row for name, row in rows.items() if row[1] or row[2]}


MAY_HAPPEN = {NO_ORDER, NO_MATCH, REFUSED, ACCEPTED, ACCEPTED_LESS}


@settings(max_examples=40)
@given(seed=st.integers(0, 1 << 40), steps=st.integers(20, 90))
def test_what_an_honest_desk_matched_stands_and_settlement_says_what_views_said(seed: int, steps: int) -> None:
    market = Market(random.Random(seed))
    for _ in range(steps):
        market.step()
    market.world.sync()
    told = figures(market.desks[0].replica.view)
    assert all(desk.replica.view.digest() == market.desks[0].replica.view.digest() for desk in market.desks)
    market.settle()
    for settled in market.settled:
        assert settled.state.imbalance() == {}
        for one in settled.adjustments:
            assert one.effect == "credited" or one.cause in MAY_HAPPEN, one
    gone = {name for name, row in told.items() if name not in market.state.orders}
    lost = {match for settled in market.settled for match in settled.adjustments if match.cause == NO_ORDER}
    assert not gone or lost
    if not lost:
        assert figures(market.desks[0].replica.view) == told
