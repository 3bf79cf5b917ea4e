"""A market from a seed: prices that wander, fills of accounts and marks along the way. Same seed, same market, to the last unit.

    market = Market(seed=7)
    ledger.record(*market.names())
    ledger.record(*market.fills(100))

Prices are whole ticks: a walk whose steps are some parts per million of the price, now and then a jump. Nothing is meant by it but that
figures are of the size of real ones, that ids do not repeat, and that times ascend.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from random import Random
from typing import Final

import msgspec
import numpy as np

from crdtledger.ledger.drafting import FillColumns
from crdtledger.ledger.facts import Account, Fact, Fill, Instrument, Mark
from crdtledger.testing.reference import ACCOUNTS, instruments

STARTS: Final = {"SPOT": 6_183_763, "PERP": 6_184_210, "COIN": 618_400}
TAKER_FEE_PPM: Final = 400


class Market(msgspec.Struct, frozen=True):
    """Several ``instruments`` traded by ``accounts`` at ``venue``, a trade every ``pause_us`` on average. ``volatility_ppm``: the mean
    size of a step of a price; ``jump_ppm``: how often it is a hundred times that. ``starts``: first prices, in ticks."""

    seed: int = 0
    instruments: tuple[Instrument, ...] = instruments()
    accounts: tuple[str, ...] = ACCOUNTS
    venue: str = "V"
    volatility_ppm: int = 80
    jump_ppm: int = 2_000
    pause_us: int = 250_000
    starts: dict[str, int] = msgspec.field(default_factory=lambda: dict(STARTS))

    def names(self) -> list[Fact]:
        """Accounts and instruments: record them first."""
        return [*(Account(name=name) for name in self.accounts), *self.instruments]

    def stream(self) -> Iterator[Fill | Mark]:
        """Fills without end; every tenth is followed by a mark at its price."""
        draw = Random(f"market {self.seed}")
        prices = {one.name: self.starts.get(one.name, 100_000) for one in self.instruments}
        now_us = 0
        for number in itertools.count(1):
            now_us += 1 + int(draw.expovariate(1 / self.pause_us))
            instrument = draw.choice(self.instruments)
            price = prices[instrument.name] = self._moved(prices[instrument.name], draw)
            qty = draw.randint(1, 9) * 10 ** draw.randint(0, max(0, instrument.qty_decimals - 1))
            yield Fill(
                venue=self.venue,
                trade_id=number,
                instrument=instrument.name,
                account=draw.choice(self.accounts),
                side=draw.choice(("buy", "sell")),
                qty=qty,
                price=price,
                fee=draw.randint(0, TAKER_FEE_PPM),
                ts_us=now_us,
            )
            if number % 10 == 0:
                yield Mark(
                    instrument=instrument.name, price=price, ts_us=now_us, source=self.venue, sequence=number // 10
                )

    def fills(self, count: int) -> list[Fill]:
        """The first fills."""
        return list(itertools.islice((one for one in self.stream() if isinstance(one, Fill)), count))

    def marks(self, count: int) -> list[Mark]:
        """The first marks."""
        return list(itertools.islice((one for one in self.stream() if isinstance(one, Mark)), count))

    def prices(self, instrument: str, count: int) -> list[int]:
        """The first prices of an instrument, in ticks."""
        found = (one.price for one in self.stream() if isinstance(one, Fill) and one.instrument == instrument)
        return list(itertools.islice(found, count))

    def columns(self, instrument: str, count: int) -> FillColumns:
        """The first fills of an instrument as an importer hands them over."""
        mine = (one for one in self.stream() if isinstance(one, Fill) and one.instrument == instrument)
        told = list(itertools.islice(mine, count))
        return FillColumns(
            venue=self.venue,
            instrument=instrument,
            trade_id=np.array([fill.trade_id for fill in told], np.uint64),
            price=np.array([fill.price for fill in told], np.int64),
            qty=np.array([fill.qty for fill in told], np.int64),
            side=np.array([1 if fill.side == "buy" else -1 for fill in told], np.int8),
            account=np.array([self.accounts.index(fill.account) for fill in told], np.int64),
            accounts=self.accounts,
            ts_us=np.array([fill.ts_us for fill in told], np.int64),
            fee=np.array([fill.fee for fill in told], np.int64),
        )

    def _moved(self, price: int, draw: Random) -> int:
        ppm = draw.gauss(0, self.volatility_ppm) * (100 if draw.randrange(1_000_000) < self.jump_ppm else 1)
        return max(1, price + round(price * ppm / 1_000_000))
