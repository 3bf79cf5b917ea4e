"""The pit: a seller quotes at the first node, and one buyer on each side of the cut takes the same quotes. Impure, but for ``judge_pit``.

Before the cut both buyers trade with everybody in sight, so the nodes learn how the seller's home answers. Into the cut it goes with
quotes that both sides have seen. The seller's side takes some of them and the seller withdraws most of the others, while the buyer on the
other side goes on taking what it sees: its matches are tentative. What became of them is told when all is settled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from crdtledger.edge import api
from crdtledger.edge.calibration import Calibration, calibrate
from crdtledger.edge.demo.stage import Seat, Stage
from crdtledger.errors import CallerError, decimal_text
from crdtledger.ledger.decimals import to_minor
from crdtledger.ledger.facts import Instrument

PIT: Final = Instrument(
    name="BTC-PIT",
    type="perp",
    base="BTC",
    quote="USDT",
    settlement="USDT",
    price_decimals=1,
    qty_decimals=3,
    margin_ppm=100_000,
)
SELLER, NEAR, FAR = "PIT-SELLER", "PIT-NEAR", "PIT-FAR"
ACCOUNTS: Final = (SELLER, NEAR, FAR)
MONEY: Final = "1000000"
PRICE: Final = 618_000
STEP: Final = 10
QUOTES: Final = 10
SIZE: Final = 400
"""Of a quote and of what the near buyer takes at once, in minor units; the far one takes three quarters of it."""
HITS: Final = {"trade": 8, "cut": 8}
KEPT: Final = 5
"""So many quotes of the cut are not withdrawn."""
GLANCE_S: Final = 0.02
PAUSE_S: Final = 0.1

Rows = Sequence[Mapping[str, Any]]


class Pit:
    """Who trades where: the seller at the first node, the near buyer on its side of the cut, the far one on the other."""

    def __init__(self, stage: Stage, left: Sequence[str], right: Sequence[str]) -> None:
        self._stage = stage
        self.surprises: list[str] = []
        """What was refused: nothing should be."""
        self._homes = {SELLER: stage.names[0], NEAR: left[-1], FAR: right[0]}

    def _seat(self, account: str) -> Seat:
        return self._stage.seats[self._homes[account]]

    async def open(self) -> None:
        """Define the instrument, and give each account what it needs where it trades."""
        terms = {"name": PIT.name, "type": PIT.type, "base": PIT.base, "quote": PIT.quote, "settlement": PIT.settlement}
        units = {"price_decimals": PIT.price_decimals, "qty_decimals": PIT.qty_decimals, "margin_ppm": PIT.margin_ppm}
        money = {"asset": PIT.settlement, "amount": MONEY}
        first = self._seat(SELLER)
        await first.record([{"kind": "instrument", **terms, **units}])
        await first.record([{"kind": "account", "name": name} for name in ACCOUNTS])
        await first.record([{"kind": "deposit", "id": f"pit/{name}", "account": name, **money} for name in ACCOUNTS])
        away = {name: home for name, home in self._homes.items() if home != first.name}
        grants = [{"id": f"pit/grant/{name}", "account": name, "node": home} for name, home in away.items()]
        await first.record([{"kind": "grant", **grant, **money} for grant in grants])

    async def quote(self, act: str) -> None:
        """The seller quotes; everybody who is to trade sees it."""
        told = [self._order(f"pit/{act}/{n}", SELLER, "sell", SIZE, PRICE + n * STEP) for n in range(QUOTES)]
        await self._seat(SELLER).record(told)
        for buyer in (NEAR, FAR):
            while not await self._sees(buyer, f"pit/{act}/{QUOTES - 1}"):
                await asyncio.sleep(GLANCE_S)

    async def _sees(self, buyer: str, id: str) -> bool:
        rows: Rows = await self._seat(buyer).ask(api.Query("orders", instrument=PIT.name))
        return any(row["id"] == id for row in rows)

    async def play(self, act: str) -> None:
        """Both buyers take what they see; in the cut the seller withdraws what its side has left of its quotes, but for a few."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take(FAR, act, HITS[act], SIZE * 3 // 4))
            group.create_task(self._take(NEAR, act, HITS[act] // 2, SIZE))
        if act == "cut":
            ids = [f"pit/{act}/{n}" for n in range(KEPT, QUOTES)]
            await self._seat(SELLER).record([{"kind": "cancel", "id": f"{id}/cancel", "order": id} for id in ids])

    async def _take(self, buyer: str, act: str, hits: int, qty: int) -> None:
        for number in range(hits):
            order = self._order(f"pit/{act}/{buyer}/{number}", buyer, "buy", qty, PRICE + QUOTES * STEP)
            try:
                await self._seat(buyer).record([{**order, "tif": "ioc"}])
            except CallerError as refusal:
                self.surprises.append(f"{buyer}, {order['id']}: {refusal}")
            await asyncio.sleep(PAUSE_S)

    def _order(self, id: str, account: str, side: str, qty: int, price: int) -> dict[str, Any]:
        text = {"qty": decimal_text(qty, PIT.qty_decimals), "price": decimal_text(price, PIT.price_decimals)}
        return {"kind": "order", "id": id, "account": account, "instrument": PIT.name, "side": side, **text}


def is_pit(row: Mapping[str, Any]) -> bool:
    """Whether a row of a view is the pit's. Its figures follow from matches, not from what the driver handed in."""
    return row.get("account") in ACCOUNTS


def judge_pit(matches: Rows, views: Mapping[str, Mapping[str, Any]]) -> tuple[Calibration, str]:
    """What matches came to, by one node's word, and what is wrong with that by everybody's figures, or nothing."""
    rows = [row for row in matches if row["instrument"] == PIT.name]
    calibration = calibrate(rows)
    filled: dict[str, int] = {}
    held = dict.fromkeys(ACCOUNTS, 0)
    for row in rows:
        stands = to_minor(row["stands"], PIT.qty_decimals)
        for order, account, sign in ((row["maker"], row["maker_account"], -1), (row["taker"], row["taker_account"], 1)):
            filled[order] = filled.get(order, 0) + stands
            held[account or SELLER] += sign * stands
    beyond = sorted(order for order, qty in filled.items() if qty > SIZE)
    if beyond:
        return calibration, f"{beyond[0]} is filled beyond its quantity"
    if calibration.waiting:
        return calibration, f"{calibration.waiting} matches wait for an answer"
    for node, answers in views.items():
        shown = {row["account"]: row["qty"] for row in answers["positions"] if row["instrument"] == PIT.name}
        for account, qty in held.items():
            if to_minor(shown.get(account, "0"), PIT.qty_decimals, signed=True) != qty:
                return calibration, f"{node} shows {shown.get(account)} for {account}, its matches {qty}"
    return calibration, ""
