"""Stories of orders for settlement: what members, honest or not, may write about them, and how heights cut it.

Names come from small sets, so that facts meet: matches find their orders, answers their matches, and cancels race with both. Scales are
such that amounts do not come out even.
"""

from __future__ import annotations

import random
from typing import Any

from hypothesis import strategies as st

from crdtledger.errors import CallerError
from crdtledger.ledger.batch import Batch, Dep, ForkEvidence, fork_evidence
from crdtledger.ledger.commitment import Terms, commit
from crdtledger.ledger.facts import (
    Accept,
    Account,
    Cancel,
    Deposit,
    Fact,
    Fill,
    Grant,
    Instrument,
    Match,
    Order,
    Reserve,
    Reveal,
    Share,
    Void,
)
from crdtledger.ledger.genesis import Asset, Authority, Policies
from crdtledger.ledger.reference import instrument_digest
from tests.crdtledger.worlds import Pen, dep_on, genesis
from tests.reconcile.settlement_worlds import Story

ASSETS = (Asset("USDT", 1), Asset("BTC", 1))
ACCOUNTS = ("A", "B", "C")
ALL = Policies(beneficiary="F")
POLICIES = (ALL, ALL, Policies(), Policies(beneficiary="A", authorities=(Authority("n2", ("B",)),)))

_COMMON: dict[str, Any] = {"base": "BTC", "quote": "USDT", "price_decimals": 1, "qty_decimals": 1}
_FEES: dict[str, Any] = {"maker_fee_ppm": 1_000, "taker_fee_ppm": 30_000}
SPOT = Instrument(name="S", type="spot", settlement="USDT", **_COMMON | {"qty_decimals": 2}, **_FEES)
PERP = Instrument(name="P", type="perp", settlement="USDT", margin_ppm=100_000, **_COMMON, **_FEES)
COIN = Instrument(
    name="I", type="perp", settlement="BTC", margin_ppm=300_000, inverse=True, contract_size=7, **_COMMON, **_FEES
)
CALL = Instrument(
    name="O",
    type="option",
    settlement="USDT",
    margin_ppm=50_000,
    strike=20,
    expiry_us=9,
    option="call",
    **_COMMON,
    **_FEES,
)
AUCTION = Instrument(
    name="X",
    type="perp",
    settlement="USDT",
    margin_ppm=100_000,
    mode="auction",
    auction_every=2,
    reveal_window=1,
    **_COMMON,
)
FOREIGN = Instrument(name="N", type="spot", settlement="USDT", **_COMMON | {"base": "XYZ"})
TRADED = (SPOT, PERP, COIN, CALL, AUCTION, FOREIGN)
MEANT = {one.name: instrument_digest(one) for one in TRADED}
NONCE = "5" * 64


def hidden(home: str, account: str, side: Any, id: int) -> Order:
    """A hidden order that ``opened`` opens: 5 at 10 of at most 9 at 10."""
    terms = Terms(home, id, account, "X", side, 5, 10)
    sealed = commit(terms, NONCE)
    return Order(id=id, account=account, instrument="X", side=side, qty=9, price=10, reserve="u", hidden=sealed)


def opened(id: int, order: int, side: Any) -> Reveal:
    return Reveal(id=id, order=order, side=side, qty=5, price=10, nonce=NONCE)


stories = st.tuples(st.sampled_from(POLICIES), st.integers(0, 1 << 40), st.integers(1, 24))
"""(policies, what all luck comes from, how many batches)."""


class Author:
    """Draws facts that mostly meet what was written before, and now and then do not."""

    def __init__(self, luck: random.Random) -> None:
        self.luck = luck
        self.orders: list[tuple[str, Order]] = []
        self.matches: list[tuple[str, Match]] = []
        self.names = luck.choice(("S", "P", "I", "O", "X", "SP", "PX", "SPIOXN?"))
        self.ids = 0
        self.lane = ""

    def facts(self, node: int, account: str) -> list[Fact]:
        """What one batch says. Everything in it is about orders, or nothing is."""
        if self.luck.random() < 0.1:
            return [self._else(account)]
        return [self._about(f"n{node}", account) for _ in range(self.luck.randint(1, 5))]

    def _else(self, account: str) -> Fact:
        luck = self.luck
        if luck.random() < 0.5:
            return Void(id=luck.randint(0, 9), reserve=luck.choice("ub") + self.lane)
        terms: dict[str, Any] = {"instrument": luck.choice("SPI"), "account": account, "side": self._side()}
        return Fill(venue="V", trade_id=luck.randint(0, 9), qty=luck.randint(1, 9), price=luck.randint(8, 12), **terms)

    def _id(self) -> int:
        self.ids += 1
        return self.ids if self.luck.random() < 0.97 else self.luck.randint(0, self.ids)

    def _side(self) -> Any:
        return self.luck.choice(("buy", "sell"))

    def _qty(self) -> int:
        return self.luck.choice((1, 2, 3, 5, 9, 14, 30, 1 << 62 if self.luck.random() < 0.1 else 7))

    def _own(self, home: str) -> int:
        """The id of an order of this node, or any."""
        own = [order.id for node, order in self.orders if node == home]
        return int(self.luck.choice(own)) if own and self.luck.random() < 0.95 else self._id()

    def _about(self, home: str, account: str) -> Fact:
        luck = self.luck
        kind = luck.choices(("order", "match", "accept", "cancel", "share", "reveal"), (5, 6, 4, 1, 2, 1))[0]
        if kind == "order" or not self.orders:
            order = self._order(home, account)
            self.orders.append((home, order))
            return order
        if kind == "match":
            made = self._match(home)
            if isinstance(made, Match):
                self.matches.append((home, made))
            else:
                self.orders.append((home, made))
            return made
        if kind == "accept":
            asked = [(node, one) for node, one in self.matches if one.maker_home == home and one.survival]
            node, match = luck.choice(
                asked or self.matches or [("n0", Match(id=1, taker=1, maker_home=home, maker=1, qty=1, price=1))]
            )
            node, match = (node, match) if luck.random() < 0.3 else (asked or self.matches or [(node, match)])[-1]
            qty = luck.choice((match.qty, match.qty, match.qty, match.qty // 2, 0, self._qty()))
            return Accept(id=self._id(), match_home=node, match=match.id, qty=qty)
        if kind == "cancel":
            return Cancel(id=self._id(), order=self._own(home))
        if kind == "share":
            held = [(node, order) for node, order in self.orders if node == home]
            node, order = luck.choice(held if held and luck.random() < 0.9 else self.orders)
            return Share(id=self._id(), home=node, order=order.id, node=f"n{luck.randint(0, 2)}", qty=self._qty())
        secret = [order for node, order in self.orders if node == home and order.hidden]
        if not secret or luck.random() < 0.1:
            return opened(self._id(), self._own(home), self._side())
        chosen = luck.choice(secret)
        return opened(self._id(), int(chosen.id), chosen.side)

    def _order(self, home: str, account: str) -> Order:
        luck = self.luck
        if luck.random() < 0.03:
            account = luck.choice(ACCOUNTS)
        name, side, id = luck.choice(self.names), self._side(), self._id()
        if name == "X" and luck.random() < 0.6:
            return hidden(home, account, side, id)
        reserve = "b" if (name, side) == ("S", "sell") or name == "I" else "u"
        return Order(
            id=id,
            account=account,
            instrument=name,
            side=side,
            qty=self._qty(),
            price=luck.choice((9, 10, 10, 10, 11, 13, 60)),
            reserve=(luck.choice("ubx") if luck.random() < 0.05 else reserve) + self.lane,
            reduce_only=luck.random() < 0.15,
            amends=self._own(home) if luck.random() < 0.1 else None,
        )

    def _match(self, home: str) -> Match | Order:
        luck = self.luck
        mine = [order for node, order in self.orders if node == home]
        taker = luck.choice(mine[-4:] or [self.orders[0][1]])
        meet = [
            (node, order)
            for node, order in self.orders
            if (order.instrument, order.side) != (taker.instrument, taker.side)
            and order.instrument == taker.instrument
            and (order.account != taker.account or luck.random() < 0.05)
            and (order.price <= taker.price if taker.side == "buy" else order.price >= taker.price)
        ]
        if not meet and luck.random() < 0.9:
            return self._order(home, {"n0": "A", "n1": "B", "n2": "C"}[home])
        node, maker = luck.choice(meet[-4:] if meet and luck.random() < 0.97 else self.orders)
        survival = 0 if node == home and luck.random() < 0.95 else luck.choice((0, 5, 5, 5))
        price = maker.price if luck.random() < 0.97 else 10
        terms = {"taker": taker.id, "maker_home": node, "maker": maker.id, "qty": self._qty(), "price": price}
        return Match(id=self._id(), survival=survival, **terms)


def _lane(pen: Pen) -> str:
    """What tells the reserves of a node's second lane from those of its first."""
    return "2" if pen.lane.epoch == 2 else ""


def opening() -> list[tuple[int, list[Fact]]]:
    """How every story begins: definitions, money at the custodian, grants, and a reserve of each asset in each lane."""
    money: list[Fact] = [Deposit(id="d", account=a, asset=s, amount=9_000) for a in ACCOUNTS for s in ("USDT", "BTC")]
    grants: list[Fact] = [
        Grant(id=f"{account}{asset}{to}", account=account, asset=asset, amount=2_000, node=to)
        for account in ACCOUNTS
        for asset in ("USDT", "BTC")
        for to in ("n1", "n2")
    ]
    return [(0, [*TRADED, *(Account(name=name) for name in (*ACCOUNTS, "F"))]), (0, money), (0, grants)]


def reserves(account: str, usdt: int, btc: int, of: str) -> list[Fact]:
    return [
        Reserve(id=f"u{of}", account=account, asset="USDT", amount=usdt),
        Reserve(id=f"b{of}", account=account, asset="BTC", amount=btc),
    ]


def written(drawn: tuple[Policies, int, int], auctions: bool = True) -> Story:
    """The story that a draw of ``stories`` tells. ``n0`` reserves for A, ``n1`` for B (in both lanes), ``n2`` for C."""
    policies, seed, steps = drawn
    luck = random.Random(seed)
    author = Author(luck)
    if not auctions:
        author.names = author.names.replace("X", "P")
    founded = genesis(3, policies, ASSETS)
    pens = [Pen(founded, 0), Pen(founded, 1), Pen(founded, 1, epoch=2), Pen(founded, 2)]
    story: list[Batch] = []
    proofs: dict[bytes, ForkEvidence] = {}
    for who, facts in opening():
        story.append(pens[who].seal(pens[who].draft(facts, MEANT)))
    claim = dep_on(story[-1])
    for pen, account in zip(pens, ("A", "B", "B", "C"), strict=True):
        on = [claim] if pen.node else []
        if pen.lane.epoch == 2:
            on = [dep_on(story[-1])]
        usdt, btc = luck.choice(((700, 300), (120, 90), (25, 12)))
        story.append(pen.seal(pen.draft(reserves(account, usdt, btc, _lane(pen))), on))
    for _ in range(steps):
        who = luck.randint(0, 3)
        pen, sees = pens[who], luck.random() < 0.8
        author.lane = _lane(pen)
        facts = author.facts(pen.node, "ABBC"[who])
        heads = {batch.key: dep_on(batch) for batch in story if batch.key != pen.lane.key} if sees else {}
        deps: list[Dep] = list(heads.values())
        other = pen.copy()
        try:
            body = pen.draft(facts, {**MEANT, "?": bytes(16)})
        except CallerError:
            continue
        batch = pen.seal(body, deps)
        story.append(batch)
        if luck.random() < 0.02:
            proof = fork_evidence(batch, other.write(clock=1 << 30))
            proofs.setdefault(proof.lane, proof)
    return Story(founded, story, list(proofs.values()))
