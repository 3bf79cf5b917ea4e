"""Which members a node is linked to: all of them in a small cluster, an overlay of them in a large one (``gossip.overlay``).

The genesis decides, so that both ends of a link agree on it without asking. Validators are linked to each other besides, as long as
they are no more than a full mesh holds: agreement speaks to all validators directly.
"""

from __future__ import annotations

from crdtledger.ledger.genesis import Genesis
from gossip.overlay import FULL_MESH, Place, places


def overlay(genesis: Genesis) -> dict[str, Place] | None:
    """name -> its place, for every member; None when all are linked to all."""
    validators = [member.name for member in genesis.nodes if "validator" in member.roles]
    core = validators if len(validators) <= FULL_MESH else ()
    return places([member.name for member in genesis.nodes], genesis.hash, core)
