"""The state tree: one root over every settled cell, from which one account can be shown without showing another.

Source: a sparse Merkle tree in the form of ICS-23's ``SmtSpec`` (see ``ics23``). In its terms a cell's *key* is the
digest of its name and its *value* is a commitment ``digest("cell-value", salt, value)``; the cell's real value and its
salt stand only in a proof made for its owner, together with that salt and no other.

- The root is a function of the cells alone, never of the order or history of updates: putting a cell and taking it
  away gives the root of a tree that never had it.
- Updating costs the cells changed. A tree never changes; updating gives a new one that shares the rest, so the trees
  of several heights can be kept side by side.
- The tree holds commitments, not values: the settled state has those, and hands them in to prove them.

What a proof still tells its reader: how deep the tree is there, hence about how many cells there are; and a proof of
absence shows the name digests of two neighbours, against which names can be guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from crdtledger.errors import BadInput, InvalidProof
from crdtledger.ledger.identity import digest

from . import ics23
from .cells import CellName
from .ics23 import ExistenceProof, NonExistenceProof
from .radix import Leaf, Radix
from .salts import SALT_BYTES, Salts

EMPTY_ROOT = ics23.EMPTY_CHILD
_PURPOSE = b"cell"
_HASH = ics23.HASH_BYTES


class OpenedCell(msgspec.Struct, frozen=True):
    """A cell shown to its owner: name, value, the salt that opens the commitment, and the way to the root."""

    name: CellName
    value: bytes
    salt: bytes
    proof: ExistenceProof


class StateTree:
    """Commitments to cells, by name. Never changes; ``update`` gives another."""

    __slots__ = ("_radix", "salts")

    def __init__(self, salts: Salts, cells: Mapping[CellName, bytes] | None = None) -> None:
        """The tree of ``cells`` (name to value)."""
        self.salts = salts
        radix = Radix(ics23.EMPTY_CHILD, ics23.inner_hash)
        self._radix = radix if cells is None else radix.update(self._leaves(cells))

    @property
    def root(self) -> bytes:
        """32 bytes that stand for every cell; ``EMPTY_ROOT`` when there is none."""
        return self._radix.label

    def update(self, changes: Mapping[CellName, bytes | None]) -> StateTree:
        """The tree with every cell of ``changes`` set to its value, or taken away where that is None.

        O(changes * log cells). A cell that is not there can be taken away; nothing happens.
        """
        tree = StateTree(self.salts)
        tree._radix = self._radix.update(self._leaves(changes))
        return self if tree._radix is self._radix else tree

    def resalted(self, salts: Salts, cells: Mapping[CellName, bytes]) -> StateTree:
        """The tree of the same ``cells`` under a new secret. Costs every cell.

        BadInput when ``cells`` are not what this tree commits to: a change of secret changes nothing else.
        """
        if StateTree(self.salts, cells).root != self.root:
            raise BadInput(what=f"{len(cells)} cells", where="state tree", why="this tree commits to others")
        return StateTree(salts, cells)

    def __contains__(self, name: CellName) -> bool:
        return self._radix.find(_place(name.key())) is not None

    def commitments(self) -> Iterator[tuple[bytes, bytes]]:
        """Every cell's key and commitment, in the tree's order."""
        return ((leaf.content[:_HASH], leaf.content[_HASH:]) for leaf in self._radix)

    def prove(self, name: CellName, value: bytes) -> OpenedCell:
        """That the cell ``name`` has ``value``. BadInput when this tree commits to another value, or none."""
        key = name.key()
        salt = self.salts.of(_PURPOSE, key, value)
        leaf = self._radix.find(_place(key))
        if leaf is None or leaf.content[_HASH:] != commitment(salt, value):
            raise BadInput(what=str(name), where="state tree", why="it commits to no such cell and value")
        return OpenedCell(name, value, salt, self._existence(leaf))

    def prove_absent(self, name: CellName) -> NonExistenceProof:
        """That there is no cell ``name``. BadInput when there is one, or no cell at all to be its neighbour."""
        key = name.key()
        place = _place(key)
        if self._radix.find(place) is not None:
            raise BadInput(what=str(name), where="state tree", why="there is such a cell")
        left, right = self._radix.neighbours(place)
        if left is None and right is None:
            raise BadInput(what=str(name), where="state tree", why="an empty tree is shown by its root")
        return NonExistenceProof(
            key,
            None if left is None else self._existence(left),
            None if right is None else self._existence(right),
        )

    def _existence(self, leaf: Leaf[bytes]) -> ExistenceProof:
        return ics23.existence(leaf.content[:_HASH], leaf.content[_HASH:], self._radix.siblings(leaf.path))

    def _leaves(self, changes: Mapping[CellName, bytes | None]) -> dict[int, Leaf[bytes] | None]:
        leaves: dict[int, Leaf[bytes] | None] = {}
        salt = self.salts.of
        for name, value in changes.items():
            key = name.key()
            place = ics23.key_hash(key)
            path = int.from_bytes(place, "big")
            if value is None:
                leaves[path] = None
            else:
                committed = commitment(salt(_PURPOSE, key, value), value)
                leaves[path] = Leaf(path, ics23.leaf_hash_at(place, committed), key + committed)
        return leaves


def commitment(salt: bytes, value: bytes) -> bytes:
    """What stands in the tree for ``value``: 32 bytes that say nothing to whoever does not have the salt."""
    return digest("cell-value", salt, value)


def verify_cell(cell: OpenedCell, root: bytes) -> None:
    """That the state with ``root`` has this cell with this value. Raises InvalidProof otherwise."""
    where = f"cell {cell.name.kind} {cell.name.subject}".rstrip()
    if len(cell.salt) != SALT_BYTES:
        raise InvalidProof(where, f"a salt of {len(cell.salt)} bytes instead of {SALT_BYTES}")
    try:
        ics23.verify_existence(cell.proof, cell.name.key(), commitment(cell.salt, cell.value), root)
    except InvalidProof as fault:
        raise InvalidProof(where, fault.describe()) from None


def verify_absent(name: CellName, proof: NonExistenceProof, root: bytes) -> None:
    """That the state with ``root`` has no cell ``name``. Raises InvalidProof otherwise."""
    ics23.verify_non_existence(proof, name.key(), root)


def _place(key: bytes) -> int:
    return int.from_bytes(ics23.key_hash(key), "big")
