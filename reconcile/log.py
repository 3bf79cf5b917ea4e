"""The log of checkpoints: an append-only Merkle tree with one leaf per height, and proofs about it.

Source: RFC 6962 section 2.1 (Merkle Tree Hash, audit paths, consistency proofs); verification follows the
structure of RFC 9162 sections 2.1.3.2 and 2.1.4.2. SHA-256 throughout; hashes are 32 bytes.

- A leaf hashes as ``SHA-256(00 || leaf)``, a node as ``SHA-256(01 || left || right)``, the empty tree as ``SHA-256("")``.
- A tree of n leaves splits at the largest power of two below n, so every prefix of the log keeps its complete
  subtrees for ever. ``MerkleLog`` stores those, 64 bytes a leaf in all; appending hashes once per leaf on average;
  a root or a proof at *any* earlier size costs O(log n).
- Verification is strict: a proof has exactly the nodes its sizes call for. One too many, one too few, or one of
  another length than 32 bytes is a refusal, never an exception from deep inside.

It does not store leaves, and does not know what they mean (``reconcile.proofs`` does).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from crdtledger.errors import BadInput, InvalidProof

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
MAX_SIZE = 2**63 - 1


def leaf_hash(leaf: bytes) -> bytes:
    """The hash under which ``leaf`` stands in the log."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node over the hashes of its two children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class MerkleLog:
    """Leaf hashes in order, with the hash of every complete subtree: level k holds those of 2**k leaves."""

    __slots__ = ("_levels",)

    def __init__(self, leaf_hashes: Iterable[bytes] = ()) -> None:
        """A log of ``leaf_hashes`` (32 bytes each), as saved by ``leaf_hashes``. BadInput on another length."""
        self._levels: list[bytearray] = [bytearray()]
        for hashed in leaf_hashes:
            self.append_hash(hashed)

    @property
    def size(self) -> int:
        """How many leaves."""
        return len(self._levels[0]) // HASH_BYTES

    def append(self, leaf: bytes) -> int:
        """Append ``leaf``; its index."""
        return self.append_hash(leaf_hash(leaf))

    def append_hash(self, hashed: bytes) -> int:
        """Append a leaf by its hash; its index."""
        if len(hashed) != HASH_BYTES:
            raise BadInput(what=f"a leaf hash of {len(hashed)} bytes", where="log", why=f"a hash has {HASH_BYTES}")
        index = place = self.size
        level = 0
        self._levels[0] += hashed
        while place & 1:
            hashed = node_hash(self._complete(level, place - 1), hashed)
            level, place = level + 1, place >> 1
            if level == len(self._levels):
                self._levels.append(bytearray())
            self._levels[level] += hashed
        return index

    def leaf_hash_at(self, index: int) -> bytes:
        """The hash of leaf ``index``. BadInput beyond the end."""
        self._has_leaf(index, self.size)
        return self._complete(0, index)

    def root(self, size: int | None = None) -> bytes:
        """The root over the first ``size`` leaves (all by default). BadInput beyond the end."""
        size = self.size if size is None else size
        self._within(size)
        return self._range_root(0, size) if size else EMPTY_ROOT

    def root_with(self, leaf: bytes) -> bytes:
        """The root that the log would have if ``leaf`` were appended now."""
        root, level, place = leaf_hash(leaf), 0, self.size
        while place:
            if place & 1:
                root = node_hash(self._complete(level, place - 1), root)
            level, place = level + 1, place >> 1
        return root

    def prove_inclusion(self, index: int, size: int | None = None) -> tuple[bytes, ...]:
        """The audit path of leaf ``index`` in the tree of ``size`` leaves, sibling of the leaf first (RFC 6962 2.1.1)."""
        size = self.size if size is None else size
        self._within(size)
        self._has_leaf(index, size)
        path: list[bytes] = []
        first, last = 0, size
        while last - first > 1:
            middle = first + _split(last - first)
            if index < middle:
                path.append(self._range_root(middle, last))
                last = middle
            else:
                path.append(self._range_root(first, middle))
                first = middle
        return tuple(reversed(path))

    def prove_consistency(self, old_size: int, size: int | None = None) -> tuple[bytes, ...]:
        """That the tree of ``old_size`` leaves is a prefix of the one of ``size`` (RFC 6962 2.1.2).

        Empty for ``old_size`` 0 and for equal sizes, where there is nothing to show.
        """
        size = self.size if size is None else size
        self._within(size)
        if not 0 <= old_size <= size:
            raise BadInput(what=f"old size {old_size}", where="log", why=f"not within 0..{size}")
        if old_size in (0, size):
            return ()
        path: list[bytes] = []
        first, last = 0, size
        whole = True  # whether the old tree's own root is the subtree we stand on
        while old_size != last:
            middle = first + _split(last - first)
            if old_size <= middle:
                path.append(self._range_root(middle, last))
                last = middle
            else:
                path.append(self._range_root(first, middle))
                first, whole = middle, False
        if not whole:
            path.append(self._range_root(first, last))
        return tuple(reversed(path))

    def leaf_hashes(self) -> tuple[bytes, ...]:
        """Every leaf hash in order: all that needs saving."""
        row = bytes(self._levels[0])
        return tuple(row[i : i + HASH_BYTES] for i in range(0, len(row), HASH_BYTES))

    def _within(self, size: int) -> None:
        if not 0 <= size <= self.size:
            raise BadInput(what=f"size {size}", where="log", why=f"the log has {self.size} leaves")

    @staticmethod
    def _has_leaf(index: int, size: int) -> None:
        if not 0 <= index < size:
            raise BadInput(what=f"index {index}", where="log", why=f"a log of {size} leaves has no such leaf")

    def _complete(self, level: int, place: int) -> bytes:
        at = place * HASH_BYTES
        return bytes(self._levels[level][at : at + HASH_BYTES])

    def _range_root(self, first: int, last: int) -> bytes:
        """The root over leaves ``first..last-1``, where ``first`` is aligned as RFC 6962's recursion leaves it."""
        peaks: list[bytes] = []
        while first < last:
            level = (last - first).bit_length() - 1
            peaks.append(self._complete(level, first >> level))
            first += 1 << level
        root = peaks.pop()
        while peaks:
            root = node_hash(peaks.pop(), root)
        return root


def verify_inclusion(leaf_hashed: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """That the leaf with hash ``leaf_hashed`` is leaf ``index`` of the tree of ``size`` leaves with ``root``.

    Raises InvalidProof otherwise, and for any path that has not exactly the nodes this index and size call for.
    """
    where = "inclusion proof"
    if not 0 <= index < size <= MAX_SIZE:
        raise InvalidProof(where, f"there is no leaf {index} in a log of {size} leaves")
    _hashes_only(where, (leaf_hashed, root, *path))
    # Below the point where the leaf's way to the root meets the tree's right edge every level has a sibling;
    # above it only those levels where the way comes from the right.
    inner = (index ^ (size - 1)).bit_length()
    border = (index >> inner).bit_count()
    if len(path) != inner + border:
        raise InvalidProof(where, f"{len(path)} nodes where leaf {index} of {size} takes {inner + border}")
    hashed = leaf_hashed
    for level, sibling in enumerate(path[:inner]):
        hashed = node_hash(sibling, hashed) if index >> level & 1 else node_hash(hashed, sibling)
    for sibling in path[inner:]:
        hashed = node_hash(sibling, hashed)
    if hashed != root:
        raise InvalidProof(where, f"leaf {index} leads to another root than the one given")


def verify_consistency(old_size: int, old_root: bytes, size: int, root: bytes, path: Sequence[bytes]) -> None:
    """That the log of ``old_size`` leaves with ``old_root`` is a prefix of the one of ``size`` leaves with ``root``.

    Raises InvalidProof otherwise, and for any path that has not exactly the nodes these sizes call for.
    """
    where = "consistency proof"
    if not 0 <= old_size <= size <= MAX_SIZE:
        raise InvalidProof(where, f"a log does not go from {old_size} leaves to {size}")
    _hashes_only(where, (old_root, root, *path))
    for each_size, each_root in ((old_size, old_root), (size, root)):
        if each_size == 0 and each_root != EMPTY_ROOT:
            raise InvalidProof(where, "the root of an empty log is not the hash of nothing")
    if old_size in (0, size):
        if path:
            raise InvalidProof(where, f"{len(path)} nodes where none is called for")
        if old_size == size and old_root != root:
            raise InvalidProof(where, f"two roots for one size, {size}")
        return
    # The path starts at the largest complete subtree that ends where the old tree ends. When that subtree is
    # the whole old tree its root is known, and the path leaves it out.
    shift = (old_size & -old_size).bit_length() - 1
    index = (old_size - 1) >> shift
    inner = (index ^ ((size - 1) >> shift)).bit_length()
    border = (index >> inner).bit_count()
    known = old_size == 1 << shift
    expected = inner + border + (0 if known else 1)
    if len(path) != expected:
        raise InvalidProof(where, f"{len(path)} nodes where {old_size} to {size} takes {expected}")
    seed, rest = (old_root, tuple(path)) if known else (path[0], tuple(path[1:]))
    old = new = seed
    for level, sibling in enumerate(rest[:inner]):
        if index >> level & 1:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
        else:
            new = node_hash(new, sibling)
    for sibling in rest[inner:]:
        old, new = node_hash(sibling, old), node_hash(sibling, new)
    if old != old_root:
        raise InvalidProof(where, f"it does not start from the old root at {old_size}")
    if new != root:
        raise InvalidProof(where, f"it does not lead to the root at {size}")


def _split(count: int) -> int:
    """The largest power of two below ``count`` (at least 2)."""
    return 1 << (count - 1).bit_length() - 1


def _hashes_only(where: str, hashes: Sequence[bytes]) -> None:
    for hashed in hashes:
        if len(hashed) != HASH_BYTES:
            raise InvalidProof(where, f"a hash of {len(hashed)} bytes instead of {HASH_BYTES}")
