"""The frontier: lane -> (seq, head hash). Exactly what a replica holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from crdtledger.ledger.identity import digest


class LaneHead(msgspec.Struct, frozen=True, array_like=True):
    """The newest batch of a lane. ``fork_seq`` is where the lane is known to fork (it ends before), 0 for an honest lane."""

    seq: int
    hash: bytes
    fork_seq: int = 0


Frontier: TypeAlias = Mapping[bytes, LaneHead]


def frontier_digest(frontier: Frontier) -> bytes:
    """32 bytes that are equal exactly for equal frontiers."""
    rows = sorted((lane, head.seq, head.hash, head.fork_seq) for lane, head in frontier.items())
    return digest("frontier", msgspec.msgpack.encode(rows))
