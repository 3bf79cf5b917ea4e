"""Orders, and what is said about them, drawn to meet: few ids, one price for each instrument.

Order 1 is A's and buys, order 2 is B's and sells, ``x`` is C's and does either; of what, and how much, is drawn, so an id is told
otherwise, too. They draw on reserves called by ``reserve_id``, with which ``lanes`` and ``ledgers`` begin. ``h`` is hidden, and a reveal
mostly opens it. A match may be of orders that do not meet or are not there, a share or an answer of more than there is: the ledger says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from hypothesis import strategies as st

from crdtledger.ledger import facts as kinds
from crdtledger.ledger.commitment import Terms, commit
from crdtledger.ledger.facts import Fact, FactId, Order
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.ordermoney import reserve_asset
from crdtledger.testing.drawing import pick
from crdtledger.testing.reference import auctioned, instruments, reserve_id

WHO: Final[tuple[tuple[FactId, str, Any], ...]] = (
    (1, "A", "buy"),
    (2, "B", "sell"),
    ("x", "C", "sell"),
    ("x", "C", "buy"),
)
IDS: Final = (1, 2, "x")
PRICE: Final = 10_000
HIDES: Final = 5
HIDDEN: Final = "h"
NONCE: Final = "5" * 64
QUANTITIES: Final = (5, 2, 40)
MEETINGS: Final[tuple[tuple[FactId, FactId], ...]] = ((2, 1), (1, 2), (2, 1), ("x", 1), (1, 1))
"""(taker, maker)."""
PROMISE_PPM: Final = 500_000


def order_facts(genesis: Genesis, node: str) -> dict[type[Fact], st.SearchStrategy[Any]]:
    """Kind -> what ``node`` may say of it; without the kinds of which it may say nothing."""
    members = [member.name for member in genesis.nodes]
    others = [name for name in members if name != node]
    ids, quantities = pick(IDS), pick(QUANTITIES)
    found: dict[type[Fact], st.SearchStrategy[Any]] = {
        kinds.Cancel: st.builds(kinds.Cancel, id=ids, order=pick((*IDS, HIDDEN))),
        kinds.Match: st.builds(
            _match,
            st.just(node),
            pick((node, *members)),
            ids,
            pick(MEETINGS),
            quantities,
            pick((PRICE, PRICE, PRICE, 9)),
        ),
        kinds.Reveal: pick((HIDES, HIDES, HIDES, 9)).map(_reveal),
    }
    orders = list(_orders(genesis, node))
    if orders:
        found[Order] = pick(orders)
    if others:
        away = pick(others)
        found[kinds.Share] = st.builds(
            kinds.Share, id=ids, home=pick(members), order=pick(IDS), node=away, qty=quantities
        )
        found[kinds.Accept] = st.builds(
            kinds.Accept,
            id=ids,
            match_home=away,
            match=pick(IDS),
            qty=pick((*QUANTITIES, 0)),
            reason=pick(("", "gone")),
        )
    return found


def pairs(genesis: Genesis, node: str) -> list[list[Order]]:
    """Two orders of ``node`` that meet, on reserves of one asset, so that what is said next is of something."""
    firm = [one for one in _orders(genesis, node) if one.tif == "gtc" and one.instrument in ("PERP", "COIN")]
    terms = [(one, (one.instrument, one.qty)) for one in firm if one.id in (1, 2)]
    return [
        [one, other] for one, deal in terms for other, same in terms if (one.id, other.id) == (1, 2) and deal == same
    ]


def _orders(genesis: Genesis, node: str) -> Iterator[Order]:
    """SPOT above all, for which two nodes have the reserves of two assets."""
    spot, perp, coin = instruments(genesis)
    mine = [(id, account, side) for id, account, side in WHO if genesis.may_record(node, account)]
    for traded in (spot, spot, perp, coin):
        for id, account, side in mine:
            reserve = reserve_id(account, reserve_asset(traded, 1 if side == "buy" else -1))
            terms: dict[str, Any] = {"account": account, "instrument": traded.name, "side": side, "price": PRICE}
            for qty in QUANTITIES:
                yield Order(id=id, qty=qty, reserve=reserve, **terms)
            yield Order(id=id, qty=5, reserve="x", tif="gtt", expires_us=9, market=True, **terms)
            if traded is perp and id == 1:
                yield Order(
                    id=3, qty=5, reserve=reserve, amends=id, reduce_only=True, min_survival=PROMISE_PPM, **terms
                )
    for account in {account for _, account, _ in mine[:1]}:
        traded = auctioned(genesis)
        reserve = reserve_id(account, traded.settlement)
        told: dict[str, Any] = {"account": account, "instrument": traded.name, "side": "buy", "price": PRICE}
        sealed = commit(Terms(node, HIDDEN, qty=HIDES, **told), NONCE)
        yield from 3 * [Order(id=HIDDEN, qty=9, reserve=reserve, hidden=sealed, **told)]


def _match(node: str, home: str, id: FactId, meeting: tuple[FactId, FactId], qty: int, price: int) -> kinds.Match:
    """Firm at the maker's home, asked for elsewhere."""
    taker, maker = meeting
    survival = 0 if home == node else PROMISE_PPM
    return kinds.Match(id=id, taker=taker, maker_home=home, maker=maker, qty=qty, price=price, survival=survival)


def _reveal(qty: int) -> kinds.Reveal:
    return kinds.Reveal(id=1, order=HIDDEN, side="buy", qty=qty, price=PRICE, nonce=NONCE)
