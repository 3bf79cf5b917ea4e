"""What a node tells of orders when it is asked: orders, matches, books, chains of options, and how fresh all of it is.

A book is made from the view for who asks, so it is the same at every node that holds the same facts on the same base. An instrument that
trades in call auctions has an *indicative* clearing beside it: what the auction would come to with the orders that are seen here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from crdtledger.edge.api import Book as BookOf
from crdtledger.edge.api import Chain, Query
from crdtledger.errors import BadInput, UnknownName, decimal_text
from crdtledger.ledger.facts import Instrument
from crdtledger.ledger.orderrows import MatchRow, OrderRow
from crdtledger.ledger.orders import Record
from crdtledger.ledger.text import match_json, order_json
from crdtledger.ledger.view import View
from crdtledger.matching.auction import clear
from crdtledger.matching.book import Book
from crdtledger.matching.chain import chains
from crdtledger.matching.orders import BUY, SELL, OpenOrder
from crdtledger.matching.viewed import name_of, standing_of

if TYPE_CHECKING:
    from crdtledger.edge.core import NodeCore

PROVISIONAL: Final = "provisional"
PROBABILITIES: Final = ("0.5", "0.9", "0.99", "0.999")
"""For which ``fresh`` is told."""
MAX_DEPTH: Final = 1_000


def orders(core: NodeCore, request: Query) -> list[dict[str, Any]]:
    """Orders that are not done and settled, sorted by home, then id."""
    view = core.replica.view
    rows = []
    for row in view.order_rows():
        definition = view.catalog.definitions.get(row.definition)
        if (
            definition is None
            or request.account not in ("", row.account)
            or request.instrument not in ("", row.instrument)
        ):
            continue
        rows.append(order_json(row, _order_state(core, row), definition))
    return rows


def _order_state(core: NodeCore, row: OrderRow) -> str:
    """``settled(h)`` where nothing unsettled touches the order."""
    state = core.replica.state
    settled = state.orders.get(row.name)
    if settled is None:
        return PROVISIONAL
    asked = sum(one.held for one in state.pending.values() if one.maker == row.name)
    asking = sum(one.held for one in state.pending.values() if one.taker == row.name)
    members = core.genesis.nodes
    held = tuple(sorted((members[index].name, qty) for index, qty in settled.open))
    same = (row.held, row.asked, row.asking, row.matched) == (held, asked, asking, 0)
    return f"settled({core.replica.base[0]})" if same else PROVISIONAL


def matches(core: NodeCore, request: Query) -> list[dict[str, Any]]:
    """Matches: first the newest that are settled, in the order in which that was done; then those that are not, sorted by home and id."""
    view = core.replica.view
    rows = [
        _with_accounts(done.json(), done.accounts)
        for done in (core.checkpoints.matches if core.checkpoints else ())
        if _is_asked_for(request, done.row.instrument, done.accounts)
    ]
    for row in view.match_rows():
        definition = view.catalog.definition(row.instrument)
        accounts = _account(view, row.home, row.taker), _account(view, row.maker_home, row.maker)
        if definition is None or not _is_asked_for(request, row.instrument, accounts):
            continue
        rows.append(_with_accounts(match_json(row, _match_state(core, row), definition), accounts))
    return rows


def _match_state(core: NodeCore, row: MatchRow) -> str:
    waits = row.settled and row.state == "tentative"
    return f"settled({core.replica.base[0]})" if waits else PROVISIONAL


def _is_asked_for(request: Query, instrument: str, accounts: tuple[str, str]) -> bool:
    return request.instrument in ("", instrument) and (not request.account or request.account in accounts)


def _with_accounts(row: dict[str, Any], accounts: tuple[str, str]) -> dict[str, Any]:
    return {**row, "taker_account": accounts[0], "maker_account": accounts[1]}


def _account(view: View, home: str, id: str) -> str:
    record = view.orders.get((home, id))
    return record.terms.account if record is not None and record.terms is not None else ""


def book(core: NodeCore, request: BookOf, now_us: int) -> dict[str, Any]:
    """One instrument's book. ``UnknownName`` for an instrument or account that does not exist."""
    view = core.replica.view
    definition = view.catalog.definition(request.instrument)
    if definition is None:
        raise UnknownName(kind="instrument", name=request.instrument, known=view.catalog.names())
    if request.account and request.account not in view.catalog.labels:
        raise UnknownName(kind="account", name=request.account, known=view.catalog.labels)
    if not 1 <= request.depth <= MAX_DEPTH:
        raise BadInput(what=f"depth {request.depth}", where="book", why=f"1 to {MAX_DEPTH} levels")
    seen = Book(_resting(view, definition))
    levels = [row for sign in (SELL, BUY) for row in _levels(seen, sign, request, definition)]
    own = [one for one in view.order_rows() if one.instrument == definition.name and one.account == request.account]
    return {
        "instrument": definition.name,
        "mode": definition.mode,
        "levels": levels,
        "mine": [
            order_json(row, _order_state(core, row), definition) for row in own if row.state in ("open", "waiting")
        ],
        "indicative": _indicative(core, view, definition) if definition.mode == "auction" else None,
        "fresh": fresh(core, now_us),
    }


def _records(view: View, definition: Instrument) -> Iterator[Record]:
    standing = view.catalog.standing(definition.name)
    for name in view.orders.names():
        record = view.orders.get(name)
        if record is not None and record.terms is not None and record.terms.definition == standing:
            yield record


def _resting(view: View, definition: Instrument) -> list[OpenOrder]:
    standings = (standing_of(record) for record in _records(view, definition))
    return [standing.resting() for standing in standings if standing.visible()]


def _levels(seen: Book, sign: int, request: BookOf, definition: Instrument) -> list[dict[str, Any]]:
    """The levels of a side as rows, the best first."""
    mine: dict[int, int] = {}
    for one in seen.orders(request.account) if request.account else ():
        if one.side == sign:
            mine[one.price] = mine.get(one.price, 0) + one.qty
    return [
        {
            "side": "buy" if sign == BUY else "sell",
            "price": decimal_text(level.price, definition.price_decimals),
            "qty": decimal_text(level.qty, definition.qty_decimals),
            "orders": level.orders,
            "mine": decimal_text(mine.get(level.price, 0), definition.qty_decimals),
        }
        for level in seen.levels(sign, request.depth)
    ]


def _indicative(core: NodeCore, view: View, definition: Instrument) -> dict[str, Any]:
    """What the auction would come to with the orders that are seen here and say what they are."""
    entered = []
    for record in _records(view, definition):
        assert record.terms is not None
        shown = record.shown[min(record.shown)] if record.shown else None
        side, qty, price = shown or (record.terms.side, record.open, record.terms.price)
        if record.open and (shown or not record.terms.hidden):
            account, market = record.terms.account, record.terms.market
            entered.append(
                OpenOrder(name_of(record.name), account, side, price, min(qty, record.open), record.place, market)
            )
    clearing = clear(entered, core.replica.state.prices.get(definition.name))
    return {
        "price": None if clearing.price is None else decimal_text(clearing.price, definition.price_decimals),
        "volume": decimal_text(clearing.volume, definition.qty_decimals),
        "imbalance": decimal_text(clearing.imbalance, definition.qty_decimals),
        "orders": len(entered),
    }


def chain(core: NodeCore, request: Chain) -> list[dict[str, Any]]:
    """The options on an underlying: a row for each expiry and strike, with the best prices of its call and its put."""
    view = core.replica.view
    listed = [one for name in view.catalog.names() if (one := view.catalog.definition(name)) is not None]
    options = {one.name: one for one in listed}
    bases = sorted({one.base for one in listed if one.type == "option"})
    if request.underlying not in bases:
        raise UnknownName(kind="underlying", name=request.underlying, known=bases)
    rows = []
    for found in chains(one for one in listed if one.base == request.underlying):
        for line in found.strikes:
            either = options[line.call or line.put]
            row: dict[str, Any] = {
                "underlying": found.base,
                "quote": found.quote,
                "expiry_us": found.expiry_us,
                "strike": decimal_text(line.strike, either.price_decimals),
            }
            for kind, name in (("call", line.call), ("put", line.put)):
                best = Book(_resting(view, options[name])) if name else Book()
                row[kind] = name
                for word, sign in (("bid", BUY), ("ask", SELL)):
                    price = best.best(sign)
                    row[f"{kind}_{word}"] = "" if price is None else decimal_text(price, options[name].price_decimals)
            rows.append(row)
    return rows


def fresh(core: NodeCore, now_us: int) -> dict[str, Any]:
    """With each of ``PROBABILITIES``: nothing older than so many microseconds is missing in what is shown here."""
    return {chance: round(core.orders.fresh_us(float(chance), now_us)) for chance in PROBABILITIES}
