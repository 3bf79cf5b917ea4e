"""Who signs: Ed25519 identities, and the one verifier used everywhere.

Implementations of Ed25519 accept different sets of signatures on edge cases (small-order points, non-canonical
encodings), so two honest nodes with two libraries could disagree for ever about one batch. Every signature in this
project is made and checked here, by libsodium through PyNaCl, and nowhere else.

Every signed or hashed thing starts with its own domain string, so that bytes signed for one purpose can never be
presented for another.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable

from nacl.bindings import (
    crypto_sign,
    crypto_sign_BYTES,
    crypto_sign_open,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import BadSignatureError

SIGNATURE_BYTES = crypto_sign_BYTES
KEY_BYTES = 32
SEED_BYTES = 32
DIGEST_BYTES = 32


def digest(domain: str, *parts: bytes | memoryview) -> bytes:
    """SHA-256 over ``crdtledger/<domain>/v1``, a zero byte, and the parts, each preceded by its length (u64 LE)."""
    state = _begun(domain).copy()
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.digest()


def sized(part: bytes) -> bytes:
    """A part as ``digest`` hashes it: behind its length."""
    return len(part).to_bytes(8, "little") + part


def digest_each(domain: str, messages: Iterable[bytes]) -> list[bytes]:
    """``digest`` of many things under one domain, each told as its ``sized`` parts side by side."""
    return hash_each(_begun(domain), messages)


def hash_each(begun: hashlib._Hash | hashlib.blake2b, messages: Iterable[bytes]) -> list[bytes]:
    """The hash of every message, behind what is hashed already. To copy a hash that has begun takes less than to begin one."""
    copy, digests = begun.copy, []
    for message in messages:
        state = copy()
        state.update(message)
        digests.append(state.digest())
    return digests


@functools.lru_cache(256)
def _begun(domain: str) -> hashlib._Hash:
    """The hash after a domain's own bytes; to be copied, never updated. Cells are hashed by the ten thousand under a few domains."""
    return hashlib.sha256(b"crdtledger/" + domain.encode() + b"/v1\x00")


class Identity:
    """One Ed25519 key pair. Built from a 32-byte seed that the caller draws and keeps secret."""

    __slots__ = ("_secret", "public_key")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError(f"an Ed25519 seed has {SEED_BYTES} bytes, not {len(seed)}")
        self.public_key, self._secret = crypto_sign_seed_keypair(seed)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of ``message``."""
        return crypto_sign(message, self._secret)[:SIGNATURE_BYTES]


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` is ``public_key``'s over ``message``. False for anything malformed, never an exception."""
    if len(public_key) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        crypto_sign_open(signature + message, public_key)
    except BadSignatureError:
        return False
    return True
