"""Breaks in words: what a view holds that does not simply count, told the same at every replica.

*Lasting* ones stay true when the batches are settled; a settled state carries them on. *Waiting* ones (facts whose definition is
not known) end when their definition comes, so they are told anew by every view.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from crdtledger.errors import decimal_text
from crdtledger.ledger.batch import lane_text
from crdtledger.ledger.body import Body, fact_id
from crdtledger.ledger.breaks import Break
from crdtledger.ledger.catalog import NO_ASSET, Place
from crdtledger.ledger.collateral import Statement
from crdtledger.ledger.dedupe import Spot, terms_of
from crdtledger.ledger.facts import Kind
from crdtledger.ledger.orderfacts import Stated
from crdtledger.ledger.positions import Suspended
from crdtledger.ledger.settledparts import SuspendedFills

if TYPE_CHECKING:
    from crdtledger.ledger.view import View

FILLS = (Kind.FILL, Kind.BUST)


def lasting(view: View) -> list[Break]:
    """What stays a break once these batches are settled."""
    words = _Words(view)
    out = [Break("void_batch", words.place(v.lane, v.seq), v.reason) for v in view.void_batches]
    for void in view.void_facts():
        detail = f"{void.facts} x {void.kind.name.lower()}: {void.reason}"
        out.append(Break("void_fact", words.place(void.lane, void.seq), detail))
    out += [words.suspended(lost) for lost in view.positions.suspended() if lost.final]
    for name, digests in view.catalog.rivals().items():
        others = ", ".join(rival.hex() for rival in digests[1:])
        out.append(Break("definitions", name, f"{digests[0].hex()} stands, not {others}"))
    out += words.fill_conflicts()
    out += words.collateral_conflicts()
    out += words.order_conflicts()
    for account, asset, node, amount in view.collateral.overdrawn():
        short = decimal_text(-amount, view.genesis.asset_decimals[asset])
        out.append(Break("overdraft", f"{node} {account} {asset}", f"its lanes together spent {short} too much"))
    out += words.mismatches()
    return out


def waiting(view: View) -> list[Break]:
    """What is a break only as long as a definition is missing."""
    words = _Words(view)
    return [words.suspended(one) for one in view.positions.suspended() if not one.final]


def count(view: View) -> int:
    """How many breaks of both sorts there are."""
    positions, collateral = view.positions, view.collateral
    conflicts = sum(len(index.variants) for index in positions.indexes.values())
    contradicted = sum(len({s.content for s in said}) > 1 for said in collateral.repeated.values())
    settled = len(positions.overruled) + len(collateral.overruled) + len(view.orders.overruled)
    contradicted += len(view.orders.conflicts())
    busts = sum(1 for _ in positions.mismatches())
    named = len(positions.suspended()) + len(view.catalog.rivals()) + len(collateral.overdrawn())
    return len(view.void_batches) + len(view.void_facts()) + conflicts + contradicted + settled + busts + named


def order_fact(fact: Stated) -> str:
    """What a fact about an order is called: its kind, its node, its id."""
    return f"{fact.kind.name.lower()} {fact.name[0]}/{fact.name[1]}"


def fill_name(body: Body, kind: Kind, row: int) -> str:
    """What a fill or a bust is called: its venue, id space, instrument, id, and its leg if it has one."""
    scope = body.scopes[int(body.tables[kind][row]["scope"])]
    leg = f"/{scope.leg}" if scope.leg else ""
    name = body.instruments[scope.instrument][0]
    return f"{kind.name.lower()} {scope.venue}/{scope.id_space}/{name}/{fact_id(body, kind, row)}{leg}"


class _Words:
    """The words of one view."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._catalog = view.catalog

    def place(self, lane: bytes, seq: int) -> str:
        return f"{lane_text(lane, self._view.genesis)}#{seq}"

    def at(self, spot: Spot) -> str:
        source = self._view.batches[spot.batch]
        row = source.rows[spot.row] if isinstance(source, SuspendedFills) else spot.row
        return f"{self.place(source.key, source.seq)}[{row}]"

    def at_place(self, place: Place, row: int) -> str:
        if place.clock < 0:  # settled, and waiting for its definition: these are the view's first batches
            return self.at(Spot(place.clock + len(self._view.base.suspended), row))
        return f"{self.place(place.lane, place.seq)}[{row}]"

    def suspended(self, one: Suspended) -> Break:
        detail = f"{one.facts} facts under definition {one.digest.hex()}: {one.reason}"
        return Break("suspended", one.instrument, detail)

    # -- fills ----------------------------------------------------------------------------------------------

    def fill_conflicts(self) -> Iterator[Break]:
        positions = self._view.positions
        for kind in FILLS:
            index = positions.indexes[kind]
            for ordinal, variants in index.variants.items():
                texts = self.stories(variants)
                subject = self.fill(kind, index.spot(ordinal))
                yield Break("conflict", subject, f"counts: {texts[0]}; does not: {'; '.join(texts[1:])}")
        for (kind, *_), told in positions.overruled.items():
            texts = self.stories({stated: (place, spot.row) for stated, (place, spot) in told.items()})
            subject = self.fill(kind, next(iter(told.values()))[1])  # one id has one name, whoever states it
            yield Break("conflict", subject, f"counts: what is settled; does not: {'; '.join(texts)}")

    def stories(self, variants: Mapping[bytes, tuple[Place, int]]) -> list[str]:
        """What is said under one id, in canonical order."""
        told = sorted((at, stated) for stated, at in variants.items())  # no two stand at one place
        return [f"{self.terms(stated)} at {self.at_place(*at)}" for at, stated in told]

    def mismatches(self) -> Iterator[Break]:
        for kind, spot, other in self._view.positions.mismatches():
            settled = f"the settled {'fill' if kind is Kind.BUST else 'bust'}"
            theirs = f"the fill at {self.at(other)}" if other else settled
            yield Break("bust", self.fill(kind, spot), f"terms at {self.at(spot)} are not those of {theirs}")

    def fill(self, kind: Kind, spot: Spot) -> str:
        return fill_name(self._view.batches[spot.batch].body, kind, spot.row)

    def terms(self, stated: bytes) -> str:
        account, instrument, side, qty, price, fee, asset = terms_of(stated)
        definition = self._catalog.meaning(instrument)
        name = self._catalog.instrument_keys[instrument].name
        amounts = f"{qty}@{price}"
        if definition is not None:
            amounts = f"{decimal_text(qty, definition.qty_decimals)}@{decimal_text(price, definition.price_decimals)}"
        # A fee that names no asset is in the settlement asset, which only the definition says. One in an asset that is not the cluster's
        # has no decimals and no name here.
        settlement = definition.settlement if definition is not None and asset == NO_ASSET else ""
        paid_in = self._catalog.assets[asset] if asset >= 0 else settlement
        decimals = self._view.genesis.asset_decimals.get(paid_in, 0)
        fees = f" fee {decimal_text(fee, decimals)} {paid_in}".rstrip() if fee else ""
        return f"{self._catalog.account_names[account]} {'buy' if side > 0 else 'sell'} {amounts} {name}{fees}"

    # -- collateral -----------------------------------------------------------------------------------------

    def collateral_conflicts(self) -> Iterator[Break]:
        for (kind, _), statements in self._view.collateral.repeated.items():
            if len({statement.content for statement in statements}) > 1:
                yield Break("conflict", kind.name.lower(), self.statements(statements))
        for (kind, *_), statements in self._view.collateral.overruled.items():
            detail = f"counts: what is settled; does not: {self.statements(statements)}"
            yield Break("conflict", kind.name.lower(), detail)

    # -- orders ---------------------------------------------------------------------------------------------

    def order_conflicts(self) -> Iterator[Break]:
        orders = self._view.orders
        for told in orders.conflicts():
            first, *others = (f"{self.place(one.lane, one.seq)}[{one.row}]" for one in told)
            yield Break("conflict", order_fact(told[0].fact), f"counts: {first}; does not: {', '.join(others)}")
        for one in orders.overruled:
            detail = f"counts: what is settled; does not: {self.place(one.lane, one.seq)}[{one.row}]"
            yield Break("conflict", order_fact(one.fact), detail)

    def statements(self, statements: Iterable[Statement]) -> str:
        texts = []
        for one in sorted(statements, key=lambda one: (one.place, one.row)):
            account, asset = self._catalog.cell_name(one.cell)
            amount = decimal_text(one.amount, self._view.genesis.asset_decimals[asset])
            texts.append(f"{account} {amount} {asset} at {self.place(one.lane, one.seq)}[{one.row}]")
        return "; ".join(texts)
