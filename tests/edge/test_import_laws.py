"""What holds of every import, however the file is cut into blocks and wherever client or node gives up: in the end the node
has been told every trade, in the file's order, and no cursor was ever ahead of what it had been told."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.edge import api, importing
from crdtledger.edge.importers import Trades
from crdtledger.edge.importing import Plan, Report, import_trades
from crdtledger.errors import Unreachable


class Node:
    """As much of a node and its client as an import needs: it takes requests in order, and may fall silent at one.

    ``mute_at``: the number of the request (of fills) from which on nothing is heard; ``heard``: whether the node still took in
    that one, so that only its answer was lost.
    """

    endpoint = type("Endpoint", (), {"genesis": None})

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, int, str]] = []
        self.known: set[int] = set()
        self.cursors: dict[str, int] = {}
        self.accounts: set[str] = set()
        self.answers: list[dict[str, int] | None] = []
        self.mute_at: int | None = None
        self.heard = True

    def query(self, view: str, account: str = "", instrument: str = "") -> Any:
        if view == "accounts":
            return [{"account": name} for name in self.accounts]
        return [{"price_decimals": 2, "qty_decimals": 3}]

    def record(self, facts: list[dict[str, Any]]) -> None:
        self.accounts.update(fact["name"] for fact in facts)

    def request(self, request: api.CursorOf) -> dict[str, int]:
        return {"position": self.cursors.get(request.source, 0), "line": 0}

    def send(self, request: api.Columns) -> int:
        number = len(self.answers)
        mute_at = len(self.answers) + 1 if self.mute_at is None else self.mute_at
        answer = self.take(request) if number < mute_at or (number == mute_at and self.heard) else None
        self.answers.append(answer if number < mute_at else None)
        return number

    def take(self, request: api.Columns) -> dict[str, int]:
        fills = api.unpack_fills(request)
        names = [fills.accounts[index] for index in fills.account.tolist()]
        assert set(names) <= self.accounts, "accounts are defined before they are used"
        terms = zip(
            fills.trade_id.tolist(), fills.price.tolist(), (fills.qty * fills.side).tolist(), names, strict=True
        )
        fresh = [row for row in terms if row[0] not in self.known]
        self.rows += fresh
        self.known.update(row[0] for row in fresh)
        assert request.cursor is not None
        assert request.cursor.position <= len(self.known), "a cursor is never ahead of what the node was told"
        self.cursors[request.cursor.source] = request.cursor.position
        return {"facts": len(fresh), "duplicates": len(fills) - len(fresh)}

    def collect(self, number: int, timeout_s: float | None = None) -> dict[str, int]:
        answer = self.answers[number]
        if answer is None:
            raise Unreachable(target="node", why="silent")
        return answer


trades = st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 10**6), st.booleans()), min_size=6, max_size=40)


@given(
    content=trades,
    block=st.integers(1, 12),
    chunk=st.integers(100, 6_000),
    accounts=st.integers(1, 9),
    failures=st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=3),
)
def test_every_trade_arrives_once_and_in_order_whatever_is_cut_and_lost(
    content: list[tuple[int, int, bool]], block: int, chunk: int, accounts: int, failures: list[tuple[int, bool]]
) -> None:
    node = Node()
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(importing, "BLOCK_ROWS", block),
        patch("crdtledger.edge.importers.source.CHUNK_BYTES", chunk),
    ):
        file = Path(folder) / "f"
        file.write_text("".join(line(number, *terms) for number, terms in enumerate(content)))
        plan = Plan(file=file, format="binance-stream", instrument="I", accounts=accounts)
        for mute_after, node.heard in failures:
            node.mute_at = len(node.answers) + mute_after
            try:
                run(node, plan)
            except Unreachable:
                continue
        node.mute_at = None
        report = run(node, plan)
        again = run(node, plan)
    wanted = [
        (number, price, -qty if maker else qty, f"A{number % accounts:03d}")
        for number, (price, qty, maker) in enumerate(content)
    ]
    assert node.rows == wanted
    assert report.recorded + report.duplicates == report.trades == report.acknowledged == len(content)
    assert (again.recorded, again.duplicates) == (0, len(content))
    assert len(set(node.cursors)) <= 1


def run(node: Node, plan: Plan) -> Report:
    return import_trades(node, plan)  # type: ignore[arg-type]


def line(number: int, price: int, qty: int, maker: bool) -> str:
    terms = {"p": f"{price / 100:.2f}", "q": f"{qty / 1000:.3f}", "m": maker}
    return json.dumps({"data": {"e": "trade", "s": "S", "t": number, "T": 1_700_000_000_000, **terms}}) + "\n"


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.data())
def test_a_part_of_a_block_is_those_rows_of_every_column(sizes: list[int], data: st.DataObject) -> None:
    count = sum(sizes)
    whole = Trades(
        trade_id=np.arange(count, dtype=np.uint64),
        text_ids=[f"x{n}" for n in range(count)],
        price=np.arange(count),
        qty=np.arange(count) * 2,
        side=np.ones(count, np.int8),
        ts_us=np.arange(count) * 3,
        fee=np.arange(count) * 4,
        line=np.arange(count) * 5,
        fee_asset=[f"F{n}" for n in range(count)],
        account=[f"A{n}" for n in range(count)],
    )
    first = data.draw(st.integers(0, count - 1))
    end = data.draw(st.integers(first + 1, count))
    part = importing._part(whole, first, end)
    assert part.id_texts() == whole.id_texts()[first:end]
    assert part.account == (whole.account or [])[first:end]
    assert part.fee_asset == (whole.fee_asset or [])[first:end]
    for column in ("price", "qty", "side", "ts_us", "fee", "line"):
        assert getattr(part, column).tolist() == getattr(whole, column).tolist()[first:end]
