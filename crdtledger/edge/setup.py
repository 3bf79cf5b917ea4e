"""What a node core is built from: the outside world's part in it, all of it plain values and two functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from crdtledger.edge.adapter import JournaledBatches, none_journaled
from crdtledger.ledger.batch import Batch, open_batch
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.identity import Identity
from crdtledger.ledger.retention import JOURNAL_BYTES
from crdtledger.ledger.rightsmanager import RightsPolicy
from crdtledger.ledger.shelf import SHELF_HEIGHTS
from crdtledger.matching.sharing import SharePolicy
from gossip.config import Config
from gossip.overlay import Place
from reconcile.agreement import Timeouts
from reconcile.salts import Salts
from reconcile.stores import StoredCheckpoint

JUMP_HEIGHTS = 32
"""From so many heights behind on, real nodes take the state: up to there, two answers bring all certificates, and peers have the batches in
memory (``SHELF_HEIGHTS`` is twice as many)."""

Completeness = Literal["fresh", "complete", "restored"]


Archive = Callable[[int], StoredCheckpoint | None]
"""What the store of checkpoints has of a height. One at a time: nobody knows before how much a height weighs."""


def no_archive(height: int) -> StoredCheckpoint | None:
    """The archive of a node that keeps none."""
    return None


class Setup(msgspec.Struct, frozen=True):
    """``draw(n)`` gives n random bytes. ``completeness`` is the journal's verdict on itself and ``reason`` its words; ``gossip`` may
    be tuned, its cluster is always the genesis'. ``documents``: keep a pycrdt document per lane up to date at all times.

    ``rights`` and ``sharing`` say how much of rights and of orders goes to whom ahead of need.

    ``salts``: the cluster's secret for salts, without which this node takes no part in checkpoints. ``archive(height)`` reads
    the store of checkpoints. It is where old certificates are served from, so that
    neither memory nor journal has to keep them. ``journaled`` reads settled batches from the journal, for peers that are further
    behind than ``shelf_heights`` in memory; ``journal_bytes``: what the journal keeps of them.

    ``jump_heights``: so many heights behind, this node asks for a settled state (``jumping``); 0: never.

    ``place``: which members this node is linked to, where not all are to all (``edge.links``). ``opened`` opens and checks a
    batch that came in. It is ``open_batch`` in every real node; a simulation of thousands may check each batch once for all of them.
    """

    genesis: Genesis
    identity: Identity
    name: str
    draw: Callable[[int], bytes]
    completeness: Completeness = "complete"
    reason: str = ""
    gossip: Config | None = None
    rights: RightsPolicy | None = None
    sharing: SharePolicy = SharePolicy()
    documents: bool = True
    salts: Salts | None = None
    timeouts: Timeouts | None = None
    archive: Archive = no_archive
    jump_heights: int = 0
    journaled: JournaledBatches = none_journaled
    shelf_heights: int = SHELF_HEIGHTS
    journal_bytes: int = JOURNAL_BYTES
    place: Place | None = None
    opened: Callable[[bytes, Genesis], Batch] = open_batch
