"""Facts about orders as values: the rows of a batch's tables, with every name resolved.

Views and settlement read them one by one, in the order in which they apply: kinds by precedence, then rows. An order is named by (home
node, id), a match by (its writer's node, id), ids in their canonical text: ``7`` and ``"7"`` are one name. A home that the genesis does not
have is ``""``, so such a fact is about nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from crdtledger.ledger.body import Body, fact_id
from crdtledger.ledger.facts import (
    AMENDS,
    MARKET,
    NO_STRING,
    ORDER_KINDS,
    POST_ONLY,
    REDUCE_ONLY,
    REFERENCES,
    TIFS,
    Kind,
)
from crdtledger.ledger.genesis import Genesis

Name: TypeAlias = tuple[str, str]
"""(node, id): what an order or a match is called in the cluster."""


class Terms(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What an order says. ``side`` +1 bought, -1 sold; ``instrument``: name and digest of the definition; ids in their canonical text,
    ``amends`` empty where it amends nothing."""

    account: str
    instrument: str
    definition: bytes
    side: int
    qty: int
    price: int
    reserve: str
    tif: str = "gtc"
    market: bool = False
    post_only: bool = False
    reduce_only: bool = False
    expires_us: int = 0
    amends: str = ""
    min_survival: int = 0
    hidden: str = ""


class Stated(NamedTuple):
    """One fact about an order. ``about``: the order (of a match: the maker's; of an accept: the match) that it is about. ``taker``: of a
    match, ``node``: of a share, whom it goes to. ``text``: an accept's reason, a reveal's nonce. ``terms``: of an order."""

    kind: Kind
    row: int
    name: Name
    about: Name
    qty: int = 0
    price: int = 0
    side: int = 0
    survival: int = 0
    taker: Name = ("", "")
    node: str = ""
    text: str = ""
    terms: Terms | None = None

    @property
    def firm(self) -> bool:
        """Of a match: whether its writer takes what it holds itself."""
        return not self.survival


_KINDS: Final = sorted(ORDER_KINDS)


def stated_facts(body: Body, genesis: Genesis, node: str) -> Iterator[Stated]:
    """The facts about orders that ``node`` states in a body, in the order in which they apply."""
    for kind in _KINDS:
        if kind in body.tables:
            for row in range(len(body.tables[kind])):
                yield _stated(body, genesis, node, kind, row)


def _stated(body: Body, genesis: Genesis, node: str, kind: Kind, row: int) -> Stated:
    fact = body.tables[kind][row]
    name = (node, str(fact_id(body, kind, row)))

    def member(column: str) -> str:
        index = int(fact[column])
        return genesis.nodes[index].name if index < len(genesis.nodes) else ""

    def other(column: str) -> str:
        return str(fact_id(body, kind, row, column, REFERENCES[kind][column][0]))

    if kind is Kind.ORDER:
        terms = _terms(body, fact, other)
        return Stated(kind, row, name, name, terms.qty, terms.price, terms.side, terms=terms)
    if kind is Kind.CANCEL:
        return Stated(kind, row, name, (node, other("order")))
    if kind is Kind.MATCH:
        maker, taker = (member("home"), other("maker")), (node, other("taker"))
        terms_of = int(fact["qty"]), int(fact["price"]), 0, int(fact["survival"])
        return Stated(kind, row, name, maker, *terms_of, taker=taker)
    if kind is Kind.ACCEPT:
        reason = body.strings[int(fact["reason"])] if fact["reason"] != NO_STRING else ""
        return Stated(kind, row, name, (member("home"), other("match")), int(fact["qty"]), text=reason)
    if kind is Kind.SHARE:
        return Stated(kind, row, name, (member("home"), other("order")), int(fact["qty"]), node=member("node"))
    nonce = body.strings[int(fact["nonce"])]
    told = int(fact["qty"]), int(fact["price"]), int(fact["side"])
    return Stated(kind, row, name, (node, other("order")), *told, text=nonce)


def _terms(body: Body, fact: np.void, other: Callable[[str], str]) -> Terms:
    flags = int(fact["flags"])
    return Terms(
        body.strings[int(fact["account"])],
        *body.instruments[int(fact["instrument"])],
        int(fact["side"]),
        int(fact["qty"]),
        int(fact["price"]),
        other("reserve"),
        TIFS[int(fact["tif"])],
        bool(flags & MARKET),
        bool(flags & POST_ONLY),
        bool(flags & REDUCE_ONLY),
        int(fact["expires_us"]),
        other("amends") if flags & AMENDS else "",
        int(fact["min_survival"]),
        body.strings[int(fact["hidden"])] if fact["hidden"] != NO_STRING else "",
    )


def said(body: Body, kind: Kind, row: int) -> tuple[object, ...]:
    """What one row says, its names resolved: equal for two rows of one id exactly when they are the same fact."""
    fact = body.tables[kind][row]
    out: list[object] = []
    for column in fact.dtype.names or ():
        value = int(fact[column])
        if column in REFERENCES[kind]:
            spelt = str(fact_id(body, kind, row, column, REFERENCES[kind][column][0]))
            out.append(spelt if column != "amends" or fact["flags"] & AMENDS else None)
        elif column in ("account", "hidden", "reason", "nonce"):
            out.append(body.strings[value] if value != NO_STRING else None)
        elif column == "instrument":
            out.extend(body.instruments[value])
        elif column == "flags":
            out.append(value & (MARKET | POST_ONLY | REDUCE_ONLY))
        elif column != "id":
            out.append(value)
    return tuple(out)


def order_contents(body: Body, kind: Kind, rows: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.uint64]:
    """What rows of a kind of fact about orders say, 128 bits each, shape (n, 2): see ``contents``."""
    chosen = range(len(body.tables[kind])) if rows is None else rows.tolist()
    person, word = b"crdtledger/says", kind.name.lower()
    hashed = b"".join(
        hashlib.blake2b(msgspec.msgpack.encode([word, said(body, kind, row)]), digest_size=16, person=person).digest()
        for row in chosen
    )
    return np.frombuffer(hashed, "<u8").astype(np.uint64).reshape(-1, 2)
