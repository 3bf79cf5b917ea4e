"""Settled ids: 128-bit keys in the order in which they were settled, each with 128 bits of what was said under it.

Append-only. A settled state holds a ``SeenIds``; the next height's holds that one extended. Both share one table: the older
one just does not look beyond its own size. Extending costs the new rows, unless somebody else (a proposal that was settled
and then not decided) has extended the shared table already: then the common part is copied once.

It does not know what the ids are of: fills, busts and facts that move rights each have their own.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crdtledger.errors import InvalidProof
from crdtledger.ledger.factkeys import Keys
from crdtledger.ledger.growing import Growing
from crdtledger.ledger.keytable import KeyTable, Ordinals

Contents = npt.NDArray[np.uint64]
"""Shape (n, 2): the 128 bits that stand for what each of n facts says (``contents.fact_contents``)."""


class _Shared:
    """The table that successive heights share; only ever appended to."""

    __slots__ = ("contents", "salt", "table")

    def __init__(self, salt: int, capacity: int = 64) -> None:
        self.salt = salt
        self.table = KeyTable(salt, capacity)
        self.contents = Growing(np.uint64, 2)

    def append(self, keys: Keys, contents: Contents) -> None:
        """Enter ids that are not in yet, each once; those that are keep what they say."""
        ordinals, new = self.table.insert(*keys)
        self.contents.reserve(len(self.table), len(self.table) - int(new.sum()))
        self.contents.items[ordinals[new]] = contents[new]


class SeenIds:
    """Settled ids and what they say. Immutable by convention: ``extended`` answers with another one."""

    __slots__ = ("_shared", "_size")

    def __init__(self, salt: int = 0) -> None:
        self._shared = _Shared(salt)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SeenIds) and self.pack() == other.pack()

    __hash__ = None  # type: ignore[assignment]

    @property
    def nbytes(self) -> int:
        """Memory held by the table that this one shares with other heights."""
        return self._shared.table.nbytes + self._shared.contents.nbytes

    def find(self, keys: Keys) -> Ordinals:
        """The ordinal of each key, -1 where it is not settled."""
        if not self._size:
            return np.full(len(keys[0]), -1, np.int64)
        found = self._shared.table.find(*keys)
        found[found >= self._size] = -1
        return found

    def says(self, ordinals: Ordinals) -> Contents:
        """What was said under ids, by their ordinals."""
        said: Contents = self._shared.contents.items[ordinals]
        return said

    def rows(self, after: int = 0) -> tuple[Keys, Contents]:
        """The ids from ordinal ``after`` on, in the order in which they were settled, and what they say."""
        return self._shared.table.keys(after, self._size), self._shared.contents.items[after : self._size]

    def extended(self, keys: Keys, contents: Contents) -> SeenIds:
        """These ids and the given ones after them. Of an id that is in already, or given twice, the first stands."""
        if not len(keys[0]):
            return self
        later = SeenIds.__new__(SeenIds)
        if len(self._shared.table) == self._size:
            later._shared = self._shared
        else:
            later._shared = _Shared(self._shared.salt, self._size + len(keys[0]))
            later._shared.append(*self.rows())
        later._shared.append(keys, contents)
        later._size = len(later._shared.table)
        return later

    def pack(self) -> tuple[bytes, bytes, bytes]:
        """Both halves of the keys, and what they say, little-endian."""
        (high, low), contents = self.rows()
        return high.astype("<u8").tobytes(), low.astype("<u8").tobytes(), contents.astype("<u8").tobytes()


def unpack_seen(packed: tuple[bytes, bytes, bytes], salt: int, where: str) -> SeenIds:
    """What ``pack`` wrote. InvalidProof unless the columns are of one length and no id stands twice."""
    high, low, contents = packed
    if len(high) % 8 or len(low) != len(high) or len(contents) != 2 * len(high):
        raise InvalidProof(where, "its columns are not of one length")
    keys = (np.frombuffer(high, "<u8").astype(np.uint64), np.frombuffer(low, "<u8").astype(np.uint64))
    seen = SeenIds(salt).extended(keys, np.frombuffer(contents, "<u8").astype(np.uint64).reshape(-1, 2))
    if len(seen) != len(keys[0]):
        raise InvalidProof(where, "an id stands in it twice")
    return seen
