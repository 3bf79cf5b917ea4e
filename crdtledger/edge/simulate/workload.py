"""Clients of a simulated cluster: they record what desks record, at random nodes, and are refused now and then.

Few names, so that they meet: two accounts, two assets, a linear and an inverse instrument, one that is defined late and in several
ways, and a few dozen trades that several nodes are told of, sometimes otherwise. Amounts lie around what the node may spend. Two more
accounts place orders and do nothing else, so that the others' money can be told without them; what meets is matched, and answered. A
client whose node is down asks nobody; what it was not answered it does not repeat under the same id but for trades, which repeat by
themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import numpy as np

from crdtledger.edge import api
from crdtledger.edge.simulate import writing
from crdtledger.edge.simulate.cluster import Cluster
from crdtledger.edge.simulate.scenario import TRADING, Workload
from crdtledger.edge.simulate.trading import Floor
from crdtledger.edge.simulate.watch import Watch
from crdtledger.edge.simulate.writing import DECIMALS, Json, said
from crdtledger.errors import decimal_text
from crdtledger.ledger.drafting import FillColumns

ACCOUNTS = ("A", "B")
TRADES = 40
OPENING = 100_000
SIZES = ("1", "0.1", "2.5")
SPENDS = ("withdrawal", "transfer", "reserve")
TRADERS = ("C", "D")
STAKES = {"USDT": 10_000_000, "BTC": 1_000_000_000}
"""What a trader begins with; a node reserves a hundredth of it for orders when it has none."""


class Clients:
    """The clients of ``cluster``, seen by ``watch``. ``done``: what was asked for, by kind."""

    def __init__(self, cluster: Cluster, watch: Watch, options: Workload, draw: Random) -> None:
        self._cluster, self._watch, self._draw = cluster, watch, draw
        self._kinds = options.__struct_fields__[1:]
        self._weights = [getattr(options, kind) for kind in self._kinds]
        self._pause_us = options.pause_ms * 1_000
        self._number = 0
        self._reserves: dict[str, list[str]] = {name: [] for name in cluster.names}
        self.done: dict[str, int] = {}

    def opening(self) -> list[tuple[str, list[Json]]]:
        """(node, facts) to begin with: names, money, and rights for everybody."""
        names = self._cluster.names
        share = OPENING // (len(names) + 1)
        facts = [*map(writing.account, ACCOUNTS), writing.linear("PERP"), writing.inverse("COIN")]
        grants = [writing.grant(f"g-{name}", "A", "USDT", share, name) for name in names[1:]]
        usdt, btc = (self._cluster.genesis.custodian("A", asset) for asset in ("USDT", "BTC"))
        return [
            (usdt, [*facts, writing.deposit("d-usdt", "A", "USDT", OPENING)]),
            *([(usdt, grants)] if grants else []),
            (btc, [writing.account("A"), writing.deposit("d-btc", "A", "BTC", 50_000_000)]),
            *self._stakes(),
        ]

    def _stakes(self) -> Iterator[tuple[str, list[Json]]]:
        """What the traders begin with, if they trade: money, and an equal share of it for every node."""
        if not any(weight for kind, weight in zip(self._kinds, self._weights, strict=True) if kind in TRADING):
            return
        linear = writing.linear("DESK", margin_ppm=100_000, taker_fee_ppm=500)
        market = [linear, writing.inverse("DESKCOIN", margin_ppm=100_000)]
        for asset, amount in STAKES.items():
            node, names = self._cluster.genesis.custodian(TRADERS[0], asset), self._cluster.names
            money = [writing.deposit("stake", account, asset, amount) for account in TRADERS]
            yield node, [*map(writing.account, TRADERS), *market, *money]
            share = amount // (len(names) + 1)
            grants = [
                writing.grant(f"{account}{asset}{name}", account, asset, share, name)
                for account in TRADERS
                for name in names
                if name != node
            ]
            if grants:
                yield node, grants

    def pause(self) -> int:
        """Microseconds until the next request."""
        return int(self._draw.expovariate(1 / self._pause_us)) + 1

    def act(self) -> str:
        """One request, at a node that is up; what it was about, or nothing."""
        up = self._cluster.sim.up()
        if not up:
            return ""
        node = self._draw.choice(up)
        kind = self._draw.choices(self._kinds, self._weights)[0]
        self.done[kind] = self.done.get(kind, 0) + 1
        self._number += 1
        if kind == "columns":
            self._columns(node)
            return f"{node} imports trades"
        facts = list(self._facts(kind, node))
        if facts:
            self.record(node, facts)
        return f"{node} records {', '.join(fact['kind'] for fact in facts)}" if facts else ""

    def record(self, node: str, facts: list[Json]) -> None:
        """Ask ``node`` to record facts; the answer comes when it comes."""
        self._watch.expect(self._cluster.submit(node, api.Record(facts)), map(said, facts))

    def _facts(self, kind: str, node: str) -> Iterator[Json]:
        draw = self._draw
        if kind in ("fills", "contradictions", "busts"):
            instrument = draw.choice(("PERP", "PERP", "COIN", "LATE"))
            if self._knows(node, instrument):
                more = draw.randrange(1, 4) if kind == "contradictions" else 0
                trades = {draw.randrange(1, TRADES) for _ in range(1 if more else draw.randrange(1, 5))}
                for number in sorted(trades):
                    yield self._trade(number, instrument, more) | ({"kind": "bust"} if kind == "busts" else {})
        elif kind in TRADING:
            yield from self._trading(kind, node)
        elif kind == "definitions":
            yield writing.linear("LATE", contract_size=draw.choice(SIZES))
        elif kind == "reserves" and self._reserves[node]:
            reserve = draw.choice(self._reserves[node])
            if draw.random() < 0.5:
                yield writing.void(self._id(node), reserve)
            else:
                yield writing.post(self._id(node), reserve, "USDT", draw.choice((1, 60, 5_000)), "B")
        else:
            yield from self._money(kind, node)

    def _money(self, kind: str, node: str) -> Iterator[Json]:
        draw = self._draw
        account, asset = draw.choice(ACCOUNTS), draw.choice(tuple(DECIMALS))
        id = self._id(node)
        if kind == "deposits":
            if node == self._cluster.genesis.custodian(account, asset):
                yield writing.deposit(f"d{draw.randrange(50)}", account, asset, 1_000)
            return
        amount = max(1, self._cluster.spendable(node, account, asset) // draw.choice((1, 3, 8, 100)))
        amount += draw.choice((-1, 0, 0, 0, 1, 500)) if amount > 1 else 0
        others = [name for name in self._cluster.names if name != node]
        what = "grant" if kind == "grants" else "reserve" if kind == "reserves" else draw.choice(SPENDS)
        if what == "grant" and others:
            yield writing.grant(id, account, asset, amount, draw.choice(others))
        elif what == "transfer":
            yield writing.transfer(id, account, asset, amount, "B" if account == "A" else "A")
        elif what == "reserve":
            if asset == "USDT":
                self._reserves[node] = [*self._reserves[node][-20:], id]
            yield writing.reserve(id, account, asset, amount)
        else:
            shared = draw.random() < 0.1  # one withdrawal, asked for at several nodes
            yield writing.withdrawal("w-7" if shared else id, account, asset, 7 if shared else amount)

    def _trading(self, kind: str, node: str) -> Iterator[Json]:
        draw, floor, id = self._draw, Floor(self._cluster.core(node)), self._id(node)
        if kind == "orders" and self._knows(node, "DESK"):
            account, side = draw.choice(TRADERS), draw.choice(("buy", "sell"))
            instrument, asset = draw.choice((("DESK", "USDT"), ("DESKCOIN", "BTC")))
            if floor.reserves(f"{account}/{asset}"):
                price = 10_000 + draw.choice((-5, 0, 0, 5))
                yield floor.order(id, instrument, account, side, draw.randrange(1, 50), price)
            else:
                for name, amount in STAKES.items():
                    yield writing.reserve(f"{account}/{name}", account, name, amount // 100)
        elif kind == "matches" and (deals := floor.deals()):
            deal = draw.choice(deals)
            yield floor.match(id, deal, draw.choice((deal.most, draw.randrange(1, deal.most + 1))), deal.firm)
        elif kind == "accepts" and (asked := floor.questions()):
            question = draw.choice(asked)
            yield floor.accept(id, question, draw.choice((question.most, question.most, question.most // 2, 0)))
        elif kind == "cancels" and (own := floor.own()):
            yield {"kind": "cancel", "id": id, "order": draw.choice(own).id}
        elif kind == "shares" and (held := floor.held()) and len(self._cluster.names) > 1:
            order, most = draw.choice(held)
            to = draw.choice([name for name in self._cluster.names if name != node])
            yield floor.share(id, order, to, draw.randrange(1, most + 1))

    def _columns(self, node: str) -> None:
        first, count = self._draw.randrange(1, TRADES), self._draw.randrange(1, 30)
        if not self._knows(node, "PERP"):
            return
        trades = [self._trade(number, "PERP", 0) for number in range(first, first + count)]
        handle = self._cluster.submit(node, api.pack_fills(_columns(range(first, first + count)), None))
        self._watch.expect(handle, map(said, trades))

    def _knows(self, node: str, instrument: str) -> bool:
        return self._cluster.core(node).replica.view.catalog.standing(instrument) is not None

    def _id(self, node: str) -> str:
        return f"{node}-{self._number}"

    @staticmethod
    def _trade(number: int, instrument: str, more: int) -> Json:
        """What the venue says about a trade; ``more``: what another feed says."""
        coin = instrument == "COIN"
        return {
            "kind": "fill",
            "venue": "V",
            "trade_id": number,
            "instrument": instrument,
            "account": ACCOUNTS[number % 2],
            "side": "sell" if number % 4 == 0 else "buy",
            "qty": decimal_text(number + more, 0 if coin else 3),
            "price": decimal_text(50_000 + number, 1 if coin else 2),
            "fee": decimal_text(number % 7 - 2, 8 if coin else 2),
        }


def _columns(numbers: range) -> FillColumns:
    """The same trades as ``Clients._trade`` tells of PERP, as columns."""
    number = np.array(numbers, np.int64)
    return FillColumns(
        venue="V",
        instrument="PERP",
        trade_id=number.astype(np.uint64),
        price=50_000 + number,
        qty=number,
        side=np.where(number % 4 == 0, -1, 1).astype(np.int8),
        account=number % 2,
        accounts=ACCOUNTS,
        fee=number % 7 - 2,
    )
