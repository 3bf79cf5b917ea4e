"""Updating a radix tree (``radix``), all changes at once and all nodes of a level at once.

Down: every change follows its path to where no fork stands, a *place*; places lie left to right as the sorted paths do. There a leaf
changes, or goes, or a subtree grows of several. Up: level by level, every fork that was passed gets its new children and label, and leaves
its own place to a single leaf or to nothing where no more is left below it. What is beside the way is looked up in one go.

Nothing is written before all of it is worked out, so whoever refuses a label half way (a sum out of range) leaves the tree as it was.

Sums that run on are ``np.add.accumulate``: ``np.cumsum`` makes a text of that name at each call, and Python's cache of attributes keeps
up to 4,096 of them, each in another corner of the heap, which then cannot be given back.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from crdtledger.ledger.sharedrows import Records, Rows, SharedRows

from .radix import KEY_BYTES, LINK_BYTES, Changes, Labels, Radix

Nodes = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]


def updated(tree: Radix, changes: Changes) -> Radix:
    """The tree with all changes made; the very same one when they change nothing."""
    changes = _chosen(changes, _by_path(changes.paths))
    while True:
        way, ends = _way(tree, changes.paths)
        held = tree.leaves.take(np.maximum(-ends.nodes - 1, 0)) if tree.top else np.zeros_like(changes.contents)
        equal = held == changes.contents
        known = equal[:, :KEY_BYTES].all(axis=1) & (ends.nodes < 0)
        idle = np.where(changes.gone, ~known, known & equal.all(axis=1))
        if idle.all():
            return tree
        if not idle.any():
            return _made(tree, changes, way, ends, held, known)
        changes = _chosen(changes, np.flatnonzero(~idle))


class _Ends(NamedTuple):
    """Where every change ends: the leaf or nothing that stands there, how deep, and which link of its level's forks leads there."""

    nodes: Nodes
    depths: Rows
    links: Rows


class _Level(NamedTuple):
    """Forks on the way, left to right: their ``rows``, their children (two by two) and which link of the level above leads to each."""

    rows: Rows
    children: Nodes
    links: Rows


class _Subtrees(NamedTuple):
    """Nodes with their labels."""

    nodes: Nodes
    labels: Records


class _Written(NamedTuple):
    """Forks to be written, by level: rows and records. ``freed``: rows of forks that are no more."""

    rows: list[Rows]
    records: list[Records]
    freed: list[Rows]


def _chosen(changes: Changes, which: Rows) -> Changes:
    return Changes(changes.paths[which], changes.contents[which], changes.labels[which], changes.gone[which])


def _by_path(paths: Records) -> Rows:
    words = np.ascontiguousarray(paths).view(">u8").astype(np.uint64)
    order = np.argsort(words[:, 0], kind="stable")
    first = words[order, 0]
    # The first 64 bits of two hashes are the same so rarely that nobody waits for the others to be compared.
    return order if (first[1:] != first[:-1]).all() else np.lexsort(words.T[::-1])


def _turns(paths: Records, rows: Rows, depths: Rows | int) -> Rows:
    """Which way the paths in ``rows`` go at their depths: 0 left, 1 right."""
    turns: Rows = (paths[rows, depths >> 3] >> (7 - (depths & 7)) & 1).astype(np.int64)
    return turns


# -- down ---------------------------------------------------------------------------------------------------------


def _way(tree: Radix, paths: Records) -> tuple[list[_Level], _Ends]:
    """The forks on the way, from the top, and where it ends."""
    count = len(paths)
    ends = _Ends(np.zeros(count, np.int32), np.zeros(count, np.int64), np.zeros(count, np.int64))
    levels: list[_Level] = []
    active, nodes, links = np.arange(count), np.full(count, tree.top, np.int32), np.zeros(count, np.int64)
    while True:
        forks = nodes > 0
        if not forks.all():
            done = active[~forks]
            ends.nodes[done], ends.links[done], ends.depths[done] = nodes[~forks], links[~forks], len(levels)
            active, nodes, links = active[forks], nodes[forks], links[forks]
        if not len(active):
            return levels, ends
        fresh = np.diff(nodes, prepend=0) != 0
        rows = nodes[fresh].astype(np.int64) - 1
        children = np.ascontiguousarray(tree.forks.take(rows)[:, :LINK_BYTES]).view("<i4").reshape(-1)
        turns = _turns(paths, active, len(levels))
        levels.append(_Level(rows, children, links[fresh]))
        links = 2 * (np.add.accumulate(fresh) - 1) + turns
        nodes = children[links]


# -- at the ends ----------------------------------------------------------------------------------------------------


def _made(tree: Radix, changes: Changes, way: list[_Level], ends: _Ends, held: Records, known: Flags) -> Radix:
    """The tree, where every change changes something. ``held``: contents of the leaves at the ends; ``known``: of the same key."""
    labels, put = tree.labels, ~changes.gone
    fresh = tree.leaves.room(int((put & ~known).sum()))
    nodes = ends.nodes.copy()
    nodes[put & ~known] = -1 - fresh
    places = _places(ends)
    starts = np.flatnonzero(np.diff(places, prepend=-1))
    # A leaf that stood where others come to stand, and is neither changed nor taken away, grows with them.
    beside = starts[(ends.nodes[starts] < 0) & ~np.logical_or.reduceat(known, starts)]
    beside_paths = labels.paths(held[beside])
    order = _by_path(np.concatenate([changes.paths[put], beside_paths]))
    paths = np.concatenate([changes.paths[put], beside_paths])[order]
    leaves = _Subtrees(
        np.concatenate([nodes[put], ends.nodes[beside]])[order],
        np.concatenate([changes.labels[put], labels.leaves(held[beside])])[order],
    )
    bounds = np.add.accumulate(np.bincount(np.concatenate([places[put], places[beside]]), minlength=len(starts)))
    written = _Written([], [], [])
    grown = _grown(tree, paths, leaves, np.concatenate([[0], bounds]), ends.depths[starts], written)
    taken = sum(len(rows) for rows in written.rows)
    top = _ascended(tree, way, grown, ends.depths[starts], ends.links[starts], written)
    rows = -1 - nodes[put].astype(np.int64)
    gone = -1 - ends.nodes[changes.gone].astype(np.int64)
    return Radix(
        labels,
        _rewritten(tree.forks, written, taken),
        tree.leaves.replaced(rows, changes.contents[put], len(fresh), gone),
        int(top.nodes[0]),
        top.labels[0].tobytes(),
    )


def _places(ends: _Ends) -> Rows:
    """Which place every change ends at, from 0, left to right."""
    parted = (np.diff(ends.links, prepend=-1) != 0) | (np.diff(ends.depths, prepend=-1) != 0)
    return np.add.accumulate(parted) - 1


def _rewritten(forks: SharedRows, written: _Written, taken: int) -> SharedRows:
    if not written.rows and not written.freed:
        return forks
    width = forks.width
    return forks.replaced(
        np.concatenate([np.empty(0, np.int64), *written.rows]),
        np.concatenate([np.empty((0, width), np.uint8), *written.records]),
        taken,
        np.concatenate([np.empty(0, np.int64), *written.freed]),
    )


class _Tier(NamedTuple):
    """Forks that grow at one remove from their places: of every child the first leaf and how many."""

    lows: Rows
    sizes: Rows


def _grown(tree: Radix, paths: Records, leaves: _Subtrees, bounds: Rows, depths: Rows, written: _Written) -> _Subtrees:
    """What grows at every place: of the sorted ``leaves`` those from its bound to the next."""
    sizes = np.diff(bounds)
    lows, single = bounds[:-1], sizes == 1
    out = _Subtrees(np.zeros(len(sizes), np.int32), _empties(tree.labels, len(sizes)))
    out.nodes[single], out.labels[single] = leaves.nodes[lows[single]], leaves.labels[lows[single]]
    tiers = _tiers(paths, lows[sizes > 1], sizes[sizes > 1], depths[sizes > 1])
    if not tiers:
        return out
    rows = tree.forks.room(sum(len(tier.sizes) for tier in tiers) // 2)
    end, below = len(rows), _Subtrees(leaves.nodes[:0], leaves.labels[:0])
    for tier in reversed(tiers):
        single, forked = tier.sizes == 1, tier.sizes > 1
        children = _Subtrees(np.zeros(len(tier.sizes), np.int32), _empties(tree.labels, len(tier.sizes)))
        first = tier.lows[single]
        children.nodes[single], children.labels[single] = leaves.nodes[first], leaves.labels[first]
        children.nodes[forked], children.labels[forked] = below
        begin = end - len(tier.sizes) // 2
        below = _forks(tree.labels, rows[begin:end], children, written)
        end = begin
    out.nodes[sizes > 1], out.labels[sizes > 1] = below
    return out


def _tiers(paths: Records, lows: Rows, sizes: Rows, depths: Rows) -> list[_Tier]:
    """How sorted paths part, from the top: ``sizes`` of them from ``lows``, which agree above ``depths``."""
    tiers: list[_Tier] = []
    while len(lows):
        offsets = np.add.accumulate(sizes) - sizes
        within = np.arange(int(sizes.sum())) + np.repeat(lows - offsets, sizes)
        rights = np.add.reduceat(_turns(paths, within, np.repeat(depths, sizes)), offsets)
        lows = np.stack([lows, lows + sizes - rights], axis=1).reshape(-1)
        sizes = np.stack([sizes - rights, rights], axis=1).reshape(-1)
        tiers.append(_Tier(lows, sizes))
        forked = sizes > 1
        lows, sizes, depths = lows[forked], sizes[forked], np.repeat(depths + 1, 2)[forked]
    return tiers


# -- up -------------------------------------------------------------------------------------------------------------


def _ascended(
    tree: Radix, way: list[_Level], grown: _Subtrees, depths: Rows, links: Rows, written: _Written
) -> _Subtrees:
    """The new top, once what has ``grown`` at the ends of the way is carried up. ``written`` gets every fork that changes."""
    at_depth = [np.flatnonzero(depths == depth) for depth in range(len(way) + 1)]
    arriving = [links[at] for at in at_depth]
    below = _Subtrees(grown.nodes[:0], grown.labels[:0])
    beside = _beside(tree, way, arriving[1:])
    for depth in range(len(way) - 1, -1, -1):
        level, here = way[depth], at_depth[depth + 1]
        children = _Subtrees(level.children.copy(), beside[depth])
        children.nodes[links[here]], children.labels[links[here]] = grown.nodes[here], grown.labels[here]
        if depth + 1 < len(way):
            from_below = way[depth + 1].links
            children.nodes[from_below], children.labels[from_below] = below
        below = _joined(tree.labels, level.rows, children, written)
    return below if way else grown


def _beside(tree: Radix, way: list[_Level], arriving: list[Rows]) -> list[Records]:
    """By level, the labels of the children that lie beside the way; those on it are still to come."""
    wanted = []
    for depth, level in enumerate(way):
        open_ = np.ones(len(level.children), np.bool_)
        open_[arriving[depth]] = False
        if depth + 1 < len(way):
            open_[way[depth + 1].links] = False
        wanted.append(np.flatnonzero(open_))
    if not way:
        return []
    nodes = np.concatenate([level.children[at] for level, at in zip(way, wanted, strict=True)]).astype(np.int64)
    found = _empties(tree.labels, len(nodes))
    found[nodes > 0] = tree.forks.take(nodes[nodes > 0] - 1)[:, LINK_BYTES:]
    found[nodes < 0] = tree.labels.leaves(tree.leaves.take(-1 - nodes[nodes < 0]))
    out, begin = [], 0
    for level, at in zip(way, wanted, strict=True):
        labels = _empties(tree.labels, len(level.children))
        labels[at] = found[begin : begin + len(at)]
        begin += len(at)
        out.append(labels)
    return out


def _joined(labels: Labels, rows: Rows, children: _Subtrees, written: _Written) -> _Subtrees:
    """Forks over their children, or what takes their place: where there is no more than one leaf below, that."""
    left, right = children.nodes[0::2], children.nodes[1::2]
    alone = ((left == 0) & (right <= 0)) | ((right == 0) & (left <= 0))
    if not alone.any():
        return _forks(labels, rows, children, written)
    written.freed.append(rows[alone])
    out = _Subtrees(left + right, np.where((right == 0)[:, None], children.labels[0::2], children.labels[1::2]))
    both = np.repeat(~alone, 2)
    kept = _Subtrees(children.nodes[both], children.labels[both])
    out.nodes[~alone], out.labels[~alone] = _forks(labels, rows[~alone], kept, written)
    return out


def _forks(labels: Labels, rows: Rows, children: _Subtrees, written: _Written) -> _Subtrees:
    """Forks in ``rows`` over their children, two by two."""
    combined = labels.combine(children.labels[0::2], children.labels[1::2])
    written.rows.append(rows)
    links = children.nodes.astype("<i4").view(np.uint8).reshape(-1, LINK_BYTES)
    written.records.append(np.concatenate([links, combined], axis=1))
    return _Subtrees((rows + 1).astype(np.int32), combined)


def _empties(labels: Labels, count: int) -> Records:
    return np.tile(np.frombuffer(labels.empty, np.uint8), (count, 1))
