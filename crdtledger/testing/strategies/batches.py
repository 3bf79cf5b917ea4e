"""What travels: signed batches, lanes of them, and whole clusters' worth of ledgers that heard of each other or did not.

All are written by the ledger's own recorder, so they are what an honest node writes. A fact that it refuses is left out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from crdtledger.edge.simulate.cluster import identity
from crdtledger.errors import CallerError
from crdtledger.ledger.batch import NONCE_BYTES, Batch
from crdtledger.ledger.facts import Deposit, Fact, Match, Reserve
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.inprocess import Ledger
from crdtledger.testing.drawing import pick
from crdtledger.testing.reference import ACCOUNTS, GENESIS, names, reserve_id
from crdtledger.testing.strategies.facts import MONEY, ORDERS, TRADES, facts
from crdtledger.testing.strategies.orders import pairs

OPENING = 5_000
"""What the custodian of a cell begins with, in minor units: a few drawn spends are refused, most are not."""
RESERVED = 500
"""How much of it is reserved for orders."""


@st.composite
def batches(draw: Any, genesis: Genesis = GENESIS, node: str | None = None) -> Batch:
    """A batch that stands alone: the first of its lane, of trades or of money (orders stand on a reserve in an earlier one). Any replica
    of ``genesis`` applies it."""
    ledger: Ledger = draw(_fresh(genesis, node))
    only = draw(pick((TRADES, MONEY)))
    first = (
        _deposits(genesis, ledger.name) if only is MONEY else []
    )  # in a batch of its own it would come before trades
    call = draw(st.lists(facts(genesis, ledger.name, only), min_size=1, max_size=8))
    for told in (call, *([one] for one in call)):
        with contextlib.suppress(CallerError):
            return ledger.record(*names(genesis), *first, *told).batches[0]
    return ledger.record(*names(genesis)).batches[0]


@st.composite
def lanes(draw: Any, genesis: Genesis = GENESIS, node: str | None = None, max_calls: int = 8) -> tuple[Batch, ...]:
    """A lane of ``node`` (any) from its first batch on: chained, at least one. A replica of ``genesis`` applies them in order."""
    ledger = draw(_fresh(genesis, node))
    _open(ledger)
    for call in draw(st.lists(_calls(genesis, ledger.name), max_size=max_calls)):
        _record(ledger, call)
    return tuple(ledger.replica.batches())


@st.composite
def ledgers(draw: Any, genesis: Genesis = GENESIS, max_steps: int = 12) -> tuple[Ledger, ...]:
    """One ledger for each node of ``genesis``, after they recorded apart and now and then heard of each other. All know the names."""
    drawn = tuple(Ledger(genesis, member.name, identity(member.name)) for member in genesis.nodes)
    for ledger in drawn:
        _open(ledger)
    by_name = {ledger.name: ledger for ledger in drawn}
    calls = pick(tuple(by_name)).flatmap(lambda name: st.tuples(st.just(name), _calls(genesis, name)))
    joins = st.tuples(pick(tuple(by_name)), pick(tuple(by_name)))
    for name, told in draw(st.lists(st.one_of(calls, joins, calls), max_size=max_steps)):
        if isinstance(told, str):
            by_name[name].join(by_name[told])
        else:
            _record(by_name[name], told)
    return drawn


def _fresh(genesis: Genesis, node: str | None) -> st.SearchStrategy[Ledger]:
    """A ledger on a lane of its own."""
    nodes = tuple(genesis.by_name) if node is None else (genesis.member(node).name,)

    def made(name: str, nonce: int) -> Ledger:
        return Ledger(genesis, name, identity(name), nonce=nonce.to_bytes(NONCE_BYTES, "big"))

    return st.builds(made, pick(nodes), st.integers(0, 2**32 - 1))


def _calls(genesis: Genesis, node: str) -> st.SearchStrategy[list[Fact]]:
    """Some of anything, of what moves money, or about orders: a spend wants a deposit before it, a void its reserve, a match its orders."""
    anything, money = (st.lists(facts(genesis, node, only), min_size=1, max_size=6) for only in (None, MONEY))
    about_orders = st.lists(facts(genesis, node, ORDERS), min_size=4, max_size=8)
    met = pairs(genesis, node)
    if met:
        matches = facts(genesis, node, [Match])
        about_orders = st.builds(lambda pair, match, more: [*pair, match, *more], pick(met), matches, about_orders)
    return st.one_of([anything, money, about_orders])


def _deposits(genesis: Genesis, node: str) -> list[Deposit]:
    return [
        Deposit(id="opening", account=account, asset=asset.name, amount=OPENING)
        for account in ACCOUNTS
        for asset in genesis.assets
        if genesis.may_record(node, account) and genesis.custodian(account, asset.name) == node
    ]


def _open(ledger: Ledger) -> None:
    deposits = _deposits(ledger.genesis, ledger.name)
    ledger.record(*names(ledger.genesis), *deposits)
    cells = [(one.account, one.asset) for one in deposits]
    ledger.record(*(Reserve(id=reserve_id(*cell), account=cell[0], asset=cell[1], amount=RESERVED) for cell in cells))


def _record(ledger: Ledger, call: Sequence[Fact]) -> None:
    """The call; where it is refused, those of its facts that are not."""
    try:
        ledger.record(*call)
    except CallerError:
        for fact in call if len(call) > 1 else ():
            with contextlib.suppress(CallerError):
                ledger.record(fact)
