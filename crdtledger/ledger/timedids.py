"""Settled ids that are let go of when their time is past: 128-bit keys, what was said under each, and the span of time it is of.

    after = before.extended(keys, contents, spans).without(low)         # ids of spans from ``low`` on

Like ``seenids``, successive heights share one table, which is only appended to: an older version does not look beyond its own size, and
none looks at spans below its own ``low``. So letting go costs nothing by the id; the table is made anew, without what nobody looks at,
once that is more than what is left. An id that was let go of and is told again is new: the table is made anew for it, too.

Within a span ids are in the order in which they were settled; between spans there is no order, and none is told. It does not know how
long a span is, nor what the ids are of.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crdtledger.errors import InvalidProof
from crdtledger.ledger.factkeys import Keys
from crdtledger.ledger.keytable import KeyTable, Ordinals
from crdtledger.ledger.seenids import Contents, SeenIds

Spans = npt.NDArray[np.int64]
Packed = tuple[tuple[int, bytes, bytes, bytes], ...]

_IDLE = 1_024
"""So many ids may be let go of before their table is made anew, however few are left."""


class _Rows:
    """The ordinals of one span, ascending; only ever appended to."""

    __slots__ = ("count", "ordinals")

    def __init__(self) -> None:
        self.count = 0
        self.ordinals = np.empty(0, np.uint32)

    def append(self, ordinals: Ordinals) -> None:
        end = self.count + len(ordinals)
        if end > len(self.ordinals):
            grown = np.empty(max(end, 2 * self.count), np.uint32)
            grown[: self.count] = self.ordinals[: self.count]
            self.ordinals = grown
        self.ordinals[self.count : end] = ordinals
        self.count = end

    def within(self, size: int) -> int:
        """How many of them are below ``size``."""
        if not self.count or self.ordinals[self.count - 1] < size:
            return self.count
        return int(np.searchsorted(self.ordinals[: self.count], size))


class _Shared:
    """The table that successive heights share."""

    __slots__ = ("contents", "salt", "spanned", "spans", "table")

    def __init__(self, salt: int, capacity: int = 64) -> None:
        self.salt = salt
        self.table = KeyTable(salt, capacity)
        self.contents: Contents = np.empty((capacity, 2), np.uint64)
        self.spans: Spans = np.empty(capacity, np.int64)
        self.spanned: dict[int, _Rows] = {}

    def append(self, keys: Keys, contents: Contents, spans: Spans) -> None:
        """Enter ids that are not in yet; of one that is given twice the first stands."""
        ordinals, new = self.table.insert(*keys)
        size = len(self.table)
        if size > len(self.spans):
            capacity, held = max(size, 2 * len(self.spans)), int(size - new.sum())
            for name, grown in (
                ("contents", np.empty((capacity, 2), np.uint64)),
                ("spans", np.empty(capacity, np.int64)),
            ):
                grown[:held] = getattr(self, name)[:held]
                setattr(self, name, grown)
        fresh, of = ordinals[new], spans[new]
        self.contents[fresh], self.spans[fresh] = contents[new], of
        order = np.argsort(of, kind="stable")
        distinct, starts = np.unique(of[order], return_index=True)
        for span, mine in zip(distinct.tolist(), np.split(fresh[order], starts[1:]), strict=False):
            self.spanned.setdefault(span, _Rows()).append(mine)


class TimedIds:
    """One version. Immutable by convention."""

    __slots__ = ("_held", "_low", "_shared", "_size")

    def __init__(self, salt: int = 0) -> None:
        self._shared = _Shared(salt)
        self._size = self._held = self._low = 0

    def __len__(self) -> int:
        return self._held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TimedIds) and self.pack() == other.pack()

    __hash__ = None  # type: ignore[assignment]

    @property
    def nbytes(self) -> int:
        """Memory held by the table that this one shares with other heights."""
        shared = self._shared
        rows = sum(rows.ordinals.nbytes for rows in shared.spanned.values())
        return shared.table.nbytes + shared.contents.nbytes + shared.spans.nbytes + rows

    def find(self, keys: Keys) -> Ordinals:
        """The ordinal of each key, -1 where it is not settled, or let go of."""
        if not self._held:
            return np.full(len(keys[0]), -1, np.int64)
        found = self._shared.table.find(*keys)
        found[~self._here(found)] = -1
        return found

    def _here(self, ordinals: Ordinals) -> npt.NDArray[np.bool_]:
        """Which ordinals are this version's; -1 is not."""
        here: npt.NDArray[np.bool_] = (ordinals >= 0) & (ordinals < self._size)
        here[here] = self._shared.spans[ordinals[here]] >= self._low
        return here

    def says(self, ordinals: Ordinals) -> Contents:
        """What was said under ids, by their ordinals."""
        said: Contents = self._shared.contents[ordinals]
        return said

    def count(self, span: int) -> int:
        """How many ids of one span there are."""
        rows = self._shared.spanned.get(span) if span >= self._low else None
        return rows.within(self._size) if rows else 0

    def spans(self, stop: int | None = None) -> list[int]:
        """The spans that have ids, ascending; those below ``stop``."""
        spanned = self._shared.spanned
        near = stop is not None and stop - self._low <= len(spanned)
        some = range(self._low, max(self._low, stop or 0)) if near else spanned
        return sorted(s for s in some if (stop is None or s < stop) and self.count(s))

    def rows(self, span: int, after: int = 0) -> tuple[Keys, Contents]:
        """The ids of a span from its number ``after`` on, in the order in which they were settled, and what they say."""
        rows = self._shared.spanned.get(span)
        ordinals = rows.ordinals[after : self.count(span)].astype(np.int64) if rows else np.empty(0, np.int64)
        high, low = self._shared.table.keys(0, self._size)
        return (high[ordinals], low[ordinals]), self.says(ordinals)

    def extended(self, keys: Keys, contents: Contents, spans: Spans) -> TimedIds:
        """These ids and the given ones, each with its span. Of an id that is in already, or given twice, the first stands."""
        if not len(keys[0]):
            return self
        shared = self._shared
        found = shared.table.find(*keys)
        again = (found >= 0) & ~self._here(found)
        idle = self._size - self._held > max(_IDLE, self._held)
        if len(shared.table) > self._size or idle or again.any():
            shared = self._anew(len(keys[0]))
        before = len(shared.table)
        shared.append(keys, contents, spans)
        size = len(shared.table)
        return self._version(shared, size, self._held + int((shared.spans[before:size] >= self._low).sum()), self._low)

    def without(self, low: int) -> TimedIds:
        """Without the ids of spans below ``low``."""
        if low <= self._low:
            return self
        gone = sum(map(self.count, self.spans(low)))
        return self._version(self._shared, self._size, self._held - gone, low)

    def _anew(self, more: int) -> _Shared:
        """A table of this version's ids alone, with room for ``more``."""
        shared = _Shared(self._shared.salt, self._held + more)
        here = np.flatnonzero(self._shared.spans[: self._size] >= self._low)
        high, low = self._shared.table.keys(0, self._size)
        shared.append((high[here], low[here]), self._shared.contents[here], self._shared.spans[here])
        return shared

    @staticmethod
    def _version(shared: _Shared, size: int, held: int, low: int) -> TimedIds:
        version = TimedIds.__new__(TimedIds)
        version._shared, version._size, version._held, version._low = shared, size, held, low
        return version

    def pack(self) -> Packed:
        """Span by span, ascending: both halves of the keys, and what they say, little-endian."""
        return tuple((span, *_columns(*self.rows(span))) for span in self.spans())


def _columns(keys: Keys, contents: Contents) -> tuple[bytes, bytes, bytes]:
    return (
        keys[0].astype("<u8").tobytes(),
        keys[1].astype("<u8").tobytes(),
        contents.astype("<u8").tobytes(),
    )


def unpack_timed(packed: Packed, low: int, salt: int, where: str) -> TimedIds:
    """What ``pack`` wrote of a version without spans below ``low``. InvalidProof unless its columns fit, and no id stands twice."""
    for span, highs, lows, contents in packed:
        if len(highs) % 8 or len(lows) != len(highs) or len(contents) != 2 * len(highs):
            raise InvalidProof(where, "its columns are not of one length")
        if not highs or not low <= span < 1 << 62:
            raise InvalidProof(where, "a span is empty, or of no time that is kept")
    high, lower = _numbers(b"".join(one[1] for one in packed)), _numbers(b"".join(one[2] for one in packed))
    said: Contents = _numbers(b"".join(one[3] for one in packed)).reshape(-1, 2)
    spans = np.repeat(np.array([one[0] for one in packed], np.int64), [len(one[1]) // 8 for one in packed])
    ids = TimedIds(salt).without(low).extended((high, lower), said, spans)
    if len(ids) != len(high):
        raise InvalidProof(where, "an id stands in it twice")
    return ids


def _numbers(raw: bytes) -> npt.NDArray[np.uint64]:
    return np.frombuffer(raw, "<u8").astype(np.uint64)


class BothIds:
    """Ids that are kept for good and ids that are timed, looked up together: what ``find`` tells is for ``says`` alone."""

    __slots__ = ("_kept", "_timed")

    def __init__(self, kept: SeenIds, timed: TimedIds) -> None:
        self._kept, self._timed = kept, timed

    def __len__(self) -> int:
        return len(self._kept) + len(self._timed)

    def find(self, keys: Keys) -> Ordinals:
        """A number for each key, -1 where it is in neither."""
        kept, timed = self._kept.find(keys), self._timed.find(keys)
        found: Ordinals = np.where(kept >= 0, 2 * kept, np.where(timed >= 0, 2 * timed + 1, -1))
        return found

    def says(self, numbers: Ordinals) -> Contents:
        """What was said under ids, by their numbers."""
        timed = numbers % 2 == 1
        said = np.empty((len(numbers), 2), np.uint64)
        said[timed] = self._timed.says(numbers[timed] // 2)
        said[~timed] = self._kept.says(numbers[~timed] // 2)
        return said
