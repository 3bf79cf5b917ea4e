"""SHA-256 of many messages of one length, in an array and out of one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from hashlib import sha256
from typing import Final

import numpy as np
import numpy.typing as npt

from crdtledger.ledger.identity import hash_each

Bytes = npt.NDArray[np.uint8]
HASH_BYTES = 32
_NOTHING: Final = sha256()


def row_hashes(messages: Bytes) -> Bytes:
    """The hash of every row: shape (n, 32)."""
    return _hashed(_NOTHING, messages)


def tagged_hashes(tag: int, *columns: Bytes) -> Bytes:
    """The hash of every row of these side by side, behind the byte ``tag``."""
    return _hashed(sha256(bytes((tag,))), np.concatenate(columns, axis=1))


def _hashed(begun: hashlib._Hash, messages: Bytes) -> Bytes:
    """The hash of every row, behind what is hashed already."""
    return digest_rows(
        hash_each(begun, np.ascontiguousarray(messages).view(f"V{messages.shape[1]}").reshape(-1).tolist())
    )


def digest_rows(digests: Iterable[bytes]) -> Bytes:
    """Digests of 32 bytes as rows."""
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, HASH_BYTES)
