"""Orders in the plain ledger: what facts about them say, and what a view must show of them, with a dict for each order.

``about`` is a fact as a client said it, ``read_orders`` those of a journal. ``open_orders`` is what ``View.order_rows`` must show where
nothing is settled: the first statement of each id in its node's lanes stands, and everything else is adding up. An accept answers a match
if it is the first of the maker's home. What settlement makes of orders, this does not know.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import msgspec

from crdtledger.ledger.batch import Batch
from crdtledger.ledger.facts import ORDER_KINDS, Accept, Cancel, Match, Order, Reveal, Share
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.orderfacts import Stated, stated_facts

Said: TypeAlias = tuple[Any, ...]
"""(kind, id, terms) with text for names and ids and ``int`` for amounts."""
Name: TypeAlias = tuple[str, str]
OrderFact: TypeAlias = Order | Cancel | Match | Accept | Share | Reveal

WORDS = frozenset(kind.name.lower() for kind in ORDER_KINDS)
"""The kinds of facts about orders."""


def about(fact: OrderFact) -> Said:
    """A fact about orders as ``read_orders`` reads it from a journal."""
    kind, id = type(fact).__name__.lower(), str(fact.id)
    match fact:
        case Order():
            what = (fact.account, fact.instrument, _sign(fact.side), fact.qty, fact.price, str(fact.reserve), fact.tif)
            how = (fact.market, fact.post_only, fact.reduce_only, fact.expires_us)
            amends = "" if fact.amends is None else str(fact.amends)
            return (kind, id, (*what, *how, amends, fact.min_survival, fact.hidden))
        case Cancel():
            return (kind, id, (str(fact.order),))
        case Match():
            who = (str(fact.taker), fact.maker_home, str(fact.maker))
            return (kind, id, (*who, fact.qty, fact.price, fact.survival))
        case Accept():
            return (kind, id, (fact.match_home, str(fact.match), fact.qty, fact.reason))
        case Share():
            return (kind, id, (fact.home, str(fact.order), fact.node, fact.qty))
        case Reveal():
            return (kind, id, (str(fact.order), _sign(fact.side), fact.qty, fact.price, fact.nonce))


def _sign(side: str) -> int:
    return 1 if side == "buy" else -1


def read_orders(batch: Batch, genesis: Genesis) -> Iterator[tuple[Said, int]]:
    """The facts about orders in a batch, each with its row."""
    for fact in stated_facts(batch.body, genesis, genesis.by_id[batch.lane.node].name):
        yield (fact.kind.name.lower(), fact.name[1], _terms(fact)), fact.row


def _terms(fact: Stated) -> Said:
    match fact.kind.name:
        case "ORDER":
            assert fact.terms is not None
            told = msgspec.structs.asdict(fact.terms)
            del told["definition"]  # a client names the instrument, its node finds the definition
            return tuple(told.values())
        case "CANCEL":
            return (fact.about[1],)
        case "MATCH":
            return (fact.taker[1], *fact.about, fact.qty, fact.price, fact.survival)
        case "ACCEPT":
            return (*fact.about, fact.qty, fact.text)
        case "SHARE":
            return (*fact.about, fact.node, fact.qty)
        case _:
            return (fact.about[1], fact.side, fact.qty, fact.price, fact.text)


def open_orders(told: Iterable[tuple[str, Said]]) -> dict[Name, dict[str, Any]]:
    """What a view must show of the orders among facts that nobody settled: (node, fact), each node's in the order of its lanes."""
    stands: dict[tuple[str, str, str], Said] = {}
    for node, (kind, id, terms) in told:
        if kind in WORDS:
            stands.setdefault((kind, node, id), terms)
    held: dict[Name, Counter[str]] = defaultdict(Counter)
    sums: dict[Name, Counter[str]] = defaultdict(Counter)
    orders, closed = set[Name](), set[Name]()
    answers: dict[Name, tuple[str, int]] = {}

    def matched(maker: Name, taker: Name, qty: int) -> None:
        sums[maker]["matched"] += qty
        sums[taker]["matched"] += qty

    for (kind, node, _), terms in stands.items():
        if kind == "accept":
            match = stands.get(("match", terms[0], terms[1]))
            if match is not None and match[1] == node:
                answers.setdefault((terms[0], terms[1]), (node, terms[2]))
    for (kind, node, id), terms in stands.items():
        if kind == "order":
            orders.add((node, id))
            held[node, id][node] += terms[3]
            closed |= {(node, terms[11])} if terms[11] else set()
        elif kind == "cancel":
            closed.add((node, terms[0]))
        elif kind == "share":
            held[terms[0], terms[1]].update({node: -terms[3]})
            held[terms[0], terms[1]].update({terms[2]: terms[3]})
        elif kind == "match":
            taker, maker, qty = (node, terms[0]), (terms[1], terms[2]), terms[3]
            held[taker][node] -= qty
            if not terms[5]:
                held[maker][node] -= qty
                matched(maker, taker, qty)
            elif (node, id) in answers:
                home, accepted = answers[node, id]
                stood = min(accepted, qty)
                held[maker][home] -= stood
                held[taker][node] += qty - stood
                matched(maker, taker, stood)
            else:
                sums[maker]["asked"] += qty
                sums[taker]["asking"] += qty
    out: dict[Name, dict[str, Any]] = {}
    for name in orders:
        left = {node: qty for node, qty in held[name].items() if qty > 0 and not (name in closed and node == name[0])}
        figures = {word: sums[name][word] for word in ("matched", "asked", "asking")}
        out[name] = {"open": sum(left.values()), "held": left, **figures}
    return out
