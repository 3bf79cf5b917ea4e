"""The sum tree: what the ledger owes of one asset, as a root that binds every partial sum on the way to the total.

Source: Merkle sum trees (Maxwell; Chalkias et al., "Distributed Auditing Proofs of Liabilities"), in the shape of
``radix``. A node's hash covers both children's hashes, totals *and* counts. A hash that covers only the node's own
total is forgeable: each child can then be shown a smaller sibling (the tests do it to such a tree).

- A leaf is one account's liability: ``H(00 || place || amount)``, ``place = digest("liability", salt, asset, account)``,
  which is also its path. So the order is fixed, an account has one place, and the place tells nothing without its salt.
- A node is ``H(01 || left hash, total, count || right hash, total, count)``: totals 16 bytes, counts 8, big-endian.
- Padding: an empty side is 32 zero bytes with total and count 0. A subtree of one leaf is that leaf.
- Amounts are whole minor units, at least 0, and no sum reaches 2**128: beyond, updating and verifying refuse. Negative
  amounts would let a debt hide another's credit; shortfalls are named elsewhere.

A path shows the totals of its neighbours: proofs are for auditors, and for holders who are told so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from crdtledger.errors import AmountOutOfRange, BadInput, InvalidProof
from crdtledger.ledger.identity import digest

from .radix import DEPTH, Changes, Labels, Radix
from .radixupdate import updated
from .rowhashes import Bytes, tagged_hashes
from .salts import SALT_BYTES, Salts

MAX_AMOUNT: Final = 2**128 - 1
MAX_COUNT: Final = 2**64 - 1
HASH_BYTES: Final = 32
_AMOUNT_BYTES: Final = 16
_COUNT_BYTES: Final = 8
_PURPOSE: Final = b"liability"


class SumNode(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A subtree: its ``hash`` (32 bytes), the ``total`` it owes in minor units and the ``count`` of accounts in it."""

    hash: bytes
    total: int
    count: int

    def check(self, where: str) -> None:
        """Raises InvalidProof, naming ``where``, when this can be no node of a sum tree, whatever is below it."""
        if len(self.hash) != HASH_BYTES:
            raise InvalidProof(where, f"a hash of {len(self.hash)} bytes instead of {HASH_BYTES}")
        if not (0 <= self.total <= MAX_AMOUNT and 0 <= self.count <= MAX_COUNT):
            raise InvalidProof(where, "its total or count is out of range")
        if (self.count == 0) != (self.hash == bytes(HASH_BYTES)) or (self.count == 0 and self.total):
            raise InvalidProof(where, "an empty side owes nothing to nobody, and only an empty one")


EMPTY: Final = SumNode(bytes(HASH_BYTES), 0, 0)


class SumProof(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """That ``account`` is owed ``amount`` of ``asset``; ``siblings`` lead from its leaf up, each with its total."""

    asset: str
    account: str
    amount: int
    salt: bytes
    siblings: tuple[SumNode, ...]


class SumTree:
    """What is owed of one asset, by account. Never changes; ``update`` gives another."""

    __slots__ = ("_radix", "asset", "salts")

    def __init__(self, asset: str, salts: Salts, amounts: Mapping[str, int] | None = None) -> None:
        """The tree of ``amounts`` (account to minor units). AmountOutOfRange below 0 or when the total overflows."""
        self.asset = asset
        self.salts = salts
        self._radix = Radix.empty(_LABELS)
        if amounts:
            self._radix = updated(self._radix, self._changes(amounts))

    @property
    def root(self) -> SumNode:
        """Hash, total and count of the whole; ``EMPTY`` when nobody is owed anything."""
        return _node(self._radix.label)

    def update(self, changes: Mapping[str, int | None]) -> SumTree:
        """The tree with each account of ``changes`` owed that amount, or not in it where None.

        O(changes * log accounts). AmountOutOfRange, and no tree, when an amount or a sum leaves 0..2**128 - 1.
        """
        if not changes:
            return self
        tree = SumTree(self.asset, self.salts)
        tree._radix = updated(self._radix, self._changes(changes))
        return self if tree._radix is self._radix else tree

    def prove(self, account: str) -> SumProof:
        """What ``account`` is owed, and the neighbours' totals on the way. BadInput when it is not in the tree."""
        salt = self._salt(account)
        place = _place(salt, self.asset, account)
        content = self._radix.find(place)
        if content is None:
            raise BadInput(what=account, where=f"liabilities of {self.asset}", why="the account is not in the tree")
        amount = int.from_bytes(content[HASH_BYTES:], "big")
        siblings = tuple(_node(label) for label in self._radix.siblings(place))
        return SumProof(self.asset, account, amount, salt, siblings)

    def _salt(self, account: str) -> bytes:
        return self.salts.of(_PURPOSE, digest("liability-name", self.asset.encode(), account.encode()))

    def _changes(self, changes: Mapping[str, int | None]) -> Changes:
        rows: list[bytes] = []
        for account, amount in changes.items():
            if amount is not None and not 0 <= amount <= MAX_AMOUNT:
                raise AmountOutOfRange(
                    where=f"liability of {self.asset} to {account}", amount=amount, low=0, high=MAX_AMOUNT
                )
            place = _place(self._salt(account), self.asset, account)
            rows.append(place + (amount or 0).to_bytes(_AMOUNT_BYTES, "big"))
        contents = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1)
        gone = np.fromiter((amount is None for amount in changes.values()), np.bool_, len(changes))
        return Changes(_places(contents), contents, _leaves(contents), gone)


def verify_sum(proof: SumProof, root: SumNode) -> None:
    """That the tree with ``root`` owes ``proof.account`` exactly ``proof.amount``, as part of exactly ``root.total``.

    Raises InvalidProof otherwise, and when any sum on the way leaves its range.
    """
    where = f"liability of {proof.asset} to {proof.account}"
    if len(proof.salt) != SALT_BYTES or not 0 <= proof.amount <= MAX_AMOUNT:
        raise InvalidProof(where, "its salt or amount is out of range")
    depth = len(proof.siblings)
    if depth > DEPTH:
        raise InvalidProof(where, f"{depth} levels are more than {DEPTH}")
    place = _place(proof.salt, proof.asset, proof.account)
    turns = int.from_bytes(place, "big") >> (DEPTH - depth)
    node = _leaf(place, proof.amount)
    for level, sibling in enumerate(proof.siblings):
        sibling.check(f"{where}, level {level}")
        try:
            node = _joined(sibling, node) if turns >> level & 1 else _joined(node, sibling)
        except AmountOutOfRange as fault:
            raise InvalidProof(where, fault.describe()) from None
    if node != root:
        raise InvalidProof(where, "it leads to another root or total than the one given")


def liabilities_digest(roots: Mapping[str, SumNode]) -> bytes:
    """32 bytes that stand for the roots of all assets (name to root), in the order of their names."""
    parts: list[bytes] = []
    for asset in sorted(roots):
        parts += (asset.encode(), _bytes(roots[asset]))
    return digest("liabilities", *parts)


def _place(salt: bytes, asset: str, account: str) -> bytes:
    return digest("liability", salt, asset.encode(), account.encode())


def _leaf(place: bytes, amount: int) -> SumNode:
    return SumNode(hashlib.sha256(b"\x00" + place + amount.to_bytes(16, "big")).digest(), amount, 1)


def _bytes(node: SumNode) -> bytes:
    return node.hash + node.total.to_bytes(16, "big") + node.count.to_bytes(8, "big")


def _joined(left: SumNode, right: SumNode) -> SumNode:
    total, count = left.total + right.total, left.count + right.count
    if total > MAX_AMOUNT:
        raise AmountOutOfRange(where="sum of liabilities", amount=total, low=0, high=MAX_AMOUNT)
    if count > MAX_COUNT:
        raise AmountOutOfRange(where="count of liabilities", amount=count, low=0, high=MAX_COUNT)
    return SumNode(hashlib.sha256(b"\x01" + _bytes(left) + _bytes(right)).digest(), total, count)


# -- the same by row: a label is a node's bytes -------------------------------------------------------------------


def _node(label: bytes) -> SumNode:
    total = int.from_bytes(label[HASH_BYTES:-_COUNT_BYTES], "big")
    return SumNode(label[:HASH_BYTES], total, int.from_bytes(label[-_COUNT_BYTES:], "big"))


def _places(contents: Bytes) -> Bytes:
    return contents[:, :HASH_BYTES]


def _leaves(contents: Bytes) -> Bytes:
    one = np.frombuffer((1).to_bytes(_COUNT_BYTES, "big"), np.uint8)
    hashes = tagged_hashes(0, contents)
    return np.concatenate([hashes, contents[:, HASH_BYTES:], np.tile(one, (len(contents), 1))], axis=1)


def _combined(left: Bytes, right: Bytes) -> Bytes:
    """``_joined``. Of a tree that is held no count is out of range."""
    mine, other = (_words(labels) for labels in (left, right))
    sums = mine + other
    carry = sums[:, 1] < mine[:, 1]
    over = (sums[:, 0] < mine[:, 0]) | (carry & (sums[:, 0] == _FULL))
    if over.any():
        at = int(np.flatnonzero(over)[0])
        _joined(_node(left[at].tobytes()), _node(right[at].tobytes()))  # which says what it comes to
    sums[:, 0] += carry
    hashes = tagged_hashes(1, left, right)
    return np.concatenate([hashes, sums.astype(">u8").view(np.uint8)], axis=1)


def _words(labels: Bytes) -> npt.NDArray[np.uint64]:
    """Total, upper half and lower, and count."""
    return np.ascontiguousarray(labels[:, HASH_BYTES:]).view(">u8").astype(np.uint64)


_FULL: Final = np.uint64(2**64 - 1)
_LABELS: Final = Labels(_bytes(EMPTY), HASH_BYTES + _AMOUNT_BYTES, _places, _leaves, _combined)
