"""Which cluster: drawn geneses.

A node's key follows from its name (``edge.simulate.cluster.identity``), so whoever has a drawn genesis can sign for its nodes. No real
cluster may be founded so.
"""

from __future__ import annotations

from typing import Any, Final

from hypothesis import strategies as st

from crdtledger.edge.simulate.cluster import identity
from crdtledger.ledger.genesis import Asset, Authority, Custodian, Genesis, Member, Policies, check
from crdtledger.testing.drawing import pick

ASSETS: Final = (("USDT", 2), ("BTC", 8), ("USDT", 6), ("ETH", 18), ("JPY", 0), ("USDC", 6))


@st.composite
def geneses(draw: Any, min_nodes: int = 1, max_nodes: int = 5) -> Genesis:
    """A checked genesis of ``min_nodes`` to ``max_nodes`` nodes called n0, n1 ..., with one to three assets and any policies."""
    names = tuple(f"n{at}" for at in range(draw(st.integers(min_nodes, max_nodes))))
    members = tuple(
        Member(name, identity(name).public_key.hex(), f"{at:040d}", f"inproc://{name}") for at, name in enumerate(names)
    )
    listed = draw(st.lists(pick(ASSETS), min_size=1, max_size=3, unique_by=lambda asset: asset[0]))
    assets = tuple(Asset(*one) for one in listed)
    nonce = f"{draw(st.integers(0, 255)):032x}"
    genesis = Genesis("drawn", nonce, members, assets, draw(policies(names, tuple(asset.name for asset in assets))))
    check(genesis)
    return genesis


def policies(nodes: tuple[str, ...], assets: tuple[str, ...]) -> st.SearchStrategy[Policies]:
    """Any policies among these nodes and assets. Who may record for some accounts only may record for A."""
    custodians = st.builds(Custodian, node=pick(nodes), account=pick(("*", "A", "B")), asset=pick(("*", *assets)))
    authorities = st.builds(Authority, node=pick(nodes), accounts=pick((("*",), ("A",), ("A", "C*"))))
    return st.builds(
        Policies,
        grant_finality=pick(("immediate", "settled")),
        withdrawal=pick(("settled", "rights")),
        grant_share_ppm=pick((500_000, 0, 1_000_000)),
        agreement=pick(("none", "tendermint")),
        authorities=st.lists(authorities, max_size=2).map(tuple),
        custodians=st.lists(custodians, max_size=2).map(tuple),
    )
