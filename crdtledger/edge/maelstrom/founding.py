"""The cluster that the nodes of a Maelstrom test found, each by itself, from nothing but their names.

So their keys are no secrets: whoever knows a node's name can sign for it. That is as much trust as Maelstrom's network has.
"""

from __future__ import annotations

from collections.abc import Sequence

from crdtledger.ledger.genesis import Asset, Genesis, Member, check
from crdtledger.ledger.identity import Identity, digest

ASSET = "UNIT"
WHERE = "node_ids"


def identity(name: str) -> Identity:
    """The key of a node."""
    return Identity(digest("maelstrom-key", name.encode()))


def found(names: Sequence[str]) -> Genesis:
    """The genesis of these nodes. Raises BadGenesis for names that nodes of the ledger cannot have."""
    nodes = tuple(
        Member(name, identity(name).public_key.hex(), f"{at:040d}", f"tcp://127.0.0.1:{at % 65_535 + 1}")
        for at, name in enumerate(names)
    )
    genesis = Genesis(cluster="maelstrom", nonce="0" * 32, nodes=nodes, assets=(Asset(ASSET, 0),))
    check(genesis, WHERE)
    return genesis
