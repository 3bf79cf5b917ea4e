"""Reference data: what instruments mean, and the arithmetic of their values.

A definition is immutable and named by its digest; facts carry the digest they were written under. When two definitions
of one name meet, the first in canonical order stands and facts under the other are suspended, never reinterpreted.

Values are exact integers. Linear: qty * price, with the contract size (a constant of the cell) multiplied in when the
figure is shown, at price + qty + contract decimals. Inverse: qty * contract size / price, rounded half-even to the
settlement asset's decimals, fill by fill, because that is what a venue books.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from crdtledger.errors import BadInput
from crdtledger.ledger.facts import MAX_AMOUNT, PPM, Instrument
from crdtledger.ledger.genesis import MAX_DECIMALS, NAME, Genesis
from crdtledger.ledger.identity import digest
from crdtledger.ledger.wide import Limbs, from_ints, from_product

INSTRUMENT_DIGEST_BYTES = 16
MAX_HEIGHTS = 1_000_000
"""The most heights between two auctions, or for revealing."""
MAX_VALUE = 1 << 126
"""No single fill is worth more than this, in minor units."""


class InstrumentKey(NamedTuple):
    """One definition of one name."""

    name: str
    digest: bytes


class MarkEntry(NamedTuple):
    """A mark, ordered so that the greatest stands."""

    ts_us: int
    sequence: int
    price: int
    instrument: InstrumentKey


def instrument_digest(instrument: Instrument) -> bytes:
    """The 16 bytes that name exactly this definition: a digest of what it says beyond the defaults."""
    # As plain data: of a struct with more than 15 fields msgpack writes a longer head, however many are left out.
    said = msgspec.msgpack.encode(msgspec.to_builtins(instrument))
    return digest("instrument", said)[:INSTRUMENT_DIGEST_BYTES]


def instrument_fault(instrument: Instrument) -> str | None:
    """Why this definition cannot stand, or None."""
    for field in ("name", "base", "quote", "settlement"):
        if not NAME.fullmatch(getattr(instrument, field)):
            return f"{field}: 1 to 64 letters, digits or . _ : / + -"
    for field in ("price_decimals", "qty_decimals", "contract_decimals"):
        if not 0 <= getattr(instrument, field) <= MAX_DECIMALS:
            return f"{field}: 0 to {MAX_DECIMALS}"
    if not 1 <= instrument.contract_size <= MAX_AMOUNT:
        return "contract_size: a positive integer of 10**-contract_decimals"
    if instrument.type == "spot" and (
        instrument.inverse or instrument.contract_size != 10**instrument.contract_decimals
    ):
        return "a spot instrument is linear with contract size 1"
    dated = instrument.type in ("future", "option")
    if dated != (instrument.expiry_us is not None):
        return "expiry_us: futures and options have one, others have none"
    if instrument.expiry_us is not None and not 0 <= instrument.expiry_us <= MAX_AMOUNT:
        return "expiry_us: microseconds since the Unix epoch"
    if (instrument.type == "option") != (instrument.strike is not None and instrument.option is not None):
        return "strike and option: options have both, others have neither"
    if instrument.type != "option" and (instrument.strike is not None or instrument.option is not None):
        return "strike and option: options have both, others have neither"
    if instrument.strike is not None and not -MAX_AMOUNT <= instrument.strike <= MAX_AMOUNT:
        return "strike: out of range"
    return _trading_fault(instrument)


def _trading_fault(instrument: Instrument) -> str | None:
    for field in ("margin_ppm", "maker_fee_ppm", "taker_fee_ppm"):
        if not 0 <= getattr(instrument, field) <= PPM:
            return f"{field}: 0 to {PPM}"
    if not 1 <= instrument.auction_every <= MAX_HEIGHTS:
        return f"auction_every: 1 to {MAX_HEIGHTS} heights"
    if not 0 <= instrument.reveal_window <= MAX_HEIGHTS:
        return f"reveal_window: 0 to {MAX_HEIGHTS} heights"
    if instrument.mode == "continuous" and (instrument.auction_every, instrument.reveal_window) != (1, 0):
        return "auction_every and reveal_window: for instruments with the mode auction"
    return None


def check_instrument(instrument: Instrument, genesis: Genesis, where: str = "instrument") -> None:
    """Raise ``BadInput`` unless the definition can stand in this cluster."""
    fault = instrument_fault(instrument)
    if fault is None and instrument.settlement not in genesis.asset_decimals:
        known = ", ".join(genesis.asset_decimals)
        fault = f"settlement: {instrument.settlement!r} is no asset of this cluster ({known})"
    tolerated = (sum("validator" in member.roles for member in genesis.nodes) - 1) // 3
    if fault is None and 0 < instrument.reveal_window <= tolerated:
        fault = (
            f"reveal_window: more than {tolerated}, or the proposers in a row who keep a reveal out may all be faulty"
        )
    if fault is not None:
        raise BadInput(what=f"instrument {instrument.name!r}", where=where, why=fault)


def value_decimals(instrument: Instrument, genesis: Genesis) -> int:
    """Decimals of the instrument's values: price + qty + contract (linear), the settlement asset's (inverse)."""
    if instrument.inverse:
        return genesis.asset_decimals[instrument.settlement]
    return instrument.price_decimals + instrument.qty_decimals + instrument.contract_decimals


def value_factor(instrument: Instrument) -> int:
    """What a cell's accumulated value is multiplied by when shown."""
    return 1 if instrument.inverse else instrument.contract_size


def fold_values(
    instrument: Instrument, qty: npt.NDArray[np.int64], price: npt.NDArray[np.int64], genesis: Genesis
) -> tuple[Limbs, npt.NDArray[np.bool_]]:
    """What each fill adds to its cell's value, as wide columns of shape (n, limbs), and which rows are valid.

    Linear rows are qty * price and always valid. Inverse rows need a positive price and a value below ``MAX_VALUE``.
    """
    if not instrument.inverse:
        return from_product(qty, price), np.ones(len(qty), np.bool_)
    exponent = (
        genesis.asset_decimals[instrument.settlement]
        + instrument.price_decimals
        - instrument.qty_decimals
        - instrument.contract_decimals
    )
    multiplier = instrument.contract_size * 10 ** max(exponent, 0)
    divisor = 10 ** max(-exponent, 0)
    valid = price > 0
    top_qty, top_price = int(qty.max(initial=1)), int(price.max(initial=1))
    if top_qty * multiplier < 1 << 62 and top_price * divisor < 1 << 61:
        numerator = qty * multiplier
        denominator = np.where(valid, price, 1) * divisor
        return from_product(_divide_half_even(numerator, denominator), np.ones_like(qty)), valid
    values = [
        divide_half_even(q * multiplier, p * divisor) if p > 0 else 0
        for q, p in zip(qty.tolist(), price.tolist(), strict=True)
    ]
    valid &= np.fromiter((value < MAX_VALUE for value in values), np.bool_, len(values))
    return from_ints([value if ok else 0 for value, ok in zip(values, valid.tolist(), strict=True)]), valid


def divide_half_even(numerator: int, denominator: int) -> int:
    """``numerator / denominator`` for a positive denominator, rounded to the nearest integer, ties to the even one."""
    quotient, rest = divmod(numerator, denominator)
    if 2 * rest > denominator or (2 * rest == denominator and quotient & 1):
        quotient += 1
    return quotient


def _divide_half_even(numerator: npt.NDArray[np.int64], denominator: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    quotient = numerator // denominator
    rest = numerator - quotient * denominator
    twice = 2 * rest  # no overflow: rest < denominator < 2**61
    up = (twice > denominator) | ((twice == denominator) & (quotient & 1 == 1))
    rounded: npt.NDArray[np.int64] = quotient + up
    return rounded
