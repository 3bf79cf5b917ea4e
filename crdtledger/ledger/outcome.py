"""What ``Replica.admit`` answers: one plain value for each thing that can become of a batch.

Nothing here decides; the rules are the replica's. Callers match on the type, and no answer is an exception: hostile bytes get
one of these too.
"""

from __future__ import annotations

import msgspec

from crdtledger.ledger.batch import Batch, ForkEvidence


class Name(msgspec.Struct, frozen=True, array_like=True):
    """Names one batch. An empty hash means: whichever stands there."""

    lane: bytes
    seq: int
    hash: bytes = b""


class Applied(msgspec.Struct, frozen=True):
    """The batch is in, and so are others that were waiting for it; in the order in which they were applied."""

    batches: tuple[Batch, ...]


class Duplicate(msgspec.Struct, frozen=True):
    """The replica holds this very batch."""


class Settled(msgspec.Struct, frozen=True):
    """The batch's place is at or below the base: a checkpoint has decided already what stands there."""


class Pending(msgspec.Struct, frozen=True):
    """The batch is sound but what it stands on is missing; with no names, its base is. ``kept``: the replica remembers it."""

    missing: tuple[Name, ...]
    kept: bool


class Forked(msgspec.Struct, frozen=True):
    """The batch's lane is forked at or below it; ``new`` says whether this arrival proved it. ``batches``: what had waited
    for something beyond the fork and was applied now."""

    evidence: ForkEvidence
    new: bool
    batches: tuple[Batch, ...] = ()


class Rejected(msgspec.Struct, frozen=True):
    """The bytes do not hold. Nothing was applied."""

    reason: str


Outcome = Applied | Duplicate | Settled | Pending | Forked | Rejected


class Missing(msgspec.Struct, frozen=True):
    """The answer of ``Replica.collect`` when a cut cannot be settled yet: the highest batch of each lane that is not held."""

    names: tuple[Name, ...]
