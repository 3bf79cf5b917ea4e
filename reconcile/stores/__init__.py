"""Where checkpoints are kept: one operation that writes, compare-and-append, and reading.

``append`` succeeds when the height is the next one and names as its predecessor what stands there; or when this very checkpoint
stands at its height already, which changes nothing. Everything else is a ``StoreConflict``: a store holds one history.

A store is told things and believes none: what comes out of it is judged by ``reconcile.history``, from the genesis alone.
It is no journal either: a node's promises do not depend on it, and a lost store is filled again from peers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import msgspec

from crdtledger.errors import OperatorError
from reconcile.checkpoint import decode_checkpoint


class StoredCheckpoint(msgspec.Struct, frozen=True):
    """One height as a store keeps it.

    ``digest`` and ``previous`` (32 bytes each) name this checkpoint and the one before, ``body`` is ``Checkpoint.encode()``,
    ``adjustments`` what settling the height did (``reconcile.adjustments``), ``certificate`` a certificate of the log of exactly
    ``height`` leaves. ``decided_us``: when this node learnt of it, by its own clock; nobody certifies that.
    """

    height: int
    digest: bytes
    previous: bytes
    body: bytes
    adjustments: bytes
    certificate: bytes
    decided_us: int

    def checksum(self) -> bytes:
        """16 bytes over all of it, against decay; whoever means harm can compute it too."""
        return hashlib.blake2b(msgspec.msgpack.encode(msgspec.structs.astuple(self)), digest_size=16).digest()


class StoreConflict(OperatorError):
    """What is to be appended does not continue what the store at ``path`` holds. Nothing was written."""

    code = "store_conflict"
    path: str
    height: int
    why: str

    def __init__(self, *, path: str, height: int, why: str) -> None:
        super().__init__(path=path, height=height, why=why)

    def describe(self) -> str:
        return f"{self.path}: checkpoint {self.height} cannot be appended: {self.why}"


class StoreUnusable(OperatorError):
    """The file at ``path`` is no checkpoint store of this format, or cannot be opened."""

    code = "store_unusable"
    path: str
    why: str

    def __init__(self, *, path: str, why: str) -> None:
        super().__init__(path=path, why=why)

    def describe(self) -> str:
        return f"{self.path}: {self.why}"


class CheckpointStore(Protocol):
    """What every kind of store does."""

    def last(self) -> StoredCheckpoint | None:
        """The newest checkpoint; None when there is none."""

    def append(self, stored: StoredCheckpoint) -> bool:
        """Whether ``stored`` is new; False when its digest stands at its height already. Raises StoreConflict otherwise."""

    def read(self, first: int, limit: int) -> Sequence[StoredCheckpoint]:
        """Up to ``limit`` checkpoints in order of height, from height ``first`` on."""


def stored_checkpoint(value: bytes, adjustments: bytes, certificate: bytes, decided_us: int) -> StoredCheckpoint:
    """What a store keeps of the checkpoint that ``value`` encodes. Raises InvalidProof when it encodes none."""
    checkpoint = decode_checkpoint(value)
    previous = checkpoint.record.previous
    return StoredCheckpoint(checkpoint.height, checkpoint.digest, previous, value, adjustments, certificate, decided_us)
