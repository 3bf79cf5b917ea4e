"""The log of checkpoints against the definitions of RFC 6962, written out as they stand."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.errors import BadInput, InvalidProof
from reconcile.log import EMPTY_ROOT, MerkleLog, leaf_hash, verify_consistency, verify_inclusion

STANDARD = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
SIZES = st.integers(1, 70)


def plain_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, as it is written."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + plain_root(leaves[:k]) + plain_root(leaves[k:])).digest()


def plain_path(m: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 6962 section 2.1.1."""
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m < k:
        return [*plain_path(m, leaves[:k]), plain_root(leaves[k:])]
    return [*plain_path(m - k, leaves[k:]), plain_root(leaves[:k])]


def plain_subproof(m: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    """RFC 6962 section 2.1.2."""
    n = len(leaves)
    if m == n:
        return [] if whole else [plain_root(leaves)]
    k = 1
    while k * 2 < n:
        k *= 2
    if m <= k:
        return [*plain_subproof(m, leaves[:k], whole), plain_root(leaves[k:])]
    return [*plain_subproof(m - k, leaves[k:], False), plain_root(leaves[:k])]


def leaves_of(count: int) -> list[bytes]:
    return [f"height {i}".encode() for i in range(count)]


def log_of(leaves: list[bytes]) -> MerkleLog:
    log = MerkleLog()
    for leaf in leaves:
        log.append(leaf)
    return log


def test_the_standard_leaves_have_the_published_roots() -> None:
    log = log_of(STANDARD)
    assert log.root(0) == EMPTY_ROOT
    assert log.root(1).hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert log.root(8).hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


def test_the_example_of_the_rfc_has_the_paths_that_the_rfc_names() -> None:
    # Section 2.1.3: seven leaves; node names there are a..j for d0..d6's leaf hashes, then g h i j k l.
    leaves = leaves_of(7)
    a, b, c, d, e, f, j = (leaf_hash(leaf) for leaf in leaves)
    g, h, i = plain_root(leaves[0:2]), plain_root(leaves[2:4]), plain_root(leaves[4:6])
    k, l = plain_root(leaves[0:4]), plain_root(leaves[4:7])  # noqa: E741
    log = log_of(leaves)
    assert log.prove_inclusion(0) == (b, h, l)
    assert log.prove_inclusion(3) == (c, g, l)
    assert log.prove_inclusion(4) == (f, j, k)
    assert log.prove_inclusion(6) == (i, k)
    assert log.prove_consistency(3) == (c, d, g, l)
    assert log.prove_consistency(4) == (l,)
    assert log.prove_consistency(6) == (i, j, k)
    assert a != e


@given(SIZES)
def test_every_prefix_has_the_root_of_the_definition(count: int) -> None:
    leaves = leaves_of(count)
    log = log_of(leaves)
    assert [log.root(n) for n in range(count + 1)] == [plain_root(leaves[:n]) for n in range(count + 1)]
    assert MerkleLog(log.leaf_hashes()).root() == log.root()


@given(SIZES, st.data())
def test_inclusion_paths_are_the_definitions_and_verify(count: int, data: st.DataObject) -> None:
    leaves = leaves_of(count)
    log = log_of(leaves)
    size = data.draw(st.integers(1, count))
    index = data.draw(st.integers(0, size - 1))
    path = log.prove_inclusion(index, size)
    assert list(path) == plain_path(index, leaves[:size])
    verify_inclusion(leaf_hash(leaves[index]), index, size, path, log.root(size))


@given(SIZES, st.data())
def test_consistency_paths_are_the_definitions_and_verify(count: int, data: st.DataObject) -> None:
    leaves = leaves_of(count)
    log = log_of(leaves)
    size = data.draw(st.integers(0, count))
    old = data.draw(st.integers(0, size))
    path = log.prove_consistency(old, size)
    assert list(path) == (plain_subproof(old, leaves[:size], True) if old else [])
    verify_consistency(old, log.root(old), size, log.root(size), path)


@given(SIZES, st.data())
def test_a_changed_inclusion_proof_is_refused(count: int, data: st.DataObject) -> None:
    leaves = leaves_of(count)
    log = log_of(leaves)
    index = data.draw(st.integers(0, count - 1))
    path = list(log.prove_inclusion(index))
    hashed, root = leaf_hash(leaves[index]), log.root()
    refused_inclusion(hashed, index, count, [*path, bytes(32)], root, "nodes where")
    refused_inclusion(hashed, index, count, [*path, root], root, "nodes where")
    refused_inclusion(bytes(32), index, count, path, root)
    refused_inclusion(hashed, index, count, path, bytes(32))
    refused_inclusion(hashed, count, count, path, root)
    refused_inclusion(hashed, -1, count, path, root)
    other = data.draw(st.integers(0, count - 1))
    if other != index:
        refused_inclusion(hashed, other, count, path, root)
    if path:
        place = data.draw(st.integers(0, len(path) - 1))
        refused_inclusion(hashed, index, count, path[:place] + path[place + 1 :], root, "nodes where")
        flipped = bytes([path[place][0] ^ 1]) + path[place][1:]
        refused_inclusion(hashed, index, count, [*path[:place], flipped, *path[place + 1 :]], root)
        refused_inclusion(hashed, index, count, [*path[:place], path[place][:-1], *path[place + 1 :]], root)


@given(SIZES, st.data())
def test_a_changed_consistency_proof_is_refused(count: int, data: st.DataObject) -> None:
    log = log_of(leaves_of(count))
    old = data.draw(st.integers(0, count))
    path = list(log.prove_consistency(old))
    roots = (log.root(old), log.root())
    refused_consistency(old, roots[0], count, roots[1], [*path, bytes(32)], "nodes where")
    refused_consistency(old, bytes(32), count, roots[1], path)
    refused_consistency(count + 1, roots[0], count, roots[1], path)
    refused_consistency(-1, roots[0], count, roots[1], path)
    if old:
        refused_consistency(old, roots[0], count, bytes(32), path)
    if path:
        place = data.draw(st.integers(0, len(path) - 1))
        refused_consistency(old, roots[0], count, roots[1], path[:place] + path[place + 1 :], "nodes where")
        flipped = bytes([path[place][0] ^ 128]) + path[place][1:]
        refused_consistency(old, roots[0], count, roots[1], [*path[:place], flipped, *path[place + 1 :]])


def test_a_rewritten_log_is_not_consistent_with_what_it_was() -> None:
    honest, other = log_of(leaves_of(9)), log_of([b"rewritten", *leaves_of(12)[1:]])
    refused_consistency(9, honest.root(), 12, other.root(), list(other.prove_consistency(9)))


def test_questions_about_leaves_that_are_not_there_are_refused() -> None:
    log = log_of(leaves_of(3))
    for ask in (
        lambda: log.root(4),
        lambda: log.prove_inclusion(3),
        lambda: log.prove_consistency(4),
        lambda: log.leaf_hash_at(3),
        lambda: log.leaf_hash_at(-1),
        lambda: log.append_hash(b"short"),
    ):
        with pytest.raises(BadInput):
            ask()
    assert log.leaf_hash_at(2) == leaf_hash(b"height 2")


def refused_inclusion(hashed: bytes, index: int, size: int, path: list[bytes], root: bytes, why: str = ".") -> None:
    with pytest.raises(InvalidProof, match=why):
        verify_inclusion(hashed, index, size, path, root)


def refused_consistency(old: int, old_root: bytes, size: int, root: bytes, path: list[bytes], why: str = ".") -> None:
    with pytest.raises(InvalidProof, match=why):
        verify_consistency(old, old_root, size, root, path)


@given(size=SIZES)
def test_the_root_with_one_leaf_more_is_the_root_after_appending_it(size: int) -> None:
    *before, last = leaves_of(size)
    log = MerkleLog(leaf_hash(leaf) for leaf in before)
    assert log.root_with(last) == plain_root([*before, last])
    assert log.size == size - 1
