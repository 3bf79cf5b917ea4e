"""What the clients of a cluster machine record unless it is told otherwise: a desk's day in small numbers.

Accounts A and B; PERP is linear, COIN inverse; A's 300.00 USDT are split evenly over the nodes. Few ids, so that several nodes tell of the
same trade, and tell it differently; amounts around what a node holds; prices at which a value of COIN ends in exactly half a unit.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from crdtledger.edge.simulate import writing
from crdtledger.edge.simulate.writing import Json

DEPOSITED = 30_000
"""Of A's USDT, in minor units."""
TIE = "1024000.0"
"""100 / 1,024,000 of a contract's bitcoin ends in exactly half a satoshi after every fourth contract."""


def opening(nodes: Sequence[str]) -> list[tuple[str, list[Json]]]:
    """What the first node, the custodian of USDT, records before anything goes wrong: everybody holds an equal share."""
    share = DEPOSITED // len(nodes)
    names = [writing.account("A"), writing.account("B"), writing.linear("PERP"), writing.inverse("COIN")]
    grants = [writing.grant(f"g-{name}", "A", "USDT", share, name) for name in nodes[1:]]
    return [(nodes[0], [*names, writing.deposit("d-A", "A", "USDT", DEPOSITED)]), (nodes[0], grants)]


def facts(nodes: Sequence[str]) -> st.SearchStrategy[Json]:
    """Withdrawals, fills, busts, transfers, deposits and grants. Those without an id get that of the step."""
    amounts = st.sampled_from(("1.00", "90.00", "250.00"))
    money = {"account": st.just("A"), "asset": st.just("USDT"), "amount": amounts}
    withdrawals = st.fixed_dictionaries({"kind": st.just("withdrawal"), **money})
    transfers = st.fixed_dictionaries({"kind": st.just("transfer"), **money, "credit": st.just("B")})
    deposits = st.fixed_dictionaries({"kind": st.just("deposit"), **money})
    grants = st.fixed_dictionaries({"kind": st.just("grant"), **money, "node": st.sampled_from(nodes)})
    return st.one_of(withdrawals, fills(), transfers, deposits, grants, fills("bust"))


def fills(kind: str = "fill") -> st.SearchStrategy[Json]:
    """What a venue says of one of six trades, as one feed tells it or another."""
    linear = {"instrument": st.just("PERP"), "qty": st.sampled_from(("0.001", "0.250")), "price": st.just("50000.00")}
    inverse = {
        "instrument": st.just("COIN"),
        "qty": st.sampled_from(("1", "4")),
        "price": st.sampled_from(("50000.0", TIE)),
    }
    fees = {"PERP": "0.01", "COIN": "0.00000001"}
    return st.one_of(
        *(
            st.fixed_dictionaries(
                {
                    "kind": st.just(kind),
                    "venue": st.just("V"),
                    "trade_id": st.integers(1, 6),
                    "account": st.just("A"),
                    "side": st.sampled_from(("buy", "sell")),
                    "fee": st.just(fees[name]),
                    **terms,
                }
            )
            for name, terms in (("PERP", linear), ("COIN", inverse))
        )
    )
