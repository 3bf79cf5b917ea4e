"""Proofs made by the ICS-23 reference implementation hold here: same tree, same hashes, same bytes."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from crdtledger.errors import InvalidProof
from reconcile.ics23 import ExistenceProof, NonExistenceProof, decode, verify_existence, verify_non_existence

from .ics23_vectors import EXIST_LEFT, NONEXIST_LEFT, NONEXIST_MIDDLE


def test_the_reference_proof_of_existence_holds() -> None:
    key, value, root, raw = (bytes.fromhex(EXIST_LEFT[part]) for part in ("key", "value", "root", "proof"))
    proof = decode(raw)
    assert isinstance(proof, ExistenceProof)
    verify_existence(proof, key, value, root)
    assert proof.encode() == raw
    with pytest.raises(InvalidProof):
        verify_existence(proof, key, value + b"0", root)


@pytest.mark.parametrize("vector", [NONEXIST_LEFT, NONEXIST_MIDDLE])
def test_the_reference_proofs_of_absence_hold(vector: dict[str, str]) -> None:
    key, root, raw = (bytes.fromhex(vector[part]) for part in ("key", "root", "proof"))
    proof = decode(raw)
    assert isinstance(proof, NonExistenceProof)
    assert proof.encode() == raw
    # These vectors name the key by its hash, and their verifier does not read that field; ours does.
    assert proof.key == hashlib.sha256(key).digest()
    verify_non_existence(msgspec.structs.replace(proof, key=key), key, root)
    with pytest.raises(InvalidProof, match="another key"):
        verify_non_existence(proof, key, root)
    lopsided = NonExistenceProof(key, proof.left, None)
    with pytest.raises(InvalidProof):
        verify_non_existence(lopsided, key, root)


@pytest.mark.parametrize(
    ("length", "head"), [(127, "7f"), (128, "8001"), (129, "8101"), (16_383, "ff7f"), (16_384, "808001")]
)
def test_lengths_are_the_shortest_varints(length: int, head: str) -> None:
    proof = ExistenceProof(b"k", bytes(length), ())
    raw = proof.encode()
    assert bytes.fromhex(f"0a016b12{head}") + bytes(length) in raw
    assert decode(raw) == proof
