"""Rows made of differences: what is known at one moment, put on what was found.

A ``Moment`` is everything that a row needs beside the difference itself: the time, who looks, the reference data, the newest marks,
and how far each height settled each lane. Ages run through the checkpoints: a break began when the oldest fact it rests on was
recorded, and its height is the first that settled that fact; so two nodes, or two runs, tell the same age.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import msgspec

from crdtledger.errors import decimal_text
from crdtledger.ledger.breaks import Break
from reconcile.divergence.breakrow import (
    BreakRow,
    Cause,
    Correction,
    Scope,
    age_bucket,
    break_id,
    severity_of,
)
from reconcile.divergence.causes import (
    CAUSE_OF_FINDING,
    PARTITION,
    Found,
    Holder,
    MarkTold,
    Rules,
    Touch,
    gaps,
    stale_marks,
)
from reconcile.divergence.compare import Difference
from reconcile.divergence.corrections import Units, mark_correction, trade_correction
from reconcile.divergence.tolerance import Tolerances, rule
from reconcile.divergence.trades import Trade, TradeGap, fees
from reconcile.divergence.worth import Worth, plain

QUANTITIES = ("qty", "bought", "sold", "settled_qty")


class SettledCut(msgspec.Struct, frozen=True):
    """A height, when it was decided, how far it settled each lane (by name), and the lanes that its evidence closed."""

    height: int
    decided_us: int
    lanes: Mapping[str, int]
    forks: tuple[str, ...] = ()


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """What is known when rows are made. ``observer``: the node that was asked. ``decimals``: of every asset."""

    now_us: int
    observer: str
    worth: Worth
    decimals: Mapping[str, int]
    rules: Rules = Rules()
    cuts: Sequence[SettledCut] = ()
    tolerances: Tolerances = {}

    def units(self, instrument: str) -> Units | None:
        """The decimals of an instrument; None when it is not defined here."""
        terms = self.worth.instruments.get(instrument)
        return Units(terms.price_decimals, terms.qty_decimals, self.decimals) if terms else None

    def height_of(self, lane: str, seq: int) -> int:
        """The first known height that settled a batch, 0 if none has."""
        return next((cut.height for cut in self.cuts if cut.lanes.get(lane, 0) >= seq), 0)

    def settled_by(self, subject: str) -> SettledCut | None:
        """The first known height that settled what a break is about: a batch by its name, or a lane that it closed."""
        lane, _, seq = subject.partition("#")
        if seq.isascii() and seq.isdigit():
            return next((cut for cut in self.cuts if cut.lanes.get(lane, 0) >= int(seq)), None)
        return next((cut for cut in self.cuts if subject in cut.forks), None)

    def row(
        self, scope: Scope, about: tuple[str, str, str], sources: Sequence[str], found: Found, **more: Any
    ) -> BreakRow:
        """A row about (account, instrument, field)."""
        account, instrument, field = about
        return BreakRow(
            id=break_id(account, instrument, field, sources),
            scope=scope,
            account=account,
            instrument=instrument,
            field=field,
            sources=tuple(sources),
            status=found.status,
            severity=severity_of(found.cause, found.status),
            cause=found.cause,
            why=found.why,
            missing=found.missing,
            first_seen_us=found.first_us,
            last_seen_us=self.now_us,
            age=age_bucket(found.first_us, self.now_us),
            root=found.root,
            tolerance=rule(self.tolerances, field).text,
            **more,
        )

    # -- figures --------------------------------------------------------------------------------------------

    def of_difference(
        self, scope: Scope, sources: Sequence[str], difference: Difference, found: Found, correction: Correction
    ) -> BreakRow:
        """A row for a figure that differs between sources."""
        told = [None if value is None else decimal_text(value, difference.decimals) for value in difference.values]
        gap = difference.gap
        about = (difference.account, difference.subject, difference.field)
        return self.row(
            scope,
            about,
            sources,
            found,
            a=told[0],
            b=told[1],
            c=told[2] if len(told) > 2 else None,
            difference=None if gap is None else decimal_text(gap, difference.decimals),
            type=difference.type,
            also=difference.also,
            correction=correction,
            at_risk=self._at_risk(difference),
        )

    def _at_risk(self, difference: Difference) -> Any:
        told = [value for value in difference.values if value is not None]
        if not told:
            return None
        spread = max(told) - min(told) if len(told) > 1 else abs(told[0])
        amount = Fraction(spread, 10**difference.decimals)
        if difference.subject in self.decimals:
            return self.worth.asset(difference.subject, amount)
        if difference.field in QUANTITIES:
            return self.worth.of(difference.subject, amount)
        terms = self.worth.instruments.get(difference.subject)
        money = terms is not None and difference.field in ("fees", "value_bought", "value_sold", "realised")
        return self.worth.asset(terms.settlement, amount) if terms is not None and money else None

    # -- trades ---------------------------------------------------------------------------------------------

    def of_trade(
        self, scope: Scope, sources: Sequence[str], gap: TradeGap, found: Found, correction: Correction
    ) -> BreakRow:
        """A row for a trade that is not the same in the ledger and in a statement."""
        trade = gap.first
        units = self.units(trade.instrument)
        names = " + ".join(sorted({one.id for one in (*gap.ours, *gap.theirs)}))
        a = self._told(gap, gap.ours, units)
        b = self._told(gap, gap.theirs, units)
        qty = sum(one.side * one.qty for one in gap.ours) - sum(one.side * one.qty for one in gap.theirs)
        difference = None if not (gap.ours and gap.theirs) else self._difference(gap, qty, units)
        return self.row(
            scope,
            (trade.account, trade.instrument, f"{gap.field} of trade {names}"),
            sources,
            found,
            a=a,
            b=b,
            difference=difference,
            type="value" if gap.ours and gap.theirs else "missing",
            correction=correction,
            at_risk=self._trade_at_risk(gap, units),
        )

    def _told(self, gap: TradeGap, trades: Sequence[Trade], units: Units | None) -> str | None:
        if not trades:
            return None
        if gap.field == "fees":
            return self.fees_text(trades)
        return "; ".join(terms_text(trade, units) for trade in trades)

    def fees_text(self, trades: Sequence[Trade]) -> str:
        """Fees of trades, by asset."""
        told = fees(trades)
        return (
            ", ".join(f"{decimal_text(fee, self.decimals.get(asset, 0))} {asset}" for asset, fee in told.items()) or "0"
        )

    def _difference(self, gap: TradeGap, qty: int, units: Units | None) -> str:
        if gap.field != "fees":
            return decimal_text(qty, units.qty_decimals if units else 0)
        ours, theirs = fees(gap.ours), fees(gap.theirs)
        assets = sorted({*ours, *theirs})
        gaps_of = ((asset, ours.get(asset, 0) - theirs.get(asset, 0)) for asset in assets)
        return ", ".join(f"{decimal_text(fee, self.decimals.get(asset, 0))} {asset}" for asset, fee in gaps_of if fee)

    def _trade_at_risk(self, gap: TradeGap, units: Units | None) -> Any:
        if gap.field == "fees":
            ours, theirs = fees(gap.ours), fees(gap.theirs)
            for asset in sorted({*ours, *theirs}):
                fee = ours.get(asset, 0) - theirs.get(asset, 0)
                if fee:
                    return self.worth.asset(asset, Fraction(fee, 10 ** self.decimals.get(asset, 0)))
            return None
        side = gap.ours or gap.theirs
        if units is None:
            return None
        both = [sum(one.side * one.qty for one in trades) for trades in (gap.ours, gap.theirs)]
        qty = abs(both[0] - both[1]) or abs(both[0])
        price = {**self.worth.marks}
        price.setdefault(side[0].instrument, side[0].price)  # a trade's own price, where nobody marks it
        worth = msgspec.structs.replace(self.worth, marks=price)
        return worth.of(side[0].instrument, Fraction(qty, 10**units.qty_decimals))

    # -- what the ledger itself names -----------------------------------------------------------------------

    def of_finding(self, item: Break, stated: Sequence[tuple[Trade, str]], places: Sequence[Touch]) -> BreakRow:
        """A row for a break of the ledger's own. ``stated``: for a contradiction, what is said under the id, each with what became of
        it; ``places``: the batches that it lies in."""
        first = min(places, key=lambda touch: (touch.recorded_us, touch), default=None)
        cause = CAUSE_OF_FINDING.get(item.type, Cause.REFERENCE_DATA)
        settled = self.settled_by(item.subject)
        first_us = first.recorded_us if first else settled.decided_us if settled else 0
        found = Found(cause, "break", item.detail, (), first_us, f"{item.type} {item.subject}")
        counting = tuple(trade for trade, became in stated if became == "counts")
        other = tuple(trade for trade, became in stated if became == "contradicts")
        trade = (counting or other)[0] if stated and (counting or other) else None
        units = self.units(trade.instrument) if trade else None
        gap = TradeGap("qty", counting[:1], other[:1]) if counting and other else None
        return self.row(
            "ledger",
            (trade.account if trade else "", trade.instrument if trade else "", f"{item.type} {item.subject}"),
            [self.observer],
            found,
            a=terms_text(counting[0], units) if counting else None,
            b=terms_text(other[0], units) if other else None,
            type=item.type,
            first_height=max(
                (self.height_of(touch.lane, touch.seq) for touch in places), default=settled.height if settled else 0
            ),
            correction=(
                trade_correction(gap, units, gap.first.venue, if_true="if the one that does not count is true")
                if gap and units
                else Correction(_ACTIONS[cause])
            ),
            at_risk=self._trade_at_risk(gap, units) if gap else None,
        )

    # -- what is cut off ------------------------------------------------------------------------------------

    def of_unheard(self, own: Holder, silent: Sequence[Holder]) -> list[BreakRow]:
        """One row for everything that is not heard of: what it holds is unknown."""
        if not silent:
            return []
        nodes = ", ".join(holder.node for holder in silent)
        heard = [holder.heard_us for holder in silent if holder.heard_us]
        missing = tuple(gap for holder in silent for gap in gaps(own, holder))
        never = "" if heard else " since this node started"
        found = Found(
            Cause.PARTITIONED, "break", f"{nodes}: nothing heard{never}", missing, min(heard, default=0), PARTITION
        )
        batches = sum(own.heads.values())
        row = self.row(
            "replica/replica",
            ("", "", f"frontier of {nodes}"),
            [self.observer, nodes],
            found,
            a=f"{batches} batches",
            type="unknown",
            correction=Correction(_ACTIONS[Cause.PARTITIONED]),
        )
        return [row]

    # -- marks ----------------------------------------------------------------------------------------------

    def of_marks(self, marks: Sequence[MarkTold], open_qty: Mapping[str, Fraction]) -> list[BreakRow]:
        """Rows for marks that are too old, of instruments in which somebody holds something (``open_qty``: how much, without sign)."""
        rows = []
        for mark, fresh, why in stale_marks([m for m in marks if open_qty.get(m.instrument)], self.now_us, self.rules):
            units = self.units(mark.instrument)
            price, newer = self._price(mark, units), self._price(fresh, units)
            found = Found(Cause.STALE_MARK, "break", why, (), mark.ts_us, f"mark {mark.instrument} {mark.source}")
            stands = fresh or mark
            rows.append(
                self.row(
                    "ledger",
                    ("", mark.instrument, f"mark of {mark.source}"),
                    [mark.source, fresh.source if fresh else "the time"],
                    found,
                    a=price,
                    b=newer,
                    difference=_less(mark, fresh, units),
                    type="stale",
                    correction=mark_correction(
                        mark.instrument, mark.source, newer, stands.ts_us, stands.sequence, stands.source
                    ),
                    at_risk=self._mark_risk(mark, fresh, units, open_qty[mark.instrument]),
                )
            )
        return rows

    def _price(self, mark: MarkTold | None, units: Units | None) -> str | None:
        if mark is None or mark.price is None or units is None:
            return None
        return decimal_text(mark.price, units.price_decimals)

    def _mark_risk(self, mark: MarkTold, fresh: MarkTold | None, units: Units | None, qty: Fraction) -> Any:
        if fresh is None or units is None or mark.price is None or fresh.price is None:
            return None
        worth = [
            msgspec.structs.replace(self.worth, marks={mark.instrument: price}).of(mark.instrument, qty)
            for price in (mark.price, fresh.price)
        ]
        if worth[0] is None or worth[1] is None:
            return None
        return self.worth.asset(worth[0].asset, Fraction(worth[0].amount) - Fraction(worth[1].amount))


_ACTIONS: Mapping[Cause, str] = {
    Cause.IN_FLIGHT: "wait: it closes by itself when the batches arrive",
    Cause.PARTITIONED: "restore the link; the batches arrive by themselves. No fact is to be recorded",
    Cause.MISSING_BATCH: "see why the node does not take the batches in: crdtledger doctor on its folder",
    Cause.DUPLICATE_ID_CONFLICT: "ask the venue which of the two statements is true",
    Cause.RIGHTS_OVERSPENT: "the batch counts for nothing: record the spend again at a node that holds the rights",
    Cause.STALE_MARK: "have the mark's source tell a newer price",
    Cause.FEE: "ask the venue which fee it charged",
    Cause.ROUNDING: "set a tolerance for the field, or have the statement with all its decimals",
    Cause.REFERENCE_DATA: "record the definition that is missing, or the facts under the one that stands",
    Cause.FORK: "take the node out of service and give it a new key; the next checkpoint closes the lane where it forks",
    Cause.EXTERNAL: "ask the venue for the trades of the period",
}


def action_for(cause: Cause) -> Correction:
    """What to do where no fact closes it."""
    return Correction(_ACTIONS[cause])


def terms_text(trade: Trade, units: Units | None) -> str:
    """A trade's terms, as people read them."""
    price, qty = (units.price_decimals, units.qty_decimals) if units else (0, 0)
    fee = ""
    if trade.fee:
        places = units.assets.get(trade.fee_asset, 0) if units else 0
        fee = f" fee {decimal_text(trade.fee, places)} {trade.fee_asset}"
    side = "buy" if trade.side > 0 else "sell"
    place = f" at {trade.place}" if trade.place else ""
    return f"{trade.account} {side} {decimal_text(trade.qty, qty)}@{decimal_text(trade.price, price)}{fee}{place}"


def _less(mark: MarkTold, fresh: MarkTold | None, units: Units | None) -> str | None:
    if fresh is None or units is None or mark.price is None or fresh.price is None:
        return None
    return decimal_text(mark.price - fresh.price, units.price_decimals)


def totals(rows: Iterable[BreakRow]) -> dict[str, str]:
    """What is at risk together, by asset; rows of one record count once each."""
    sums: dict[str, Fraction] = {}
    for row in rows:
        if row.at_risk is not None:
            sums[row.at_risk.asset] = sums.get(row.at_risk.asset, Fraction(0)) + Fraction(row.at_risk.amount)
    return {asset: plain(amount) for asset, amount in sorted(sums.items())}
