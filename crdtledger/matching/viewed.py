"""Orders and facts of a ledger's view as matching reads them: names whose ids are numbers wherever they can be written as one."""

from __future__ import annotations

from crdtledger.ledger.body import split_id
from crdtledger.ledger.facts import Accept, Cancel, Kind, Match, Order, Share
from crdtledger.ledger.orderfacts import Name as Spelt
from crdtledger.ledger.orderfacts import Stated, Terms
from crdtledger.ledger.orders import Record
from crdtledger.matching.orders import Name
from crdtledger.matching.standing import Fact, Standing


def name_of(spelt: Spelt) -> Name:
    """A name as matching has it."""
    return spelt[0], split_id(spelt[1])


def spelt(name: Name) -> Spelt:
    """A name as the ledger has it."""
    return name[0], str(name[1])


def order_of(name: Spelt, terms: Terms) -> Order:
    """The fact that said these terms."""
    return Order(
        id=split_id(name[1]),
        account=terms.account,
        instrument=terms.instrument,
        side="buy" if terms.side > 0 else "sell",
        qty=terms.qty,
        price=terms.price,
        reserve=split_id(terms.reserve),
        tif=terms.tif,  # type: ignore[arg-type]
        market=terms.market,
        post_only=terms.post_only,
        reduce_only=terms.reduce_only,
        expires_us=terms.expires_us,
        amends=split_id(terms.amends) if terms.amends else None,
        min_survival=terms.min_survival,
        hidden=terms.hidden,
    )


def fact_of(stated: Stated) -> Fact | None:
    """A fact that matching looks at, None for one that it does not."""
    id = split_id(stated.name[1])
    home, about = name_of(stated.about)
    match stated.kind:
        case Kind.ORDER:
            assert stated.terms is not None
            return order_of(stated.name, stated.terms)
        case Kind.CANCEL:
            return Cancel(id=id, order=about)
        case Kind.SHARE:
            return Share(id=id, home=home, order=about, node=stated.node, qty=stated.qty)
        case Kind.MATCH:
            taker, price, survival = split_id(stated.taker[1]), stated.price, stated.survival
            return Match(
                id=id, taker=taker, maker_home=home, maker=about, qty=stated.qty, price=price, survival=survival
            )
        case Kind.ACCEPT:
            return Accept(id=id, match_home=home, match=about, qty=stated.qty, reason=stated.text)
    return None


def standing_of(record: Record) -> Standing:
    """An order as a view adds it up, as matching does."""
    assert record.terms is not None
    standing = Standing(name_of(record.name))
    standing.order, standing.place = order_of(record.name, record.terms), record.place
    standing.sign, standing.closed = record.terms.side, bool(record.closers)
    standing.at, standing.asked = dict(record.held), record.asked
    return standing
