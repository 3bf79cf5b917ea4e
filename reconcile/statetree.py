"""The state tree: one root over every settled cell, from which one account can be shown without showing another.

Source: a sparse Merkle tree in the form of ICS-23's ``SmtSpec`` (see ``ics23``). In its terms a cell's *key* is the
digest of its name and its *value* is a commitment ``digest("cell-value", salt, value)``; the cell's real value and its
salt stand only in a proof made for its owner, together with that salt and no other.

- The root is a function of the cells alone, never of the order or history of updates: putting a cell and taking it
  away gives the root of a tree that never had it.
- Updating costs the cells changed. A tree never changes; updating gives a new one that shares the rest, so the trees
  of several heights can be kept side by side (``sharedrows``).
- The tree holds commitments, not values: the settled state has those, and hands them in to prove them.

What a proof still tells its reader: how deep the tree is there, hence about how many cells there are; and a proof of
absence shows the name digests of two neighbours, against which names can be guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Final

import msgspec
import numpy as np

from crdtledger.errors import BadInput, InvalidProof
from crdtledger.ledger.identity import digest_each, sized

from . import ics23
from .cells import CellName, cell_keys
from .ics23 import ExistenceProof, NonExistenceProof
from .radix import Changes, Labels, Radix
from .radixupdate import updated
from .rowhashes import Bytes, digest_rows, row_hashes
from .salts import SALT_BYTES, Salts

EMPTY_ROOT = ics23.EMPTY_CHILD
_PURPOSE = b"cell"
_HASH = ics23.HASH_BYTES
_CHUNK: Final = 4_096
"""So many cells are hashed at a time: more do not become quicker, and their hashes take memory that what stays is then scattered over."""


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
        self._radix = Radix.empty(_LABELS)
        if cells:
            self._radix = updated(self._radix, self._changes(cells))

    @property
    def root(self) -> bytes:
        """32 bytes that stand for every cell; ``EMPTY_ROOT`` when there is none."""
        return self._radix.label

    def update(self, changes: Mapping[CellName, bytes | None]) -> StateTree:
        """The tree with every cell of ``changes`` set to its value, or taken away where that is None.

        O(changes * log cells). A cell that is not there can be taken away; nothing happens.
        """
        if not changes:
            return self
        tree = StateTree(self.salts)
        tree._radix = updated(self._radix, self._changes(changes))
        return self if tree._radix is self._radix else tree

    def resalted(self, salts: Salts, cells: Mapping[CellName, bytes]) -> StateTree:
        """The tree of the same ``cells`` under a new secret. Costs every cell.

        BadInput when ``cells`` are not what this tree commits to: a change of secret changes nothing else.
        """
        if StateTree(self.salts, cells).root != self.root:
            raise BadInput(what=f"{len(cells)} cells", where="state tree", why="this tree commits to others")
        return StateTree(salts, cells)

    def __contains__(self, name: CellName) -> bool:
        return self._radix.find(ics23.key_hash(name.key())) is not None

    def commitments(self) -> Iterator[tuple[bytes, bytes]]:
        """Every cell's key and commitment, in the tree's order."""
        return ((content[:_HASH], content[_HASH:]) for content in self._radix)

    def prove(self, name: CellName, value: bytes) -> OpenedCell:
        """That the cell ``name`` has ``value``. BadInput when this tree commits to another value, or none."""
        key = name.key()
        salt = self.salts.of(_PURPOSE, key, value)
        content = self._radix.find(ics23.key_hash(key))
        if content is None or content[_HASH:] != commitment(salt, value):
            raise BadInput(what=str(name), where="state tree", why="it commits to no such cell and value")
        return OpenedCell(name, value, salt, self._existence(content))

    def prove_absent(self, name: CellName) -> NonExistenceProof:
        """That there is no cell ``name``. BadInput when there is one, or no cell at all to be its neighbour."""
        key = name.key()
        place = ics23.key_hash(key)
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

    def _existence(self, content: bytes) -> ExistenceProof:
        key = content[:_HASH]
        return ics23.existence(key, content[_HASH:], self._radix.siblings(ics23.key_hash(key)))

    def _changes(self, changes: Mapping[CellName, bytes | None]) -> Changes:
        contents = np.zeros((len(changes), 2 * _HASH), np.uint8)
        gone = np.fromiter((value is None for value in changes.values()), np.bool_, len(changes))
        rest = iter(changes.items())
        for start in range(0, len(changes), _CHUNK):
            part, rows = dict(islice(rest, _CHUNK)), slice(start, start + _CHUNK)
            keys = cell_keys(part)
            put = [(key, value) for key, value in zip(keys, part.values(), strict=True) if value is not None]
            committed = _commitments(self.salts.of_each(_PURPOSE, put), [value for _, value in put])
            contents[rows, :_HASH] = digest_rows(keys)
            contents[rows, _HASH:][~gone[rows]] = digest_rows(committed)
        places = _places(contents)
        return Changes(places, contents, ics23.leaf_hashes_at(places, contents[:, _HASH:]), gone)


def _places(contents: Bytes) -> Bytes:
    return row_hashes(contents[:, :_HASH])


def _leaf_hashes(contents: Bytes) -> Bytes:
    return ics23.leaf_hashes_at(_places(contents), contents[:, _HASH:])


_LABELS: Final = Labels(ics23.EMPTY_CHILD, 2 * _HASH, _places, _leaf_hashes, ics23.inner_hashes)


def commitment(salt: bytes, value: bytes) -> bytes:
    """What stands in the tree for ``value``: 32 bytes that say nothing to whoever does not have the salt."""
    (committed,) = _commitments([salt], [value])
    return committed


def _commitments(salts: Iterable[bytes], values: Iterable[bytes]) -> list[bytes]:
    told = [sized(salt) + sized(value) for salt, value in zip(salts, values, strict=True)]
    return digest_each("cell-value", told)


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
