"""A binary radix tree over 256-bit paths of which versions stand side by side: what both commitment trees stand on.

Rules, which make the shape a function of the set of leaves and of nothing else (no order, no history):

- A leaf hangs at the shortest prefix of its path that it shares with no other leaf: a subtree with one leaf *is*
  that leaf, a subtree with none is empty.
- Everywhere else stands a fork; its label is ``combine(left label, right label)``, an empty side having the empty label.

Nodes are rows of bytes (``sharedrows``): of a fork its two children and its label, of a leaf its content. A node is named by a number: 0 is
nothing, n > 0 the fork in row n - 1, -n the leaf in row n - 1. What a leaf's content says, its path and its label, is worked out when
it is asked for. An update takes all changes at once, level by level (``radixupdate``): O(changed * log leaves) labels, and one call of
``combine`` for all forks of a level.

Paths are expected to be hashes: nobody can make the tree deep without finding partial collisions, and 256 levels is the end. It knows
nothing of hashing; ``statetree`` and ``sumtree`` bring their labels.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from .sharedrows import Records, SharedRows

DEPTH: Final = 256
KEY_BYTES: Final = 32
"""A content begins with what tells its leaf from all others."""
LINK_BYTES: Final = 8
_links: Final = struct.Struct("<ii").unpack_from


class Labels(NamedTuple):
    """What a kind of tree brings. Rows of bytes in and out: ``paths`` (32 bytes) and ``leaves`` (labels) from contents, ``combine`` from
    left and right labels. ``content``: how many bytes a leaf's content has; a label has as many as ``empty``."""

    empty: bytes
    content: int
    paths: Callable[[Records], Records]
    leaves: Callable[[Records], Records]
    combine: Callable[[Records, Records], Records]


class Changes(NamedTuple):
    """Leaves to put or, where ``gone``, to take away: of those nothing but path and key count. All by row; each key once."""

    paths: Records
    contents: Records
    labels: Records
    gone: npt.NDArray[np.bool_]


class Radix:
    """A set of leaves, and the ``label`` of the whole: the empty label when it has none. A version; never says anything else."""

    __slots__ = ("forks", "label", "labels", "leaves", "top")

    def __init__(self, labels: Labels, forks: SharedRows, leaves: SharedRows, top: int, label: bytes) -> None:
        self.labels, self.forks, self.leaves, self.top, self.label = labels, forks, leaves, top, label

    @classmethod
    def empty(cls, labels: Labels) -> Radix:
        """The tree with no leaf."""
        return cls(labels, SharedRows(LINK_BYTES + len(labels.empty)), SharedRows(labels.content), 0, labels.empty)

    def find(self, path: bytes) -> bytes | None:
        """The content of the leaf at ``path``, if there is one."""
        node, depth = self.top, 0
        while node > 0:
            node = _links(self.forks.one(node - 1))[_turn(path, depth)]
            depth += 1
        content = self._content(node)
        return content if content is not None and self._path(content) == path else None

    def siblings(self, path: bytes) -> tuple[bytes, ...]:
        """The labels beside the way from the top to where ``path`` ends, the deepest first."""
        found: list[bytes] = []
        node = self.top
        while node > 0:
            links, turn = _links(self.forks.one(node - 1)), _turn(path, len(found))
            node = links[turn]
            found.append(self._label(links[1 - turn]))
        found.reverse()
        return tuple(found)

    def neighbours(self, path: bytes) -> tuple[bytes | None, bytes | None]:
        """The contents of the last leaf before ``path`` and of the first one after it, in path order."""
        before = after = depth = 0
        node = self.top
        while node > 0:
            left, right = _links(self.forks.one(node - 1))
            if _turn(path, depth):
                before, node = left or before, right
            else:
                after, node = right or after, left
            depth += 1
        content = self._content(node)
        if content is not None and self._path(content) < path:
            before = node
        if content is not None and self._path(content) > path:
            after = node
        return self._edge(before, rightmost=True), self._edge(after, rightmost=False)

    def __iter__(self) -> Iterator[bytes]:
        """Every leaf's content, in path order."""
        stack = [self.top]
        while stack:
            node = stack.pop()
            if node > 0:
                left, right = _links(self.forks.one(node - 1))
                stack += (right, left)
            elif node:
                yield self.leaves.one(-node - 1)

    def _edge(self, node: int, *, rightmost: bool) -> bytes | None:
        while node > 0:
            left, right = _links(self.forks.one(node - 1))
            node = (right or left) if rightmost else (left or right)
        return self._content(node)

    def _content(self, node: int) -> bytes | None:
        return self.leaves.one(-node - 1) if node else None

    def _path(self, content: bytes) -> bytes:
        return self.labels.paths(_row(content)).tobytes()

    def _label(self, node: int) -> bytes:
        if node > 0:
            return self.forks.one(node - 1)[LINK_BYTES:]
        return self.labels.leaves(_row(self.leaves.one(-node - 1))).tobytes() if node else self.labels.empty


def _row(raw: bytes) -> Records:
    return np.frombuffer(raw, np.uint8).reshape(1, -1)


def _turn(path: bytes, depth: int) -> int:
    """Which way ``path`` goes at ``depth``: 0 left, 1 right."""
    return path[depth >> 3] >> (7 - (depth & 7)) & 1
