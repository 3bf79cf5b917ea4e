"""Markets (``crdtledger.testing.market``) by seed, over some of the instruments of a genesis."""

from __future__ import annotations

from hypothesis import strategies as st

from crdtledger.ledger.genesis import Genesis
from crdtledger.testing.drawing import pick
from crdtledger.testing.market import Market
from crdtledger.testing.reference import GENESIS, instruments


def markets(genesis: Genesis = GENESIS) -> st.SearchStrategy[Market]:
    """A market in spot, perpetual and inverse, or some of them; calm or wild."""
    listed = st.lists(pick(instruments(genesis)), min_size=1, max_size=3, unique_by=lambda one: one.name)
    return st.builds(
        Market,
        seed=st.integers(0, 2**32 - 1),
        instruments=listed.map(tuple),
        volatility_ppm=pick((80, 0, 5_000)),
        pause_us=pick((250_000, 1_000, 60_000_000)),
    )
