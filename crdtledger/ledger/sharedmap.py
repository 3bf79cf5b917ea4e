"""Mappings of which successive versions share one table, so that a height costs the entries it changes, not those it holds.

    after = before.replaced({key: value, gone: None})

Source: the persistent arrays of Baker ("Shallow binding makes functional arrays fast", SIGPLAN Notices 1991). The newest version has
the table; each older one has what it says otherwise, and which version that is otherwise than. So

- the newest reads as quickly as a dict; an older one looks through what changed since, which is little for the heights that are kept;
- a version that is replaced while it is not the newest (a proposal stood on it that was not decided) takes the table back first, at the
  price of what lies between;
- whoever lets go of an older version lets go of its differences: nothing newer knows of it.

Versions are values: none ever says anything else than at first. They are not for several threads. The order of iteration means nothing,
and is not the same in two versions; values are never None.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, Self, TypeVar, cast, overload

K = TypeVar("K")
V = TypeVar("V")
W = TypeVar("W")
T = TypeVar("T")
Pair = tuple[str, str]


class _Table(Generic[K, V]):
    """What the newest version has: values by key."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        return self._values.get(key)

    def put(self, key: K, value: V | None) -> V | None:
        """Enter a value, or take it away; what stood there."""
        if value is None:
            return self._values.pop(key, None)
        before = self._values.get(key)
        self._values[key] = value
        return before

    def __iter__(self) -> Iterator[K]:
        return iter(self._values)


class _PairTable(_Table[Pair, V]):
    """The same by the first name and then by the second: who shares a first name is found at once, and no pair is kept."""

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, V]] = {}

    def get(self, key: Pair) -> V | None:
        row = self._rows.get(key[0])
        return None if row is None else row.get(key[1])

    def put(self, key: Pair, value: V | None) -> V | None:
        first, second = key
        row = self._rows.get(first)
        if value is None:
            if row is None:
                return None
            before = row.pop(second, None)
            if not row:
                del self._rows[first]
            return before
        if row is None:
            row = self._rows[first] = {}
        before = row.get(second)
        row[second] = value
        return before

    def under(self, first: str) -> Iterable[str]:
        """The second names of the keys with this first one."""
        return self._rows.get(first, ())

    def __iter__(self) -> Iterator[Pair]:
        return ((first, second) for first, row in self._rows.items() for second in row)


class Version(Generic[T]):
    """One of the versions of something that is kept in a table. ``_table``: of the newest alone; ``_newer``: of every other."""

    __slots__ = ("_newer", "_table")

    _table: T | None
    _newer: Self | None

    def _own(self) -> T:
        """The table, taken back from the newest version if it is there."""
        versions = [self]
        while versions[-1]._newer is not None:
            versions.append(versions[-1]._newer)
        newest = versions.pop()
        table = newest._table
        assert table is not None  # the newest version has it
        for older in reversed(versions):
            newest._give_way(table, older)
            newest._hand_over(table, older)
            newest = older
        return table

    def _hand_over(self, table: T, version: Self) -> None:
        """From now on ``version`` has the table, which says what it says."""
        self._table, self._newer = None, version
        version._table, version._newer = table, None

    def _give_way(self, table: T, older: Self) -> None:
        """Have the table say what ``older`` says, and keep what this version says otherwise. ``older`` says nothing otherwise then."""
        raise NotImplementedError


class SharedMap(Version[_Table[K, V]], Mapping[K, V]):
    """One version."""

    __slots__ = ("_otherwise", "_size")

    def __init__(self, entries: Mapping[K, V]) -> None:
        self._table = self._empty()
        self._newer = None
        self._otherwise: dict[K, V | None] = {}
        self._size = len(entries)
        for key, value in entries.items():
            self._table.put(key, value)

    def _empty(self) -> _Table[K, V]:
        return _Table()

    def replaced(self, changes: Mapping[K, V | None]) -> SharedMap[K, V]:
        """The version with every value of ``changes``, and without the keys that it has None for."""
        if not changes:
            return self
        if not self._size:  # of which there may be one for everybody: it stands by itself
            return type(self)({key: value for key, value in changes.items() if value is not None})
        table = self._own()
        later = type(self).__new__(type(self))
        later._otherwise = {}
        self._otherwise = _exchange(table, changes)
        later._size = self._size + sum(
            (changes[key] is not None) - (before is not None) for key, before in self._otherwise.items()
        )
        self._hand_over(table, later)
        return later

    def _give_way(self, table: _Table[K, V], older: Self) -> None:
        self._otherwise, older._otherwise = _exchange(table, older._otherwise), {}

    def _changes(self) -> tuple[dict[K, V | None], _Table[K, V]]:
        """What this version has otherwise than the table, and the table."""
        otherwise: dict[K, V | None] = {}
        version = self
        while version._newer is not None:
            otherwise = {**version._otherwise, **otherwise}
            version = version._newer
        assert version._table is not None  # the newest version has it
        return otherwise, version._table

    def __getitem__(self, key: K) -> V:
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    @overload
    def get(self, key: K, /) -> V | None: ...
    @overload
    def get(self, key: K, /, default: V) -> V: ...
    @overload
    def get(self, key: K, /, default: W) -> V | W: ...
    def get(self, key: K, /, default: V | W | None = None) -> V | W | None:
        version = self
        while version._table is None:
            if key in version._otherwise:
                found = version._otherwise[key]
                return default if found is None else found
            assert version._newer is not None  # only the newest version has the table
            version = version._newer
        found = version._table.get(key)
        return default if found is None else found

    def __contains__(self, key: object) -> bool:
        return self.get(cast("K", key)) is not None

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[K]:
        otherwise, table = self._changes()
        if not otherwise:
            return iter(table)
        kept = (key for key in table if key not in otherwise)
        return iter([*kept, *(key for key, value in otherwise.items() if value is not None)])


class PairMap(SharedMap[Pair, V]):
    """A ``SharedMap`` by pairs of names, which knows the pairs of a first name without looking at the others."""

    __slots__ = ()

    def _empty(self) -> _Table[Pair, V]:
        return _PairTable()

    def under(self, first: str) -> list[str]:
        """The second names of all keys with this first one."""
        otherwise, table = self._changes()
        here = dict.fromkeys(cast("_PairTable[V]", table).under(first))
        for (one, second), value in otherwise.items():
            if one == first and value is None:
                here.pop(second, None)
            elif one == first:
                here[second] = None
        return list(here)


def _exchange(table: _Table[K, V], changes: Mapping[K, V | None]) -> dict[K, V | None]:
    """Enter all changes; what stood in their places."""
    return {key: table.put(key, value) for key, value in changes.items()}
