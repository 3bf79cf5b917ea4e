"""Hidden orders of an auction: a commitment says nothing of the terms and binds them; the reveal shows them and is checked against it.

The commitment is a SHA-256 over the nonce and everything that the order is: its home, id, account and instrument, too, so that nobody
can copy the commitment of another, wait for his reveal and reveal the same. The nonce must be 32 random bytes and used once: the terms
alone could be guessed.

The side of a hidden order is open, and its quantity and price are bounds: what it may come to is reserved before it is recorded. Who
wants to hide his side commits on both and opens one.

It binds, it does not force: who sees the others' reveals may still keep his own back, for the price of his bond. See
docs/explanation/matching.md.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from crdtledger.ledger.facts import FactId, Order, Reveal
from crdtledger.ledger.identity import digest
from crdtledger.ledger.orderfacts import Stated
from crdtledger.ledger.orderfacts import Terms as OrderTerms

NONCE_BYTES: Final = 32


class Terms(msgspec.Struct, frozen=True):
    """What is committed to. ``home`` and ``id`` name the order."""

    home: str
    id: FactId
    account: str
    instrument: str
    side: Literal["buy", "sell"]
    qty: int
    price: int


def commit(terms: Terms, nonce: str) -> str:
    """The commitment, 64 hex digits. ``nonce``: 64 hex digits. Raises ``ValueError`` if it is not."""
    drawn = bytes.fromhex(nonce)
    if len(drawn) != NONCE_BYTES:
        raise ValueError(f"a nonce has {2 * NONCE_BYTES} hex digits, not {2 * len(drawn)}")
    said = [terms.home, str(terms.id), terms.account, terms.instrument, terms.side, str(terms.qty), str(terms.price)]
    return digest("hidden-order", drawn, *(text.encode("utf-8", "surrogatepass") for text in said)).hex()


def check(home: str, order: Order, reveal: Reveal) -> str:
    """Why ``reveal`` does not open the hidden ``order`` of ``home``; ``""`` if it does."""
    if not order.hidden:
        return "the order is not hidden"
    if str(reveal.order) != str(order.id):
        return "the reveal is of another order"
    dearer = reveal.price > order.price if reveal.side == "buy" else reveal.price < order.price
    if reveal.side != order.side or not 0 < reveal.qty <= order.qty or reveal.price <= 0 or dearer:
        return "the terms are beyond what the order bounds"
    terms = Terms(home, order.id, order.account, order.instrument, reveal.side, reveal.qty, reveal.price)
    try:
        opened = commit(terms, reveal.nonce)
    except ValueError:
        return "the nonce is not 64 hex digits"
    return "" if opened == order.hidden else "the terms are not those committed to"


def opens(fact: Stated, terms: OrderTerms) -> str:
    """Why a stated reveal does not open the order of these ``terms`` that it names; ``""`` if it does."""
    home, id = fact.about
    order = Order(
        id=id,
        account=terms.account,
        instrument=terms.instrument,
        side="buy" if terms.side > 0 else "sell",
        qty=terms.qty,
        price=terms.price,
        reserve=terms.reserve,
        hidden=terms.hidden,
    )
    side: Literal["buy", "sell"] = "buy" if fact.side > 0 else "sell"
    return check(home, order, Reveal(fact.name[1], id, side, fact.qty, fact.price, fact.text))
