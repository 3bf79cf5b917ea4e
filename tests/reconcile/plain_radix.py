"""The radix tree as objects, one node at a time: what ``reconcile.radix`` is held against.

Rules, which make the shape a function of the set of leaves and of nothing else (no order, no history):

- A leaf hangs at the shortest prefix of its path that it shares with no other leaf: a subtree with one leaf *is*
  that leaf, a subtree with none is empty.
- Everywhere else stands a fork; its label is ``combine(left label, right label)``, an empty side having the empty label.

An update takes all changes at once and makes new nodes only along the changed paths: O(changed * log leaves) calls of
``combine``; every untouched subtree is shared with the tree before. A change that changes nothing gives the very same
tree. Paths are expected to be hashes: nobody can make the tree deep without finding partial collisions, and 256
levels is the end.

It knows nothing of hashing; whoever uses it brings labels.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

import msgspec

DEPTH = 256
L = TypeVar("L")


# A million of these stand at a time, and none can be part of a cycle: the garbage collector need not walk over them.


class Leaf(msgspec.Struct, Generic[L], frozen=True, eq=False, gc=False):
    """One leaf: its ``path`` (an integer below 2**256, first turn in the highest bit), its label and opaque content."""

    path: int
    label: L
    content: bytes


class Fork(msgspec.Struct, Generic[L], frozen=True, eq=False, gc=False):
    """An inner node. At least two leaves hang below it; one side may be empty."""

    left: Node[L]
    right: Node[L]
    label: L


Node = Leaf[L] | Fork[L] | None


class Radix(Generic[L]):
    """A set of leaves by path, and the label of the whole."""

    __slots__ = ("_combine", "_empty", "_top")

    def __init__(self, empty: L, combine: Callable[[L, L], L], top: Node[L] = None) -> None:
        self._empty = empty
        self._combine = combine
        self._top = top

    @property
    def label(self) -> L:
        """The label of the whole tree; the empty label when it has no leaf."""
        return self._empty if self._top is None else self._top.label

    def update(self, changes: Mapping[int, Leaf[L] | None]) -> Radix[L]:
        """The tree with every leaf of ``changes`` put at its path, or taken away where it is None."""
        paths = sorted(changes)
        top = _update(self, self._top, paths, [changes[path] for path in paths], 0, len(paths), 0)
        return self if top is self._top else Radix(self._empty, self._combine, top)

    def find(self, path: int) -> Leaf[L] | None:
        """The leaf at ``path``, if there is one."""
        node = self._top
        depth = 0
        while isinstance(node, Fork):
            node = node.right if _turn(path, depth) else node.left
            depth += 1
        return node if node is not None and node.path == path else None

    def siblings(self, path: int) -> tuple[L, ...]:
        """The labels beside the way from the top to where ``path`` ends, the deepest first."""
        found: list[L] = []
        node = self._top
        while isinstance(node, Fork):
            beside, node = (node.left, node.right) if _turn(path, len(found)) else (node.right, node.left)
            found.append(self._empty if beside is None else beside.label)
        found.reverse()
        return tuple(found)

    def neighbours(self, path: int) -> tuple[Leaf[L] | None, Leaf[L] | None]:
        """The last leaf before ``path`` and the first one after it, in path order."""
        before: Node[L] = None
        after: Node[L] = None
        node = self._top
        depth = 0
        while isinstance(node, Fork):
            if _turn(path, depth):
                before, node = (node.left if node.left is not None else before), node.right
            else:
                after, node = (node.right if node.right is not None else after), node.left
            depth += 1
        if node is not None and node.path < path:
            before = node
        if node is not None and node.path > path:
            after = node
        return _edge(before, rightmost=True), _edge(after, rightmost=False)

    def __iter__(self) -> Iterator[Leaf[L]]:
        """Every leaf in path order."""
        stack: list[Node[L]] = [self._top]
        while stack:
            node = stack.pop()
            if isinstance(node, Fork):
                stack += (node.right, node.left)
            elif node is not None:
                yield node

    def _join(self, left: Node[L], right: Node[L]) -> Node[L]:
        if left is None and not isinstance(right, Fork):
            return right
        if right is None and not isinstance(left, Fork):
            return left
        empty = self._empty
        label = self._combine(empty if left is None else left.label, empty if right is None else right.label)
        return Fork(left, right, label)


def _turn(path: int, depth: int) -> int:
    """Which way ``path`` goes at ``depth``: 0 left, 1 right."""
    return path >> (DEPTH - 1 - depth) & 1


def _middle(paths: list[int], first: int, last: int, depth: int) -> int:
    """Where, among sorted paths that agree above ``depth``, those that turn right begin."""
    shift = DEPTH - 1 - depth
    return bisect_left(paths, (paths[first] >> shift | 1) << shift, first, last)


def _update(
    tree: Radix[L], node: Node[L], paths: list[int], leaves: list[Leaf[L] | None], first: int, last: int, depth: int
) -> Node[L]:
    """``node``, at ``depth``, with changes ``first..last-1``, which all lie below it."""
    if first == last:
        return node
    if not isinstance(node, Fork):
        return _rebuilt(tree, node, paths, leaves, first, last, depth)
    if last - first == 1:
        return _changed(tree, node, leaves[first], paths[first], depth)
    middle = _middle(paths, first, last, depth)
    left = _update(tree, node.left, paths, leaves, first, middle, depth + 1)
    right = _update(tree, node.right, paths, leaves, middle, last, depth + 1)
    if left is node.left and right is node.right:
        return node
    return tree._join(left, right)


def _changed(tree: Radix[L], top: Fork[L], leaf: Leaf[L] | None, path: int, depth: int) -> Node[L]:
    """``top``, at ``depth``, with one change below it, in two loops: most forks that an update makes have no other below them."""
    way: list[Fork[L]] = []
    node: Node[L] = top
    shift = DEPTH - 1 - depth
    while isinstance(node, Fork):
        way.append(node)
        node = node.right if path >> shift & 1 else node.left
        shift -= 1
    changed = _rebuilt(tree, node, [path], [leaf], 0, 1, DEPTH - 1 - shift)
    if changed is node:
        return top
    combine = tree._combine
    while way:
        fork = way.pop()
        shift += 1
        left, right = (fork.left, changed) if path >> shift & 1 else (changed, fork.right)
        if left is None or right is None:
            changed = tree._join(left, right)
        else:
            changed = Fork(left, right, combine(left.label, right.label))
    return changed


def _rebuilt(
    tree: Radix[L],
    node: Leaf[L] | None,
    paths: list[int],
    leaves: list[Leaf[L] | None],
    first: int,
    last: int,
    depth: int,
) -> Node[L]:
    """What grows where a leaf or nothing stood."""
    if last - first == 1:
        leaf = leaves[first]
        if node is None:
            return leaf
        if node.path == paths[first]:
            same = leaf is not None and leaf.label == node.label and leaf.content == node.content
            return node if same else leaf
    kept: list[Leaf[L]] = []
    for path, leaf in zip(paths[first:last], leaves[first:last], strict=True):
        if node is not None and path == node.path:
            if leaf is not None and leaf.label == node.label and leaf.content == node.content:
                continue
            node = None
        if leaf is not None:
            kept.append(leaf)
    if node is not None:
        kept.insert(bisect_left(kept, node.path, key=lambda leaf: leaf.path), node)
    return _grown(tree, kept, [leaf.path for leaf in kept], 0, len(kept), depth)


def _grown(tree: Radix[L], leaves: list[Leaf[L]], paths: list[int], first: int, last: int, depth: int) -> Node[L]:
    """The subtree at ``depth`` of the sorted ``leaves[first:last]``."""
    if last - first <= 1:
        return leaves[first] if first < last else None
    middle = _middle(paths, first, last, depth)
    left = _grown(tree, leaves, paths, first, middle, depth + 1)
    right = _grown(tree, leaves, paths, middle, last, depth + 1)
    return tree._join(left, right)


def _edge(node: Node[L], *, rightmost: bool) -> Leaf[L] | None:
    while isinstance(node, Fork):
        here, there = (node.right, node.left) if rightmost else (node.left, node.right)
        node = there if here is None else here
    return node
