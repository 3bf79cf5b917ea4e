"""What drawn facts speak of: the genesis that is used where none is named, three accounts, and a few instruments of any genesis.

PERP and COIN are, under that genesis, the instruments of simulated clusters (``edge.simulate.writing``), to the last digit.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from crdtledger.edge.simulate.cluster import found
from crdtledger.ledger.facts import Account, Fact, Instrument
from crdtledger.ledger.genesis import Genesis

GENESIS: Final = found()
"""The genesis of a simulated cluster that was given no other: nodes n0 to n3; USDT with 2 decimals, BTC with 8."""
ACCOUNTS: Final = ("A", "B", "C")


def instruments(genesis: Genesis = GENESIS) -> tuple[Instrument, Instrument, Instrument]:
    """SPOT, PERP (linear), COIN (inverse): of the last asset, against the first."""
    quote, base = genesis.assets[0].name, genesis.assets[-1].name
    spot: dict[str, Any] = {"base": base, "quote": quote, "settlement": quote, "price_decimals": 2}
    coin: dict[str, Any] = {"base": base, "quote": "USD", "settlement": base, "price_decimals": 1, "qty_decimals": 0}
    return (
        Instrument(name="SPOT", type="spot", qty_decimals=8, **spot),
        Instrument(name="PERP", type="perp", qty_decimals=3, **spot),
        Instrument(name="COIN", type="perp", inverse=True, contract_size=100, **coin),
    )


def auctioned(genesis: Genesis = GENESIS) -> Instrument:
    """CALL: PERP, but in call auctions. Hidden orders are for it."""
    _, perp, _ = instruments(genesis)
    return msgspec.structs.replace(perp, name="CALL", mode="auction", auction_every=2)


def names(genesis: Genesis = GENESIS) -> list[Fact]:
    """The accounts and instruments that drawn facts speak of: record them first."""
    return [*(Account(name=name) for name in ACCOUNTS), *instruments(genesis), auctioned(genesis)]


def reserve_id(account: str, asset: str) -> str:
    """What the reserve is called that drawn orders of an account draw an asset from."""
    return f"{account}/{asset}"
