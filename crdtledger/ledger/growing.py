"""An array that grows at its end where it lies, so that room to grow on takes no memory.

    held = Growing("V68")
    held.reserve(count, used)           # held.items has room for ``count``, and its first ``used`` are what they were
    held.items[used:count] = more

A large one is a mapping of its own, not a piece of the heap: what was never written takes no memory, growing moves pages instead of
copying bytes (``mremap``), and nothing is left behind among what others allocate. A small one is an array of numpy's, which costs less than
a mapping does; a quarter of it at most is room.

``items`` is another array after ``reserve``. Whoever keeps a part of the old one has everything copied at that growth, and keeps what
stood there.
"""

from __future__ import annotations

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

    __slots__ = ("_map", "items")

    def __init__(self, dtype: npt.DTypeLike) -> None:
        """No items."""
        self._map: mmap.mmap | None = None
        self.items: npt.NDArray[Any] = np.empty(0, dtype)

    def reserve(self, count: int, used: int) -> None:
        """Make room for ``count`` items. The first ``used`` stay what they are."""
        if count <= len(self.items):
            return
        size = self.items.itemsize
        if count * size < MAPPED:
            items = np.empty(max(count, len(self.items) * 5 // 4), self.items.dtype)
            items[:used] = self.items[:used]
            self.items = items
        else:
            self._map_for(max(count, 2 * len(self.items)), used)

    def _map_for(self, count: int, used: int) -> None:
        dtype, size = self.items.dtype, count * self.items.itemsize
        if self._map is not None:
            self.items = self.items[:0].copy()  # a mapping that somebody looks at stays where it is
            with suppress(BufferError, SystemError):  # somebody does, or this system moves none
                self._map.resize(size)
                self.items = np.frombuffer(self._map, dtype, count)
                return
            self.items = np.frombuffer(self._map, dtype, used)
        mapped = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if size >= _HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
            mapped.madvise(mmap.MADV_HUGEPAGE)
        items: npt.NDArray[Any] = np.frombuffer(mapped, dtype, count)
        items[:used] = self.items[:used]
        self._map, self.items = mapped, items
