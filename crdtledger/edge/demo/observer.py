"""The observer: asks the nodes every moment what they hold, so that the picture shows their word and not the driver's.

It never fails the demo: a node that is down or busy is simply shown as it was last seen.
"""

from __future__ import annotations

import asyncio
from fractions import Fraction
from typing import Final

from crdtledger.edge import api
from crdtledger.edge.demo.scene import Scene
from crdtledger.edge.demo.stage import Seat, Stage
from crdtledger.errors import LedgerError

INTERVAL_S: Final = 0.4
WATCHED: Final = 4


async def observe(stage: Stage, scene: Scene) -> None:
    """Until cancelled."""
    while True:
        await asyncio.gather(*(_look(seat, scene) for seat in stage.seats.values()))
        for node in scene.nodes.values():
            node.lacks = max(0, scene.facts - node.facts) if node.facts else 0
        await asyncio.sleep(INTERVAL_S)


async def _look(seat: Seat, scene: Scene) -> None:
    node = scene.nodes[seat.name]
    client = seat.client
    if client is None or not seat.up.is_set():
        return
    try:
        async with asyncio.timeout(2.0):
            status = await client.request(api.Query("status"))
            balances = await client.request(api.Query("collateral"))
            ends = (next(iter(scene.nodes)), next(reversed(scene.nodes)))
            rows = await client.request(api.Query("positions")) if seat.name in ends else []
    except (TimeoutError, LedgerError):
        return
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return
    node.facts = status["facts"]
    node.height, node.unsettled = status["base"]["height"], status["unsettled_batches"]
    spendable = sum(Fraction(row["rights"].get(seat.name, "0")) for row in balances if row["asset"] == "USDT")
    node.spendable = f"{int(spendable):,}"
    if rows:
        node.positions = {(row["account"], row["instrument"]): row["qty"] for row in rows}
    if rows and not scene.watched:
        instruments = sorted({row["instrument"] for row in rows})
        cells = sorted(node.positions)
        scene.watched = [next(cell for cell in cells if cell[1] == name) for name in instruments][:WATCHED]
