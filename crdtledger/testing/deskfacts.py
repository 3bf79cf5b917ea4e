"""What the clients of a cluster machine record unless it is told otherwise: a desk's day in small numbers.

Accounts A and B; PERP is linear, COIN inverse; A's 300.00 USDT are split evenly over the nodes. Few ids, so that several nodes tell of the
same trade, and tell it differently; amounts around what a node holds; prices at which a value of COIN ends in exactly half a unit.
"""

from __future__ import annotations

import functools
import itertools

from hypothesis import strategies as st

from crdtledger.edge.simulate import writing
from crdtledger.edge.simulate.writing import Json
from crdtledger.testing.drawing import pick
from crdtledger.testing.opened import Opening

DEPOSITED = 30_000
"""Of A's USDT, in minor units."""
TIE = "1024000.0"
"""The value of 4 COIN at this price is 39,062.5 satoshi, that of 12 is 117,187.5: the even neighbour is below, and above."""
TRADES = range(1, 4)


def opening(nodes: tuple[str, ...]) -> Opening:
    """What the first node, the custodian of USDT, records before anything goes wrong: everybody holds an equal share."""
    share = DEPOSITED // len(nodes)
    names = [writing.account("A"), writing.account("B"), writing.linear("PERP"), writing.inverse("COIN")]
    grants = [writing.grant(f"g-{name}", "A", "USDT", share, name) for name in nodes[1:]]
    return [(nodes[0], [*names, writing.deposit("d-A", "A", "USDT", DEPOSITED)]), (nodes[0], grants)]


@functools.cache
def facts(nodes: tuple[str, ...]) -> st.SearchStrategy[Json]:
    """Money that moves, or trades. Those without an id get that of the step."""
    amounts = ("1.00", "90.00", "250.00")
    goals = [("withdrawal", {}), ("transfer", {"credit": "B"}), ("deposit", {})]
    goals += [("grant", {"node": node}) for node in nodes[1:]]
    money: list[Json] = [
        {"kind": kind, "account": "A", "asset": "USDT", "amount": amount, **goal}
        for kind, goal in goals
        for amount in amounts
    ]
    return pick([*money, *trades("fill"), *trades("bust"), *money])


def trades(kind: str) -> list[Json]:
    """What a venue says of a few trades, as one feed tells it or another."""
    linear = [("PERP", "0.001", "50000.00", "0.01"), ("PERP", "0.250", "50000.00", "0.01")]
    inverse = [
        ("COIN", "4", TIE, "0.00000001"),
        ("COIN", "12", TIE, "0.00000001"),
        ("COIN", "2", "30000.0", "0.00000001"),
    ]
    return [
        {
            "kind": kind,
            "venue": "V",
            "trade_id": trade,
            "instrument": instrument,
            "account": "A",
            "side": side,
            "qty": qty,
            "price": price,
            "fee": fee,
        }
        for trade, side, (instrument, qty, price, fee) in itertools.product(TRADES, ("buy", "sell"), linear + inverse)
    ]
