"""Proofs about sparse Merkle trees in the form that IBC light clients and other ICS-23 tools check.

Source: ICS-23, ``SmtSpec`` (github.com/cosmos/ics23, proofs.proto and the Go verifier): SHA-256 everywhere; a leaf is
``H(00 || H(key) || H(value))``, an inner node ``H(01 || left || right)``, an empty child 32 zero bytes; keys are
compared by their hashes; at most 256 levels.

- Existence: the leaf and, for each level from the leaf up, what stands before and after the child in the hashed bytes.
- Non-existence: the existing leaves left and right of where the key would stand, shown to be neighbours. It names
  its neighbours' keys and values, so whoever builds the tree must put nothing private into either.
- Stricter than the reference: a step has exactly one of two shapes, and its side is the key hash's own bit at that level,
  so that a leaf proves itself only where it belongs. ``decode`` accepts the one protobuf encoding that ``encode`` writes.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

import msgspec

from crdtledger.errors import InvalidProof

from .rowhashes import Bytes, row_hashes, tagged_hashes

HASH_BYTES: Final = 32
EMPTY_CHILD: Final = bytes(HASH_BYTES)
MAX_DEPTH: Final = 256
MAX_PROOF_BYTES: Final = 1 << 16
_LEAF_OP: Final = bytes.fromhex("0801100118012a0100")  # SHA-256 for leaf, key and value; prefix 00; no length


class InnerOp(msgspec.Struct, frozen=True):
    """One level up: the node is ``H(prefix || child || suffix)``. One of the two holds the other child."""

    prefix: bytes
    suffix: bytes

    @property
    def side(self) -> int:
        """0 when the child is the left one, 1 when it is the right one."""
        return 0 if self.suffix else 1

    @property
    def sibling(self) -> bytes:
        """The hash of the other child."""
        return self.suffix or self.prefix[1:]


class ExistenceProof(msgspec.Struct, frozen=True):
    """That ``key`` has ``value``; ``path`` leads from the leaf to the root."""

    key: bytes
    value: bytes
    path: tuple[InnerOp, ...]

    def encode(self) -> bytes:
        """The proof as an ICS-23 ``CommitmentProof`` in protobuf."""
        return _field(1, _existence_bytes(self))


class NonExistenceProof(msgspec.Struct, frozen=True):
    """That ``key`` has no value: the nearest leaves on both sides, one of which may be missing at the tree's edge."""

    key: bytes
    left: ExistenceProof | None
    right: ExistenceProof | None

    def encode(self) -> bytes:
        """The proof as an ICS-23 ``CommitmentProof`` in protobuf."""
        body = _field(1, self.key)
        for number, proof in ((2, self.left), (3, self.right)):
            if proof is not None:
                body += _field(number, _existence_bytes(proof))
        return _field(2, body)


def leaf_hash(key: bytes, value: bytes) -> bytes:
    """The hash of the leaf that says ``key`` has ``value``."""
    return sha256(b"\x00" + key_hash(key) + sha256(value).digest()).digest()


def leaf_hashes_at(places: Bytes, values: Bytes) -> Bytes:
    """``leaf_hash`` by row, of keys whose hashes are ``places``; values of one length."""
    return tagged_hashes(0, places, row_hashes(values))


def inner_hashes(left: Bytes, right: Bytes) -> Bytes:
    """The hashes of nodes over two children each."""
    return tagged_hashes(1, left, right)


def key_hash(key: bytes) -> bytes:
    """Where ``key`` stands: its hash, whose bits from the highest are the turns from the root down."""
    return sha256(key).digest()


def existence(key: bytes, value: bytes, siblings: tuple[bytes, ...]) -> ExistenceProof:
    """The proof of a leaf from the hashes beside its way to the root, deepest first."""
    turns = int.from_bytes(key_hash(key), "big") >> (MAX_DEPTH - len(siblings))
    path = (
        InnerOp(b"\x01" + sibling, b"") if turns >> level & 1 else InnerOp(b"\x01", sibling)
        for level, sibling in enumerate(siblings)
    )
    return ExistenceProof(key, value, tuple(path))


def verify_existence(proof: ExistenceProof, key: bytes, value: bytes, root: bytes) -> None:
    """That ``key`` has exactly ``value`` under ``root``. Raises InvalidProof otherwise."""
    where = "existence proof"
    if proof.key != key or proof.value != value:
        raise InvalidProof(where, "it is about another key or value")
    if not key or not value:
        raise InvalidProof(where, "an empty key or value proves nothing")
    depth = len(proof.path)
    if depth > MAX_DEPTH:
        raise InvalidProof(where, f"{depth} levels are more than {MAX_DEPTH}")
    turns = int.from_bytes(key_hash(key), "big") >> (MAX_DEPTH - depth)
    hashed = leaf_hash(key, value)
    for level, step in enumerate(proof.path):
        shape = (len(step.prefix), len(step.suffix))
        if step.prefix[:1] != b"\x01" or shape not in ((1, HASH_BYTES), (1 + HASH_BYTES, 0)):
            raise InvalidProof(where, f"step {level} is not an inner node of a sparse Merkle tree")
        if step.side != turns >> level & 1:
            raise InvalidProof(where, f"step {level} turns away from where the key stands")
        hashed = sha256(step.prefix + hashed + step.suffix).digest()
    if hashed != root:
        raise InvalidProof(where, "it leads to another root than the one given")


def verify_non_existence(proof: NonExistenceProof, key: bytes, root: bytes) -> None:
    """That ``key`` has no value under ``root``. Raises InvalidProof otherwise.

    An empty tree has no proof in this form: its root, 32 zero bytes, says it all.
    """
    where = "non-existence proof"
    if proof.key != key:
        raise InvalidProof(where, "it is about another key")
    place = key_hash(key)
    left, right = proof.left, proof.right
    for neighbour in (left, right):
        if neighbour is not None:
            verify_existence(neighbour, neighbour.key, neighbour.value, root)
    if left is not None and not key_hash(left.key) < place:
        raise InvalidProof(where, "the left neighbour is not left of the key")
    if right is not None and not place < key_hash(right.key):
        raise InvalidProof(where, "the right neighbour is not right of the key")
    if left is not None and right is not None:
        if not _adjacent(left.path, right.path):
            raise InvalidProof(where, "its two leaves are not neighbours")
    elif left is not None:
        if not _at_edge(left.path, 1):
            raise InvalidProof(where, "its left leaf is not the last of the tree")
    elif right is not None:
        if not _at_edge(right.path, 0):
            raise InvalidProof(where, "its right leaf is not the first of the tree")
    else:
        raise InvalidProof(where, "it shows no neighbour")


def decode(raw: bytes) -> ExistenceProof | NonExistenceProof:
    """A proof from its protobuf bytes. Raises InvalidProof for any other bytes than ``encode`` writes."""
    where = "ICS-23 proof"
    if len(raw) > MAX_PROOF_BYTES:
        raise InvalidProof(where, f"{len(raw)} bytes are more than {MAX_PROOF_BYTES}")
    proof: ExistenceProof | NonExistenceProof
    match _fields(raw):
        case [(1, body)]:
            proof = _existence_from(body)
        case [(2, body)]:
            match _fields(body):
                case [(1, key), (2, left), (3, right)]:
                    proof = NonExistenceProof(key, _existence_from(left), _existence_from(right))
                case [(1, key), (2, left)]:
                    proof = NonExistenceProof(key, _existence_from(left), None)
                case [(1, key), (3, right)]:
                    proof = NonExistenceProof(key, None, _existence_from(right))
                case _:
                    raise InvalidProof(where, "its fields are not those of a non-existence proof")
        case _:
            raise InvalidProof(where, "it is neither an existence nor a non-existence proof")
    if proof.encode() != raw:
        raise InvalidProof(where, "its encoding is not the canonical one of a sparse Merkle tree proof")
    return proof


def _at_edge(path: tuple[InnerOp, ...], side: int) -> bool:
    """Whether nothing stands beyond the leaf on ``side``: it is the outer child, or the outer child is empty."""
    return all(step.side == side or step.sibling == EMPTY_CHILD for step in path)


def _adjacent(left: tuple[InnerOp, ...], right: tuple[InnerOp, ...]) -> bool:
    """Whether the two ways part at one fork, and nothing stands between them below it."""
    shared = 0
    while shared < min(len(left), len(right)) and left[-1 - shared] == right[-1 - shared]:
        shared += 1
    if shared in (len(left), len(right)):
        return False
    left, right = left[: len(left) - shared], right[: len(right) - shared]
    parted = left[-1].side == 0 and right[-1].side == 1
    return parted and _at_edge(left[:-1], 1) and _at_edge(right[:-1], 0)


def _existence_bytes(proof: ExistenceProof) -> bytes:
    body = _field(1, proof.key) + _field(2, proof.value) + _field(3, _LEAF_OP)
    for step in proof.path:
        inner = b"\x08\x01" + _field(2, step.prefix)
        body += _field(4, inner + _field(3, step.suffix) if step.suffix else inner)
    return body


def _existence_from(body: bytes) -> ExistenceProof:
    match _fields(body):
        case [(1, key), (2, value), (3, _), *steps] if all(number == 4 for number, _ in steps):
            return ExistenceProof(key, value, tuple(_step_from(step) for _, step in steps))
    raise InvalidProof("ICS-23 proof", "its fields are not those of an existence proof")


def _step_from(body: bytes) -> InnerOp:
    if body[:2] == b"\x08\x01":
        match _fields(body[2:]):
            case [(2, prefix)]:
                return InnerOp(prefix, b"")
            case [(2, prefix), (3, suffix)]:
                return InnerOp(prefix, suffix)
    raise InvalidProof("ICS-23 proof", "a step is not a SHA-256 inner node")


def _field(number: int, body: bytes) -> bytes:
    """A length-delimited protobuf field."""
    length = len(body)
    head = bytearray((number << 3 | 2,))
    while length >= 0x80:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + body


def _fields(body: bytes) -> list[tuple[int, bytes]]:
    """The length-delimited fields of a message, in order; anything else in it is refused."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while at < len(body):
        tag, at = body[at], at + 1
        length = shift = 0
        while True:
            if at >= len(body) or shift > 28:
                raise InvalidProof("ICS-23 proof", f"a length at byte {at} does not end")
            byte, at = body[at], at + 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if tag & 7 != 2 or at + length > len(body):
            raise InvalidProof("ICS-23 proof", f"the field before byte {at} is cut off, or not of bytes")
        found.append((tag >> 3, body[at : at + length]))
        at += length
    return found
