"""SHA-256 of many messages of one length, in an array and out of one."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
HASH_BYTES = 32


def row_hashes(messages: Bytes) -> Bytes:
    """The hash of every row: shape (n, 32)."""
    width = messages.shape[1]
    raw = messages.tobytes()
    return digest_rows([sha256(raw[at : at + width]).digest() for at in range(0, len(raw), width)])


def tagged_hashes(tag: int, *columns: Bytes) -> Bytes:
    """The hash of every row of these side by side, behind the byte ``tag``."""
    tags = np.full((len(columns[0]), 1), tag, np.uint8)
    return row_hashes(np.concatenate([tags, *columns], axis=1))


def digest_rows(digests: Iterable[bytes]) -> Bytes:
    """Digests of 32 bytes as rows."""
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, HASH_BYTES)
