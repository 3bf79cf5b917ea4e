"""What this ledger writes, read by tools that others wrote: tlog-scales and proofbundle (both from PyPI)."""

from __future__ import annotations

from types import ModuleType

import pytest

from crdtledger.errors import InvalidProof
from reconcile import notes
from reconcile.certificate import LogHead, assemble, open_certificate, open_head
from reconcile.log import MerkleLog, leaf_hash, verify_consistency, verify_inclusion
from reconcile.notes import Note, VerifierKey

from .signers import NOON_S, ORIGIN, cosignatures, identity, keys_of, policy_of

LEAVES = [f"height {i}".encode() for i in range(1, 14)]


@pytest.fixture(scope="module")
def scales() -> tuple[ModuleType, ModuleType]:
    reason = "tlog-scales is not installed"
    return pytest.importorskip("tlog_scales.tlog", reason=reason), pytest.importorskip(
        "tlog_scales.signing", reason=reason
    )


@pytest.fixture(scope="module")
def bundle() -> tuple[ModuleType, ModuleType]:
    reason = "proofbundle is not installed"
    return pytest.importorskip("proofbundle.checkpoint", reason=reason), pytest.importorskip(
        "proofbundle.merkle", reason=reason
    )


def log() -> MerkleLog:
    made = MerkleLog()
    for leaf in LEAVES:
        made.append(leaf)
    return made


def certificate() -> tuple[LogHead, bytes]:
    head = LogHead(ORIGIN, len(LEAVES), log().root())
    return head, assemble(head, cosignatures(head), policy_of())


def test_tlog_scales_finds_every_validator_in_a_certificate(scales: tuple[ModuleType, ModuleType]) -> None:
    tlog, signing = scales
    head, raw = certificate()
    checkpoint = tlog.Checkpoint.from_text(raw.decode())
    keys = [signing.Vkey.from_string(key.vkey()) for key in keys_of().values()]
    assert len(signing.VkeySet(*keys).verify(checkpoint.signatures, checkpoint)) == 4
    assert (checkpoint.origin, checkpoint.size, checkpoint.root_hash) == (head.origin, head.size, head.root)
    assert checkpoint.serialize() == raw.decode()


def test_tlog_scales_and_we_agree_on_every_proof_of_a_log(scales: tuple[ModuleType, ModuleType]) -> None:
    tlog, _ = scales
    ours = log()
    for size in range(1, ours.size + 1):
        for index in range(size):
            path = list(ours.prove_inclusion(index, size))
            tlog.InclusionProof(index, size, path).check(leaf_hash(LEAVES[index]), ours.root(size))
        for old in range(1, size + 1):
            path = list(ours.prove_consistency(old, size))
            tlog.ConsistencyProof(old, size, path).check(ours.root(old), ours.root(size))
            for wrong in (path[:-1], [*path, bytes(32)]):
                if wrong == path:
                    continue
                with pytest.raises(InvalidProof):
                    verify_consistency(old, ours.root(old), size, ours.root(size), wrong)
                with pytest.raises(tlog.ConsistencyProofInvalid):
                    tlog.ConsistencyProof(old, size, wrong).check(ours.root(old), ours.root(size))


def test_a_plain_signature_made_by_tlog_scales_opens_here(scales: tuple[ModuleType, ModuleType]) -> None:
    tlog, signing = scales
    signer = signing.PlainEd25519Signer(ORIGIN, bytes(range(32)))
    made = tlog.Checkpoint.make_signed(ORIGIN, 13, log().root(), [signer])
    key = notes.parse_vkey(signer.vkey.serialize())
    head, opened = open_head(made.serialize().encode(), [key], ORIGIN)
    assert head == LogHead(ORIGIN, 13, log().root())
    assert opened.keys() == {key}


def test_proofbundle_counts_the_quorum_of_a_certificate(bundle: tuple[ModuleType, ModuleType]) -> None:
    checkpoint, _ = bundle
    head, raw = certificate()
    vkeys = [key.vkey() for key in keys_of().values()]
    assert checkpoint.witness_quorum(raw.decode(), vkeys, 3, log_key_material=None)[0]
    for place, vkey in enumerate(vkeys):
        found = checkpoint.verify_cosignature(raw.decode(), vkey)
        assert (found["ok"], found["timestamp"], found["root"]) == (True, NOON_S + place, head.root)
    for node, key in keys_of().items():
        assert checkpoint.cosign_vkey(f"{ORIGIN}/{node}", key.public_key) == key.vkey()
    two = Note(head.text(), tuple(cosignatures(head)[:2])).encode().decode()
    assert not checkpoint.witness_quorum(two, vkeys, 3, log_key_material=None)[0]


def test_a_log_signature_and_cosignatures_satisfy_proofbundle_and_us(bundle: tuple[ModuleType, ModuleType]) -> None:
    checkpoint, _ = bundle
    head, _ = certificate()
    log_key = VerifierKey(ORIGIN, identity("log").public_key, notes.ED25519)
    line = notes.sign(head.text(), ORIGIN, identity("log"))
    text = Note(head.text(), (line, *cosignatures(head))).encode().decode()
    vkeys = [key.vkey() for key in keys_of().values()]
    found = checkpoint.verify_witnessed_checkpoint(text, log_key.vkey(), vkeys, threshold=3)
    assert found["ok"]
    assert checkpoint.vkey(ORIGIN, log_key.public_key) == log_key.vkey()


def test_proofbundle_and_we_agree_on_roots_and_paths(bundle: tuple[ModuleType, ModuleType]) -> None:
    _, merkle = bundle
    ours = log()
    assert merkle.merkle_tree_hash(LEAVES) == ours.root()
    for index in range(len(LEAVES)):
        assert tuple(merkle.inclusion_proof(LEAVES, index)) == ours.prove_inclusion(index)
        path = merkle.inclusion_proof(LEAVES, index)
        verify_inclusion(leaf_hash(LEAVES[index]), index, len(LEAVES), path, ours.root())
    for old in range(1, len(LEAVES) + 1):
        assert tuple(merkle.consistency_proof(LEAVES, old)) == ours.prove_consistency(old)


def test_what_the_other_tool_cosigned_opens_here(bundle: tuple[ModuleType, ModuleType]) -> None:
    checkpoint, _ = bundle
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    head, _ = certificate()
    secret = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    public = secret.public_key().public_bytes_raw()
    ours = Note(head.text(), (notes.sign(head.text(), ORIGIN, identity("log")),)).encode().decode()
    made = checkpoint.cosign_checkpoint(ours, secret, "witness.example", NOON_S)
    if "\n\n" not in made:  # it gives the line alone
        made = ours + made.strip() + "\n"
    key = VerifierKey("witness.example", public)
    _, opened = open_head(made.encode(), [key], ORIGIN)
    assert [(signer.key, signer.time_s) for signer in opened.signers] == [(key, NOON_S)]


def test_the_certificate_that_others_read_is_the_one_we_accept() -> None:
    head, raw = certificate()
    assert open_certificate(raw, policy_of(), ORIGIN).head == head
