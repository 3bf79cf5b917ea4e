"""Validators with keys that tests can repeat, and the log they cosign."""

from __future__ import annotations

import functools
import hashlib

from crdtledger.ledger.identity import Identity
from reconcile.certificate import LogHead, cosign, cosigner
from reconcile.notes import SignatureLine, VerifierKey
from reconcile.policy import Policy, quorum_of

ORIGIN = "ledger.example/desk"
NODES = ("node-1", "node-2", "node-3", "node-4")
NOON_S = 1_800_000_000


@functools.cache
def identity(name: str) -> Identity:
    return Identity(hashlib.sha256(name.encode()).digest())


def keys_of(names: tuple[str, ...] = NODES) -> dict[str, VerifierKey]:
    return {name: cosigner(ORIGIN, name, identity(name).public_key) for name in names}


@functools.cache
def policy_of(names: tuple[str, ...] = NODES) -> Policy:
    return quorum_of(keys_of(names))


def cosignatures(head: LogHead, names: tuple[str, ...] = NODES, time_s: int = NOON_S) -> list[SignatureLine]:
    return [cosign(head, name, identity(name), time_s + place) for place, name in enumerate(names)]
