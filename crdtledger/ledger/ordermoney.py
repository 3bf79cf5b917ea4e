"""What orders cost: values of matches, and what they draw out of the reserve that an order names.

Whole numbers throughout, and every amount that is drawn is rounded up. It is rounded once for all matches of an order: a *tally* adds up
exact values, what has been *drawn* is taken off what the tally comes to, rounded up. So an order that trades in a thousand parts draws no
more than one that trades at once, and a reserve that suffices for it suffices.

    value    linear: quantity * price * contract size, exact. Inverse: quantity * contract size / price, rounded up to ``FINE`` more
             decimals than the settlement asset has
    cash     spot and options: who buys pays the value. Spot: who sells gives the base asset
    margin   perpetuals and futures: ``margin_ppm`` of the value of what opens a position. Options: of the strike's value (the premium's,
             if that is more), by who sells to open
    fee      ``maker_fee_ppm`` or ``taker_fee_ppm`` of the value: out of what a seller of spot or options gets, else of the reserve

No order's price is below 1 minor unit, so no value is negative. What a position gains or loses afterwards is settlement's to say.
"""

from __future__ import annotations

from typing import Final

import msgspec

from crdtledger.ledger.facts import PPM, Instrument
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.orderfacts import Terms
from crdtledger.ledger.reference import value_decimals

FINE: Final = 6
"""Decimals that inverse values have beyond those of the settlement asset."""


class Tally(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What matches of one order came to: quantity, value, value weighted with the fees' ppm, and the value of what opened positions."""

    filled: int = 0
    worth: int = 0
    weight: int = 0
    opened: int = 0


class Drawn(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What one order has given for its matches so far, in minor units: cash or base asset, margin, fees."""

    paid: int = 0
    margin: int = 0
    fees: int = 0


NO_TALLY: Final = Tally()
NO_DRAWN: Final = Drawn()


def exact_value(definition: Instrument, genesis: Genesis, qty: int, price: int) -> int:
    """The value of a quantity at a price above 0, in the units of a tally."""
    if not definition.inverse:
        return qty * price * definition.contract_size
    exponent = genesis.asset_decimals[definition.settlement] + definition.price_decimals + FINE
    exponent -= definition.qty_decimals + definition.contract_decimals
    value: int = -(-qty * definition.contract_size * 10 ** max(exponent, 0) // (price * 10 ** max(-exponent, 0)))
    return value


def margin_value(definition: Instrument, genesis: Genesis, qty: int, price: int) -> int:
    """The value that margin is a part of."""
    if definition.type == "option" and definition.strike is not None:
        price = max(definition.strike, price)
    return exact_value(definition, genesis, qty, price)


def minor_units(definition: Instrument, genesis: Genesis, exact: int, parts: int = 1) -> int:
    """``exact / parts`` in minor units of the settlement asset, rounded up."""
    asset = genesis.asset_decimals[definition.settlement]
    decimals = asset + FINE if definition.inverse else value_decimals(definition, genesis)
    amount: int = -(-exact * 10**asset // (parts * 10**decimals))
    return amount


def reserve_asset(definition: Instrument, side: int) -> str:
    """What an order's reserve must be in."""
    return definition.base if definition.type == "spot" and side < 0 else definition.settlement


def tradeable(definition: Instrument, genesis: Genesis) -> str:
    """Why orders for an instrument cannot match in this cluster, or ``""``."""
    if definition.type == "spot" and definition.base not in genesis.asset_decimals:
        return f"its base {definition.base!r} is no asset of this cluster"
    return ""


def fee_of(definition: Instrument, genesis: Genesis, tally: Tally) -> int:
    """The fees of everything in a tally, rounded up. Nothing, where no beneficiary is named."""
    named = isinstance(genesis.policies.beneficiary, str)
    return minor_units(definition, genesis, tally.weight, PPM) if named else 0


def owed(definition: Instrument, genesis: Genesis, side: int, tally: Tally) -> Drawn:
    """What everything in a tally draws out of the order's reserve. The fee of who sells spot or options is not in it."""
    if definition.type == "spot" and side < 0:
        base = genesis.asset_decimals[definition.base]
        given: int = -(-tally.filled * 10**base // 10**definition.qty_decimals)
        return Drawn(paid=given)
    margin = minor_units(definition, genesis, tally.opened * definition.margin_ppm, PPM)
    if definition.type in ("perp", "future"):
        return Drawn(margin=margin, fees=fee_of(definition, genesis, tally))
    if side < 0:
        return Drawn(margin=margin)
    return Drawn(paid=minor_units(definition, genesis, tally.worth), fees=fee_of(definition, genesis, tally))


def grown(
    definition: Instrument, genesis: Genesis, tally: Tally, qty: int, price: int, opens: int, fee_ppm: int
) -> Tally:
    """A tally and a match of ``qty`` at ``price``, ``opens`` of which open a position."""
    value = exact_value(definition, genesis, qty, price)
    opened = margin_value(definition, genesis, opens, price) if opens else 0
    return Tally(tally.filled + qty, tally.worth + value, tally.weight + value * fee_ppm, tally.opened + opened)


def opening(definition: Instrument, terms: Terms, qty: int) -> int:
    """How much of ``qty`` may open a position that takes margin: all of it, unless the order or its side opens none."""
    return 0 if terms.reduce_only or (definition.type == "option" and terms.side > 0) else qty


def grown_at_worst(definition: Instrument, genesis: Genesis, terms: Terms, tally: Tally, qty: int, price: int) -> Tally:
    """A tally and a match of ``qty`` of an order at ``price`` that opens what it may, as a maker or as a taker."""
    dearer = max(definition.maker_fee_ppm, definition.taker_fee_ppm)
    return grown(definition, genesis, tally, qty, price, opening(definition, terms, qty), dearer)


def due(definition: Instrument, genesis: Genesis, side: int, tally: Tally, drawn: Drawn) -> Drawn:
    """What a tally draws out of the order's reserve beyond what was drawn."""
    whole = owed(definition, genesis, side, tally)
    fees = whole.fees - drawn.fees if whole.fees else 0  # a seller's fee was not drawn out of the reserve
    return Drawn(whole.paid - drawn.paid, whole.margin - drawn.margin, fees)


def total(drawn: Drawn) -> int:
    """All that is drawn."""
    return drawn.paid + drawn.margin + drawn.fees


def still_needed(definition: Instrument, genesis: Genesis, terms: Terms, tally: Tally, drawn: Drawn, left: int) -> int:
    """What an order may yet draw out of its reserve if ``left`` of it trades at its worst price, as a maker or as a taker."""
    after = grown_at_worst(definition, genesis, terms, tally, left, terms.price)
    return total(due(definition, genesis, terms.side, after, drawn))
