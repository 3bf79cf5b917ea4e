"""What a node core takes and gives beside ``gossip.effects``: clients' requests come in, work on files goes out.

Effects that name a position (``after``) wait, like a ``Send``, until everything up to it is durable.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from crdtledger.ledger.journalrecord import Prune
from gossip import effects as gossiped
from gossip.protocol import AppReceived
from reconcile.stores import StoredCheckpoint


class ClientRequest(msgspec.Struct, frozen=True):
    """A client asks. ``request`` is whatever the driver needs to route the reply; ``body`` is an ``edge.api`` request."""

    request: Any
    body: bytes | memoryview


class StoreCheckpoint(msgspec.Struct, frozen=True):
    """Append a certified checkpoint to the store of checkpoints. They come in order of height; after a restart some come again."""

    stored: StoredCheckpoint
    after: int


class PruneJournal(msgspec.Struct, frozen=True):
    """Let go of journal records that a snapshot stands for."""

    what: Prune
    after: int


Event: TypeAlias = gossiped.Event | ClientRequest
Effect: TypeAlias = gossiped.Effect | StoreCheckpoint | PruneJournal
Output: TypeAlias = Effect | AppReceived
"""What the parts of a core answer with; the core itself takes the messages among them."""
