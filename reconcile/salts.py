"""Salts: what keeps a commitment from being guessed, made again by whoever knows the cluster's secret.

Every node must compute the same roots, so salts are not drawn but derived: a keyed BLAKE2b (RFC 7693) of a secret that
the nodes of a cluster share. The secret has a version, which stands in the state, so that it can be replaced.

The salt of a cell covers its value too. A salt of the name alone would be the same at every height, and whoever was
once shown a proof could test guesses about all later values of that cell.

The secret protects privacy only. Whoever learns it can guess at values under a root; nobody can change what a root says.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

from crdtledger.errors import BadInput
from crdtledger.ledger.identity import hash_each

SALT_BYTES: Final = 32
SECRET_BYTES: Final = 32


class Salts(msgspec.Struct, frozen=True):
    """A source of salts: the ``secret`` (32 bytes) and its ``version`` (from 1)."""

    version: int
    secret: bytes

    def __post_init__(self) -> None:
        if len(self.secret) != SECRET_BYTES or not 0 < self.version < 2**32:
            raise BadInput(
                what=f"secret version {self.version} of {len(self.secret)} bytes",
                where="salts",
                why=f"a secret has {SECRET_BYTES} bytes and a version from 1",
            )

    def __repr__(self) -> str:
        return f"Salts(version={self.version})"

    def of(self, purpose: bytes, key: bytes, value: bytes = b"") -> bytes:
        """The 32-byte salt of ``value`` under ``key`` (32 bytes). ``purpose`` (at most 16 bytes) keeps trees apart."""
        (salt,) = self.of_each(purpose, [(key, value)])
        return salt

    def of_each(self, purpose: bytes, told: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
        """The salts of many, each told as (key, value)."""
        return hash_each(_keyed(self, purpose), [key + value for key, value in told])


@functools.lru_cache(8)
def _keyed(salts: Salts, purpose: bytes) -> hashlib.blake2b:
    """The hash after what all salts of a purpose begin with; to be copied, never updated."""
    state = hashlib.blake2b(key=salts.secret, digest_size=SALT_BYTES, person=purpose)
    state.update(salts.version.to_bytes(4, "big"))
    return state
