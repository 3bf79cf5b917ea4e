"""``crdtledger book``: levels and depth of an instrument, an account's orders in it, or a chain of options."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

from cyclopts import Parameter

from crdtledger.edge.cli.freshness import freshness_line
from crdtledger.edge.cli.options import GOOD, Format, Keys, OutputFormat, Target
from crdtledger.edge.cli.output import emit, say
from crdtledger.edge.cli.reach import connect
from crdtledger.errors import BadInput

COLUMNS = ("side", "price", "qty", "orders", "mine")
CHAIN = (
    *("underlying", "quote", "expiry_us", "strike"),
    *("call", "call_bid", "call_ask", "put", "put_bid", "put_ask"),
)
MINE = ("home", "id", "side", "qty", "price", "status", "open", "filled", "matched", "asked", "state")


def book(
    target: Target,
    instrument: Annotated[str, Parameter(help="The instrument.")] = "",
    /,
    *,
    account: Annotated[str, Parameter(help="Show how much of each level is this account's, and its orders.")] = "",
    depth: Annotated[int, Parameter(help="So many levels of each side.")] = 10,
    chain: Annotated[
        str, Parameter(help="Instead of one book: the options on this underlying, by expiry and strike.")
    ] = "",
    format: Format = "table",
    cluster: Keys = None,
) -> int:
    """The book of an instrument as the node sees it: offers, then bids, the best first. An instrument that trades in call auctions shows
    the price and volume that its auction would come to now."""
    from crdtledger.edge import api

    if bool(instrument) == bool(chain):
        raise BadInput(what="book", where="arguments", why="name an instrument, or an underlying with --chain")
    with connect(target, cluster) as node:
        if chain:
            emit(node.request(api.Chain(chain)), CHAIN, format)
        else:
            _show(node.request(api.Book(instrument, account, depth)), account, format)
    return GOOD


def _show(seen: dict[str, Any], account: str, format: OutputFormat) -> None:
    if format == "json":
        sys.stdout.write(json.dumps(seen) + "\n")
        return
    emit(seen["levels"], COLUMNS, format)
    if format == "csv":
        return
    if account:
        sys.stdout.write("\n")
        emit([{column: row[column] for column in MINE} for row in seen["mine"]], MINE, format)
    indicative = seen["indicative"]
    if indicative:
        price = "no price" if indicative["price"] is None else f"{indicative['volume']} at {indicative['price']}"
        sys.stdout.write(f"\nIndicative: {price}, with {indicative['orders']} orders that are open to see.\n")
    say(freshness_line(seen["fresh"]))
