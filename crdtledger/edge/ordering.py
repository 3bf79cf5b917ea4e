"""Orders as clients write them: what they may leave out, and what is set aside for them.

* An order that names no ``reserve`` gets one of its own: a Reserve of what it may draw in margin, cash and fees at most, recorded before
  it in the same step. Where rights are short it is refused with what is held here and elsewhere; where the order is refused, the reserve
  is void again. ``matchingdesk`` voids it when the order is done and settled.
* ``{"kind": "amend", "id": ..., "order": ..., "qty": ..., "price": ...}`` enters an order on the terms of another one of this node, which
  it closes: what is not given stays, the quantity what is open of it.

An order that is recorded already gets nothing again, so a request may be repeated.

Facts about orders stand on what was recorded before them. So a call is recorded in runs: facts about orders, and others, each run all or
none; if one is refused, the runs before it stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from crdtledger.errors import BadInput, LedgerError, UnknownOrder, decimal_text
from crdtledger.ledger.batch import Batch
from crdtledger.ledger.body import split_id
from crdtledger.ledger.drafting import check_fact
from crdtledger.ledger.facts import MAX_TEXT, ORDER_KINDS, Fact, Instrument, Order, Reserve, Void
from crdtledger.ledger.orderfacts import Terms
from crdtledger.ledger.ordermoney import NO_DRAWN, NO_TALLY, reserve_asset, still_needed
from crdtledger.ledger.recorder import Recorded, Recorder
from crdtledger.ledger.text import fact_from_json
from crdtledger.ledger.view import View

MADE: Final = "for order "
"""What the ids of reserves begin with that a node made."""

ABOUT_ORDERS: Final = {"amend", *(kind.name.lower() for kind in ORDER_KINDS)}


def made_here(reserve: str) -> bool:
    """Whether a node made this reserve for an order."""
    return reserve.startswith(MADE)


class Ordering:
    """Calls of clients at the node that writes with ``recorder``. ``note`` takes batches that were recorded."""

    def __init__(self, recorder: Recorder, note: Callable[[Sequence[Batch]], None]) -> None:
        self._recorder, self._note = recorder, note
        self._node = recorder.genesis.by_id[recorder.lane.node].name

    def record(self, items: Sequence[Any], now_us: int) -> tuple[Recorded, list[Fact]]:
        """Record a call's facts, given as JSON objects: what was recorded, and the facts that were asked for."""
        asked: list[Fact] = []
        done = Recorded((), 0, 0)
        for first, run in runs(items):
            facts, reserves = self._read(run, first)
            made = self._recorder.record(reserves, now_us).batches if reserves else ()
            self._note(made)
            try:
                recorded = self._recorder.record(facts, now_us)
            except LedgerError:
                if reserves:
                    voids = [Void(id=f"refused {one.id}"[:MAX_TEXT], reserve=one.id) for one in reserves]
                    self._note(self._recorder.record(voids, now_us).batches)
                raise
            self._note(recorded.batches)
            asked += facts
            batches = (*done.batches, *made, *recorded.batches)
            done = Recorded(batches, done.facts + recorded.facts, done.duplicates + recorded.duplicates)
        return done, asked

    def _read(self, run: Sequence[Any], first: int) -> tuple[list[Fact], list[Reserve]]:
        """The facts of a run, and the reserves to be made for its orders."""
        defined: dict[str, Instrument] = {}
        facts: list[Fact] = []
        reserves: list[Reserve] = []
        for number, item in enumerate(run, first):
            where = f"line {number}"
            whole = self._amended(item, where) if _kind(item) == "amend" else item
            known = self._view.orders.get((self._node, str(whole.get("id")))) if _kind(whole) == "order" else None
            bare = _kind(whole) == "order" and "reserve" not in whole
            if bare:
                seq = self._recorder.replica.head(self._recorder.lane.key).seq
                made = f"{MADE}{whole.get('id')} at {seq + 1}"[:MAX_TEXT]
                whole = {**whole, "reserve": known.terms.reserve if known and known.terms else made}
            fact = fact_from_json(whole, self._view.catalog, where, defined)
            if isinstance(fact, Instrument):
                defined[fact.name] = fact
            if isinstance(fact, Order) and bare and known is None:
                reserves.append(self._reserve(fact))
            facts.append(fact)
        return facts, reserves

    @property
    def _view(self) -> View:
        return self._recorder.replica.view

    def _amended(self, item: Mapping[str, Any], where: str) -> dict[str, Any]:
        """The order that an amendment enters."""
        fields = dict(item)
        told = str(fields.pop("order", ""))
        record = self._view.orders.get((self._node, told))
        if record is None or record.terms is None:
            raise UnknownOrder(kind="order", node=self._node, id=told)
        terms = record.terms
        definition = self._view.catalog.definitions.get(terms.definition)
        known = self._view.orders.get((self._node, str(fields.get("id"))))
        if definition is None:
            raise BadInput(
                what=f"order {told!r}", where=where, why=f"no definition of {terms.instrument!r} stands for it here"
            )
        if known is None and not record.open_at(self._node):
            raise BadInput(what=f"order {told!r}", where=where, why="nothing of it is open here: it cannot be amended")
        kept: dict[str, Any] = {
            "account": terms.account,
            "instrument": terms.instrument,
            "side": "buy" if terms.side > 0 else "sell",
            "qty": decimal_text(record.open_at(self._node), definition.qty_decimals),
            "price": decimal_text(terms.price, definition.price_decimals),
            "tif": terms.tif,
            "post_only": terms.post_only,
            "reduce_only": terms.reduce_only,
            "expires_us": terms.expires_us,
            "min_survival": terms.min_survival,
        }
        return {**kept, **fields, "kind": "order", "amends": told}

    def _reserve(self, order: Order) -> Reserve:
        """What an order may draw at most, set aside."""
        check_fact(order, f"order {order.id!r}")
        catalog, genesis = self._view.catalog, self._recorder.genesis
        definition = catalog.definition(order.instrument)
        assert definition is not None, "its quantities were read by it"
        side = 1 if order.side == "buy" else -1
        terms = Terms(
            account=order.account,
            instrument=order.instrument,
            definition=catalog.standing(order.instrument) or b"",
            side=side,
            qty=order.qty,
            price=order.price,
            reserve=str(order.reserve),
            reduce_only=order.reduce_only,
        )
        needed = still_needed(definition, genesis, terms, NO_TALLY, NO_DRAWN, order.qty)
        asset = reserve_asset(definition, side)
        return Reserve(id=split_id(order.reserve), account=order.account, asset=asset, amount=max(1, needed))


def _kind(item: Any) -> Any:
    return item.get("kind") if isinstance(item, Mapping) else None


def runs(items: Sequence[Any]) -> Iterator[tuple[int, list[Any]]]:
    """Runs of facts that are recorded all or none, each with the number of its first, from 1 on."""
    run: list[Any] = []
    for number, item in enumerate(items, 1):
        kind = _kind(item)
        if run and (kind == "amend" or (kind in ABOUT_ORDERS) != (_kind(run[0]) in ABOUT_ORDERS)):
            yield number - len(run), run
            run = []
        run.append(item)
    if run:
        yield len(items) + 1 - len(run), run
