"""From a figure down to facts: what this node holds that touches an account, an instrument or an asset, or that goes by a name. Pure.

Held are the unsettled batches, and of the settled ones those that the replica still keeps; what is older has its effect in the settled
figures and is not listed. Each row says what became of it: it ``counts``, ``repeats`` what counts already, ``contradicts`` what counts,
``waits`` for its definition, or is ``void``; of a settled one whose id is ``forgotten`` nobody can tell any more.

A name is the one by which breaks call a fill or a bust: ``fill venue/id space/instrument/id[/leg]``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from crdtledger.errors import BadInput, UnknownName, decimal_text
from crdtledger.ledger.batch import Batch, lane_text
from crdtledger.ledger.body import Body, canonical_number, decode, encode, fact_id
from crdtledger.ledger.clock import COUNTER_BITS
from crdtledger.ledger.contents import fact_contents
from crdtledger.ledger.dedupe import Rows, Spot
from crdtledger.ledger.drafting import draft_facts
from crdtledger.ledger.factkeys import Keys, fact_keys
from crdtledger.ledger.facts import ID_IS_TEXT, NO_STRING, Fill, Kind

if TYPE_CHECKING:
    from crdtledger.edge.api import Trace
    from crdtledger.ledger.replica import Replica

MAX_ROWS: Final = 50_000
FILLS: Final = (Kind.FILL, Kind.BUST)
MOVES: Final = (Kind.DEPOSIT, Kind.GRANT, Kind.RESERVE, Kind.TRANSFER, Kind.WITHDRAWAL)


def trace(replica: Replica, request: Trace) -> list[dict[str, Any]]:
    """The facts that ``request`` is about, settled ones first, then in the order in which they were applied here. ``BadInput`` when
    they are more than ``MAX_ROWS``."""
    tracer = _Tracer(replica, request)
    rows: list[dict[str, Any]] = []
    for batch, number in tracer.batches():
        for kind in (*FILLS, *MOVES):
            if kind in batch.body.tables:
                rows += tracer.rows(batch, number, kind)
        if len(rows) > MAX_ROWS:
            raise BadInput(what=f"more than {MAX_ROWS} facts", where="trace", why="narrow it down to one account")
    return rows


def settled_as(replica: Replica, facts: Sequence[Fill]) -> list[str]:
    """For each fill whether its id is settled: ``same`` with these terms, ``other`` with others, ``forgotten`` where that cannot be told
    any more, or empty. Settled ids are remembered longer than the batches that brought them."""
    catalog = replica.view.catalog

    def definition(name: str) -> bytes:
        standing = catalog.standing(name)
        if standing is None:
            raise UnknownName(kind="instrument", name=name, known=catalog.names())
        return standing

    seen, window = replica.view.positions.seen(Kind.FILL), replica.view.base.window
    out: list[str] = []
    for fact in facts:
        (wire,) = draft_facts([fact], definition, lambda name: 0)
        body = decode(encode(wire))
        found = seen.find(fact_keys(body, Kind.FILL))
        if found[0] < 0:
            old = window is not None and len(window.below(body, Kind.FILL, np.arange(1)))
            out.append("forgotten" if old else "")
        else:
            out.append("same" if (fact_contents(body, Kind.FILL) == seen.says(found)).all() else "other")
    return out


class _Tracer:
    def __init__(self, replica: Replica, request: Trace) -> None:
        self._replica = replica
        self._view = replica.view
        self._genesis = replica.genesis
        self._request = request
        self._told: set[tuple[Kind, int, int]] = set()
        self._void = {(void.lane, void.seq) for void in self._view.void_batches}
        self._void_settled = {item.subject for item in replica.state.breaks if item.type == "void_batch"}

    def batches(self) -> Iterator[tuple[Batch, int]]:
        """Batches that are held, and the number of each in the view, -1 for settled ones."""
        kept: list[Batch] = []
        for lane, settled in self._replica.state.lanes.items():
            seq = settled.seq
            while seq and (batch := self._replica.batch(lane, seq)) is not None:
                kept.append(batch)
                seq -= 1
        kept.sort(key=lambda batch: (batch.header.clock, batch.key, batch.seq))
        yield from ((batch, -1) for batch in kept)
        yield from ((b, number) for number, b in enumerate(self._view.batches) if isinstance(b, Batch))

    def rows(self, batch: Batch, number: int, kind: Kind) -> Iterator[dict[str, Any]]:
        picked = self._picked(batch.body, kind)
        if not len(picked):
            return
        became = self._became(batch, number, kind, picked) if kind in FILLS else self._moved(batch, len(picked))
        for row, what in zip(picked.tolist(), became, strict=True):
            yield self._row(batch, number, kind, row, what)

    # -- which ----------------------------------------------------------------------------------------------

    def _picked(self, body: Body, kind: Kind) -> Rows:
        table, request = body.tables[kind], self._request
        wanted = np.ones(len(table), np.bool_)
        if request.account:
            named = self._index(body, request.account)
            wanted &= table["account"] == named
            if kind is Kind.TRANSFER:
                wanted |= table["credit"] == named
        if request.subject:
            if kind in FILLS:
                scopes = [body.instruments[scope.instrument][0] == request.subject for scope in body.scopes]
                wanted &= np.array(scopes, np.bool_)[table["scope"]]
            else:
                wanted &= table["asset"] == self._index(body, request.subject)
        if request.id_space:
            spaces = [scope.id_space == request.id_space for scope in body.scopes]
            wanted &= np.array(spaces, np.bool_)[table["scope"]] if kind in FILLS else False
        if request.name:
            wanted &= self._named(body, kind) if kind in FILLS else False
        return np.flatnonzero(wanted)

    def _index(self, body: Body, text: str) -> int:
        return body.strings.index(text) if text in body.strings else NO_STRING

    def _named(self, body: Body, kind: Kind) -> Any:
        """Which rows go by the name that is asked for."""
        table, name = body.tables[kind], self._request.name
        wanted = np.zeros(len(table), np.bool_)
        for number, scope in enumerate(body.scopes):
            instrument = body.instruments[scope.instrument][0]
            before = f"{kind.name.lower()} {scope.venue}/{scope.id_space}/{instrument}/"
            behind = f"/{scope.leg}" if scope.leg else ""
            if not name.startswith(before) or not name.endswith(behind) or len(name) <= len(before) + len(behind):
                continue
            text = name[len(before) : len(name) - len(behind)]
            id_ = canonical_number(text)
            spelt = table["flags"] & ID_IS_TEXT != 0
            key = np.uint64(id_ if id_ is not None else self._index(body, text))
            wanted |= (table["scope"] == number) & (table["id"] == key) & (spelt == (id_ is None))
        return wanted

    # -- what became of them --------------------------------------------------------------------------------

    def _became(self, batch: Batch, number: int, kind: Kind, rows: Rows) -> list[str]:
        body = batch.body
        high, low = fact_keys(body, kind)
        keys: Keys = (high[rows], low[rows])
        contents = fact_contents(body, kind, rows)
        seen = self._view.positions.seen(kind)
        found = seen.find(keys)
        spots = self._view.positions.indexes[kind].find(keys)
        node = self._genesis.by_id[batch.lane.node].name
        window = self._view.base.window
        old = set(window.below(body, kind, rows[found < 0]).tolist()) if window else set()
        out = []
        for at, row in enumerate(rows.tolist()):
            fact = body.tables[kind][row]
            name, digest = body.instruments[body.scopes[int(fact["scope"])].instrument]
            account = body.strings[int(fact["account"])]
            if not self._genesis.may_record(node, account):
                out.append("void")
            elif self._view.catalog.standing(name) != digest:
                out.append("waits")
            elif row in old:
                out.append("void" if number >= 0 else "forgotten")
            elif found[at] >= 0:
                same = bool((contents[at] == seen.says(found[at : at + 1])[0]).all())
                out.append(self._first(kind, keys, at) if same else "contradicts")
            elif spots[at] == Spot(number, row):
                out.append("counts")
            else:
                out.append(self._against(kind, spots[at], contents[at]))
        return out

    def _first(self, kind: Kind, keys: Keys, at: int) -> str:
        key = (kind, int(keys[0][at]), int(keys[1][at]))
        if key in self._told:
            return "repeats"
        self._told.add(key)
        return "counts"

    def _against(self, kind: Kind, winner: Spot | None, content: Any) -> str:
        if winner is None:
            return "waits"
        standing = self._view.batches[winner.batch].body
        same = (fact_contents(standing, kind, np.array([winner.row]))[0] == content).all()
        return "repeats" if same else "contradicts"

    def _moved(self, batch: Batch, count: int) -> list[str]:
        name = f"{lane_text(batch.key, self._genesis)}#{batch.seq}"
        void = (batch.key, batch.seq) in self._void or name in self._void_settled
        return ["void" if void else "counts"] * count

    # -- how they read --------------------------------------------------------------------------------------

    def _row(self, batch: Batch, number: int, kind: Kind, row: int, became: str) -> dict[str, Any]:
        body = batch.body
        fact = body.tables[kind][row]
        told: dict[str, Any] = {
            "kind": kind.name.lower(),
            "id": str(fact_id(body, kind, row)),
            "account": body.strings[int(fact["account"])],
        }
        told |= self._fill(body, kind, row) if kind in FILLS else self._move(body, kind, row)
        return told | {
            "became": became,
            "settled": number < 0,
            "node": self._genesis.by_id[batch.lane.node].name,
            "lane": lane_text(batch.key, self._genesis),
            "seq": batch.seq,
            "row": row,
            "hash": batch.hash.hex(),
            "recorded_us": (batch.header.clock >> COUNTER_BITS) * 1000,
            "base": batch.header.base[0],
        }

    def _fill(self, body: Body, kind: Kind, row: int) -> dict[str, Any]:
        fact = body.tables[kind][row]
        scope = body.scopes[int(fact["scope"])]
        name, digest = body.instruments[scope.instrument]
        definition = self._view.catalog.definitions.get(digest)
        named = int(fact["fee_asset"])
        fee_asset = body.strings[named] if named != NO_STRING else (definition.settlement if definition else "")
        decimals = self._genesis.asset_decimals.get(fee_asset, 0)
        price_decimals, qty_decimals = (definition.price_decimals, definition.qty_decimals) if definition else (0, 0)
        return {
            "venue": scope.venue,
            "id_space": scope.id_space,
            "leg": scope.leg,
            "instrument": name,
            "side": "buy" if fact["side"] > 0 else "sell",
            "qty": decimal_text(int(fact["qty"]), qty_decimals),
            "price": decimal_text(int(fact["price"]), price_decimals),
            "fee": decimal_text(int(fact["fee"]), decimals),
            "fee_asset": fee_asset,
            "fee_named": named != NO_STRING,
            "ts_us": int(fact["ts_us"]),
        }

    def _move(self, body: Body, kind: Kind, row: int) -> dict[str, Any]:
        fact = body.tables[kind][row]
        asset = body.strings[int(fact["asset"])]
        decimals = self._genesis.asset_decimals.get(asset, 0)
        told: dict[str, Any] = {"asset": asset, "amount": decimal_text(int(fact["amount"]), decimals)}
        if kind is Kind.TRANSFER:
            told["credit"] = body.strings[int(fact["credit"])]
        if kind is Kind.GRANT:
            told["to"] = self._genesis.nodes[int(fact["node"])].name
        return told
