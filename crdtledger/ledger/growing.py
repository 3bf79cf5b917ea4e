"""An array that grows at its end where it lies, so that room to grow on takes no memory.

    held = Growing("V68")               # or Growing(np.uint64, 2): two to an item
    held.reserve(count, used)           # held.items has room for ``count``, and its first ``used`` are what they were
    held.items[used:count] = more

A large one is a mapping of its own, not a piece of the heap: what was never written takes no memory, growing moves pages instead of
copying bytes (``mremap``), and nothing is left behind among what others allocate. A small one is an array of numpy's, which costs less than
a mapping does; a quarter of it at most is room.

``items`` is another array after ``reserve``. Whoever keeps a part of the old one has everything copied at that growth, and keeps what
stood there.
"""

from __future__ import annotations

import math
import mmap
from contextlib import suppress
from typing import Any, Final

import numpy as np
import numpy.typing as npt

MAPPED: Final = 1 << 20
"""From so many bytes on it is a mapping."""
_HUGE: Final = 1 << 24
"""From so many bytes on its pages may be large: looking around in it is several times as fast, for a megabyte more than is used."""


class Growing:
    """Items of one type. What stands beyond those that were written says nothing."""

    __slots__ = ("_map", "_width", "items")

    def __init__(self, dtype: npt.DTypeLike, *width: int) -> None:
        """No items. ``width``: the shape of one, if it is not a single value."""
        self._map: mmap.mmap | None = None
        self._width = width
        self.items: npt.NDArray[Any] = np.empty((0, *width), dtype)

    @property
    def nbytes(self) -> int:
        """Bytes that the items take, those included that were never written: of a large array they are not there yet."""
        return self.items.nbytes

    def reserve(self, count: int, used: int) -> None:
        """Make room for ``count`` items. The first ``used`` stay what they are."""
        if count <= len(self.items):
            return
        if count * self._item_bytes < MAPPED:
            items = np.empty((max(count, len(self.items) * 5 // 4), *self._width), self.items.dtype)
            items[:used] = self.items[:used]
            self.items = items
        else:
            self._map_for(max(count, 2 * len(self.items)), used)

    @property
    def _item_bytes(self) -> int:
        return self.items.itemsize * math.prod(self._width)

    def _map_for(self, count: int, used: int) -> None:
        size = count * self._item_bytes
        if self._map is not None:
            self.items = self.items[:0].copy()  # a mapping that somebody looks at stays where it is
            with suppress(BufferError, SystemError):  # somebody does, or this system moves none
                self._map.resize(size)
                self._look(self._map, count)
                return
            self._look(self._map, used)
        mapped, before = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), self.items
        self._look(mapped, count)
        self.items[:used] = before[:used]

    def _look(self, mapped: mmap.mmap, count: int) -> None:
        """Have the items be ``count`` in ``mapped``."""
        if len(mapped) >= _HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
            mapped.madvise(mmap.MADV_HUGEPAGE)
        flat = np.frombuffer(mapped, self.items.dtype, count * math.prod(self._width))
        self._map, self.items = mapped, flat.reshape(count, *self._width)
