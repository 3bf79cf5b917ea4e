"""What gossip needs of the thing it replicates: a small protocol, and the words both sides share.

A *lane* is an append-only chain with exactly one writer, named by opaque bytes. A *batch* is an opaque element
of a lane, named by ``(lane, seq, hash)`` with ``seq`` counting 1, 2, 3 ... Gossip moves batches and compares
heads; what a batch means, whether its signature holds and what it depends on is the replica's business.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec


class Head(msgspec.Struct, frozen=True, array_like=True):
    """The newest batch of a lane: its ``seq`` (0 for an empty lane) and its 32-byte ``hash``."""

    seq: int
    hash: bytes


class BatchName(msgspec.Struct, frozen=True, array_like=True):
    """Names one batch: lane (opaque bytes), seq (from 1), hash (32 bytes)."""

    lane: bytes
    seq: int
    hash: bytes


class Status(enum.Enum):
    """How a replica answered an ``admit``."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    SETTLED = "settled"
    PENDING = "pending"
    FORKED = "forked"
    REJECTED = "rejected"


class Admission(msgspec.Struct, frozen=True):
    """A replica's answer. Never an exception, whatever the bytes.

    ``applied``: the batches that the replica now holds and did not before, in order (an arrival may release
    batches that were waiting for it). ``missing``: for PENDING, what it waits for (a hash of ``b""`` when only
    the seq is known). ``evidence``: for FORKED, transferable proof to be relayed. ``reason``: for REJECTED, what, where and why.
    """

    status: Status
    applied: tuple[BatchName, ...] = ()
    missing: tuple[BatchName, ...] = ()
    evidence: bytes = b""
    reason: str = ""


class Replica(Protocol):
    """The replicated state as gossip sees it. The driver of an engine hands one in; the engine never copies it.

    ``heads`` and ``read`` speak of *durable* batches only: what a crash may still undo is never advertised or served.
    """

    def heads(self) -> Mapping[bytes, Head]:
        """The durable head of every lane held. Must be cheap: it is called for every heads round."""
        ...

    def admitted(self, lane: bytes) -> int:
        """The highest seq of ``lane`` that was admitted (durable or not); 0 for a lane never seen."""
        ...

    def hash_at(self, lane: bytes, seq: int) -> bytes | None:
        """The hash of the batch held at ``(lane, seq)``, or None when it is not held (or pruned)."""
        ...

    def admit(self, raw: bytes, source: str) -> Admission:
        """Take in one batch from peer ``source``."""
        ...

    def read(self, lane: bytes, first: int, last: int, max_bytes: int) -> Sequence[bytes]:
        """Durable batches ``first..last`` (inclusive) in order, stopping before ``max_bytes`` is exceeded but
        returning at least one if the first is held; empty when it is not."""
        ...

    def evidence(self) -> Mapping[bytes, bytes]:
        """Every piece of evidence held, by its 32-byte digest."""
        ...

    def admit_evidence(self, raw: bytes, source: str) -> Admission:
        """Take in evidence from peer ``source``: APPLIED (new and true), DUPLICATE, or REJECTED with the reason."""
        ...
