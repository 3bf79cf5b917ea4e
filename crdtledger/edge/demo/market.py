"""A made-up market: three venues that trade around one price. Pure: a seed gives the same columns, always.

The price is a random walk in proportion to itself; every venue trades near it, at times of its own, in sizes that are
lognormal as real ones roughly are. The venues are a spot market, a linear and an inverse perpetual, because those are
the three ways in which a trade's value is reckoned. What it is not: a model of a market that anybody should trade on.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from crdtledger.edge.demo.feeds import Feed
from crdtledger.edge.importers import account_name
from crdtledger.ledger.drafting import FillColumns
from crdtledger.ledger.facts import Instrument

ASSET_DECIMALS: Final = 8
START_US: Final = 1_723_161_254_000_000
START_PRICE: Final = 61_800.0
STEP: Final = 0.000_04
"""Relative size of one step of the walk."""
FEE_PER_MILLION: Final = 400
MAX_SIZE: Final = 1_000_000
"""In units of the quantity; keeps the made-up fees within 64 bits."""

Integers = npt.NDArray[np.int64]


class _Venue(NamedTuple):
    name: str
    instrument: Instrument
    weight: int
    median_size: float  # in units of the quantity
    first_id: int


def _instrument(name: str, **terms: object) -> Instrument:
    return Instrument(name=name, base="BTC", **terms)  # type: ignore[arg-type]


SPOT: Final = _instrument("BTC-USDT", type="spot", quote="USDT", settlement="USDT", price_decimals=2, qty_decimals=5)
LINEAR: Final = _instrument(
    "BTC-USDT-PERP", type="perp", quote="USDT", settlement="USDT", price_decimals=1, qty_decimals=3
)
INVERSE: Final = _instrument(
    "BTC-USD-PERP",
    type="perp",
    quote="USD",
    settlement="BTC",
    price_decimals=1,
    qty_decimals=0,
    inverse=True,
    contract_size=100,
)

VENUES: Final = (
    _Venue("amber", SPOT, 3, 0.012, 3_735_000_000),
    _Venue("basalt", LINEAR, 5, 0.04, 5_266_000_000),
    _Venue("cobalt", INVERSE, 2, 12.0, 849_000_000),
)


def generate(seed: int, facts: int, accounts: int) -> list[Feed]:
    """``facts`` trades in all, for accounts ``A000`` ... by their ids. At least one per venue."""
    generator = np.random.default_rng(seed)
    count = max(facts, len(VENUES))
    steps = generator.standard_normal(count) * STEP
    walk = START_PRICE * np.exp(np.cumsum(steps))
    times = START_US + np.cumsum(generator.exponential(10_000.0, count)).astype(np.int64)
    weights = np.array([venue.weight for venue in VENUES], float)
    which = generator.choice(len(VENUES), count, p=weights / weights.sum())
    which[: len(VENUES)] = np.arange(len(VENUES))
    return [
        _feed(venue, generator, walk[which == number], times[which == number], accounts)
        for number, venue in enumerate(VENUES)
    ]


def _feed(
    venue: _Venue,
    generator: np.random.Generator,
    walk: npt.NDArray[np.float64],
    times: Integers,
    accounts: int,
) -> Feed:
    instrument = venue.instrument
    count = len(walk)
    near = walk * (1 + generator.standard_normal(count) * STEP)
    price = np.maximum(1, np.rint(near * 10**instrument.price_decimals)).astype(np.int64)
    sizes = generator.lognormal(np.log(venue.median_size), 1.3, count) * 10**instrument.qty_decimals
    qty = np.clip(np.rint(sizes), 1, MAX_SIZE).astype(np.int64)
    side = np.where(generator.random(count) < 0.5, 1, -1).astype(np.int8)
    ids = np.arange(count, dtype=np.uint64) + np.uint64(venue.first_id)
    fills = FillColumns(
        venue=venue.name,
        instrument=instrument.name,
        trade_id=ids,
        price=price,
        qty=qty,
        side=side,
        account=(ids % np.uint64(accounts)).astype(np.int64),
        accounts=[account_name(number) for number in range(accounts)],
        ts_us=times,
        fee=_fees(instrument, price, qty),
    )
    return Feed(instrument, fills)


def _fees(instrument: Instrument, price: Integers, qty: Integers) -> Integers:
    """The taker's fee in minor units of the settlement asset, rounded down."""
    if instrument.inverse:
        unit = instrument.contract_size * 10 ** (ASSET_DECIMALS + instrument.price_decimals)
        fee: Integers = np.floor_divide(qty * unit, price) * FEE_PER_MILLION // 1_000_000
        return fee
    scale: int = 10 ** (ASSET_DECIMALS - instrument.price_decimals - instrument.qty_decimals)
    return qty * price * FEE_PER_MILLION // 1_000_000 * scale
