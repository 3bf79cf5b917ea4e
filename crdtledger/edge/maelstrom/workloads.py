"""Maelstrom's workloads as facts: what a request records, and how a node's ledger answers a read.

broadcast   ``broadcast`` a ``message``: a fill under it; ``read``: ``messages``, the trade ids of all fills
g-set       ``add`` an ``element``: a fill under it; ``read``: ``value``, the trade ids of all fills
pn-counter  ``add`` a ``delta``: so many bought, or sold; ``read``: ``value``, the position

A value's trade id is its JSON text, so recording it again, here or elsewhere, is recording the same fill. A delta's is who asked for it and
the number of the request. See doc/workloads.md of Maelstrom.
"""

from __future__ import annotations

import json
from typing import Any, Final, Literal, TypeAlias

from crdtledger.edge import api
from crdtledger.edge.core import NodeCore
from crdtledger.edge.maelstrom.founding import ASSET
from crdtledger.edge.maelstrom.messages import Code, Refused, Request
from crdtledger.ledger.body import fact_id
from crdtledger.ledger.facts import MAX_AMOUNT, MAX_TEXT, FactId, Kind
from crdtledger.ledger.replica import Replica

Workload: TypeAlias = Literal["broadcast", "g-set", "pn-counter"]
Json: TypeAlias = dict[str, Any]

ACCOUNT: Final = "CLIENTS"
INSTRUMENT: Final = "COUNT"
VENUE: Final = "maelstrom"
VALUES: Final = {"broadcast": ("broadcast", "message", "messages"), "g-set": ("add", "element", "value")}
"""Of the workloads whose values are fills: the request that adds one, its field, and that of a read's answer."""


def opening() -> api.Record:
    """What every node records first. All say the same, so it stands whoever is heard first."""
    fields = {"type": "perp", "base": INSTRUMENT, "quote": ASSET, "settlement": ASSET}
    units = {"price_decimals": 0, "qty_decimals": 0}
    instrument = {"kind": "instrument", "name": INSTRUMENT, **fields, **units}
    return api.Record([{"kind": "account", "name": ACCOUNT}, instrument])


def recorded_by(workload: Workload, request: Request) -> api.Record | None:
    """What a request asks to be recorded; None if it is no such request. Raises Refused if it is malformed."""
    if workload == "pn-counter":
        return _counted(request) if request.type == "add" else None
    adds, field, _ = VALUES[workload]
    return _valued(request, field) if request.type == adds else None


def read(workload: Workload, core: NodeCore) -> Json:
    """The fields that answer a read."""
    if workload == "pn-counter":
        positions = core.replica.view.position_rows()
        return {"value": sum(position.qty for position in positions)}
    values = sorted(str(trade) for trade in fills_held(core.replica))
    return {VALUES[workload][2]: [json.loads(value) for value in values]}


def fills_held(replica: Replica) -> set[FactId]:
    """The trade ids of all fills that a replica holds unpruned."""
    return {
        fact_id(batch.body, Kind.FILL, row)
        for batch in replica.batches()
        for row in range(len(batch.body.tables.get(Kind.FILL, ())))
    }


def _valued(request: Request, field: str) -> api.Record:
    if field not in request.body:
        raise Refused(Code.MALFORMED_REQUEST, f"{request.type} needs the field {field}")
    return _fill(_trade(request.body[field], field), 1)


def _counted(request: Request) -> api.Record:
    delta = request.body.get("delta")
    if not isinstance(delta, int) or isinstance(delta, bool) or abs(delta) > MAX_AMOUNT:
        raise Refused(Code.MALFORMED_REQUEST, f"add needs a delta, an integer of at most {MAX_AMOUNT} either way")
    return _fill(_trade([request.src, request.number], "msg_id"), delta) if delta else api.Record([])


def _trade(value: Any, field: str) -> str:
    """A value's one text, in ASCII."""
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        raise Refused(Code.MALFORMED_REQUEST, f"{field}: {error}") from None
    if len(text) > MAX_TEXT:
        raise Refused(
            Code.NOT_SUPPORTED, f"a {field} of more than {MAX_TEXT} characters of JSON does not fit a trade id"
        )
    return text


def _fill(trade: str, qty: int) -> api.Record:
    side = "buy" if qty > 0 else "sell"
    traded: Json = {"venue": VENUE, "trade_id": trade, "instrument": INSTRUMENT, "account": ACCOUNT}
    return api.Record([{"kind": "fill", **traded, "side": side, "qty": str(abs(qty)), "price": "1"}])
