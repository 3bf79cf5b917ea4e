"""What is recorded: facts as structs and as clients write them, drawn for one node of one genesis.

Few names and ids, so that they meet: three accounts, three instruments, ids that several facts share. What a node may not record at all (a
deposit without being the custodian, an account that is not its own) is not drawn; what it may be refused for its content is: a spend beyond
rights, an id told otherwise, a post without a reserve, a match of orders that do not meet (``orders``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
from hypothesis import strategies as st

from crdtledger.edge.simulate.writing import Json
from crdtledger.errors import decimal_text
from crdtledger.ledger import facts as kinds
from crdtledger.ledger.facts import Account, Bust, Deposit, Fact, Fill, Grant, Instrument, Mark, Note, Post, Void
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.noteform import STATUSES
from crdtledger.testing.drawing import pick
from crdtledger.testing.reference import ACCOUNTS, GENESIS, auctioned, instruments, reserve_id
from crdtledger.testing.strategies.orders import order_facts

IDS: Final = (1, 2, "1", "x")
"""``1`` and ``"1"`` are the same id."""
BREAKS: Final = ("0123456789abcdef", "ba" * 8)
MOVES: Final = (kinds.Deposit, kinds.Withdrawal, kinds.Transfer, kinds.Grant, kinds.Reserve)
MONEY: Final = (*MOVES, kinds.Post, kinds.Void)
TRADES: Final = (Fill, Bust, Mark)
ORDERS: Final = (kinds.Order, kinds.Cancel, kinds.Match, kinds.Accept, kinds.Share, kinds.Reveal)


def facts(
    genesis: Genesis = GENESIS, node: str | None = None, only: Iterable[type[Fact]] | None = None
) -> st.SearchStrategy[Any]:
    """Fact structs in minor units, as ``node`` (the first) may record them. ``only``: of these kinds."""
    recorder = genesis.nodes[0].name if node is None else genesis.member(node).name
    drawn = _by_kind(genesis, recorder)
    wanted = [kind for kind in kinds.KIND_OF if only is None or kind in set(only)]
    possible = [drawn[kind] for kind in wanted if kind in drawn]
    if not possible:
        raise ValueError(f"{recorder} may record none of {', '.join(kind.__name__ for kind in wanted)}")
    return st.one_of(possible)


def client_facts(
    genesis: Genesis = GENESIS, node: str | None = None, only: Iterable[type[Fact]] | None = None
) -> st.SearchStrategy[Json]:
    """The same as JSON objects with decimal text, as clients write them."""
    return facts(genesis, node, only).map(lambda fact: as_client(fact, genesis))


def as_client(fact: Fact, genesis: Genesis = GENESIS) -> Json:
    """A fact about ``instruments`` as a client writes it; what ``Ledger.record`` and the client protocol read."""
    written: Json = msgspec.to_builtins(fact)
    defined = {one.name: one for one in (*instruments(genesis), auctioned(genesis))}
    if isinstance(fact, Instrument):
        written["contract_size"] = decimal_text(fact.contract_size, fact.contract_decimals)
        written.pop("contract_decimals", None)
        if fact.strike is not None:
            written["strike"] = decimal_text(fact.strike, fact.price_decimals)
    elif isinstance(fact, Fill | Mark):
        instrument = defined[fact.instrument]
        written["price"] = decimal_text(fact.price, instrument.price_decimals)
        if isinstance(fact, Fill):
            written["qty"] = decimal_text(fact.qty, instrument.qty_decimals)
            fee_decimals = genesis.asset_decimals[fact.fee_asset or instrument.settlement]
            written["fee"] = decimal_text(fact.fee, fee_decimals)
    elif isinstance(fact, ORDERS):
        if "qty" in written:  # it names an instrument for its decimals: any, if the same is read back
            instrument = defined[written.setdefault("instrument", "PERP")]
            decimals = {"qty": instrument.qty_decimals, "price": instrument.price_decimals}
            written |= {name: decimal_text(written[name], n) for name, n in decimals.items() if name in written}
    elif isinstance(fact, Post):
        written["asset"] = genesis.assets[0].name  # of drawn reserves' assets, whose decimals a post's amount has
        written["amount"] = decimal_text(fact.amount, genesis.assets[0].decimals)
    elif isinstance(fact, MOVES):
        written["amount"] = decimal_text(fact.amount, genesis.asset_decimals[fact.asset])
    return written


def notes() -> st.SearchStrategy[Note]:
    """What people note on the board about one of two breaks."""
    texts = {"owner": ("kim", "lee", ""), "resolution": ("booked", ""), "comment": ("seen\nagain", "called the venue")}
    told = [st.tuples(st.just(field), pick(words)) for field, words in {"status": STATUSES, **texts}.items()]
    return st.builds(lambda at, said: Note(break_id=at, field=said[0], text=said[1]), pick(BREAKS), st.one_of(told))


def _by_kind(genesis: Genesis, node: str) -> dict[type[Fact], st.SearchStrategy[Any]]:
    """Kind -> what ``node`` may record of it; without the kinds of which it may record nothing."""
    mine = [account for account in ACCOUNTS if genesis.may_record(node, account)]
    cells = [(account, asset.name) for account in mine for asset in genesis.assets]
    kept = [(account, asset) for account, asset in cells if genesis.custodian(account, asset) == node]
    others = [member.name for member in genesis.nodes if member.name != node]
    ids, account = pick(IDS), pick(ACCOUNTS)
    amount, reserves = (
        st.integers(1, 1_000),
        pick((1, "x", *(reserve_id(name, genesis.assets[0].name) for name in "AB"))),
    )

    def of(kind: type[Any], places: list[tuple[str, str]], **more: Any) -> st.SearchStrategy[Any]:
        make: Callable[..., Any] = lambda cell, **rest: kind(account=cell[0], asset=cell[1], **rest)  # noqa: E731
        return st.builds(make, pick(places), id=ids, amount=amount, **more)

    found: dict[type[Fact], st.SearchStrategy[Any]] = {
        Instrument: pick((*instruments(genesis), auctioned(genesis))),
        Account: st.builds(Account, name=account, label=pick(("", "desk"))),
        Mark: st.builds(
            Mark,
            instrument=pick(("SPOT", "PERP", "COIN")),
            price=st.integers(1, 10_000_000),
            ts_us=st.integers(0, 5),
            source=pick(("x", "y")),
            sequence=st.integers(0, 2),
        ),
        Note: notes(),
        Post: st.builds(Post, id=ids, reserve=reserves, amount=amount, credit=account),
        Void: st.builds(Void, id=ids, reserve=reserves),
    }
    found |= order_facts(genesis, node)
    if mine:
        terms: dict[str, Any] = {
            "venue": pick(("V", "W")),
            "trade_id": ids,
            "instrument": pick(("SPOT", "PERP", "COIN")),
            "account": pick(mine),
            "side": pick(("buy", "sell")),
            "qty": st.integers(1, 1_000),
            "price": st.integers(1, 10_000_000),
            "fee": st.integers(-5, 100),
            "fee_asset": pick((None, *(asset.name for asset in genesis.assets))),
            "ts_us": st.integers(0, 5),
        }
        found |= {kind: st.builds(kind, **terms) for kind in (Fill, Bust)}
        found |= {kind: of(kind, cells) for kind in (kinds.Withdrawal, kinds.Reserve)}
        found[kinds.Transfer] = of(kinds.Transfer, cells, credit=account)
    if mine and others:
        found[Grant] = of(Grant, cells, node=pick(others))
    if kept:
        found[Deposit] = of(Deposit, kept)
    return found
