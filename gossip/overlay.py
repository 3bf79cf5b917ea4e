"""Who is linked to whom: a graph over the members' names that everybody computes alike.

Up to ``FULL_MESH`` names all are linked to all. Beyond that a full mesh costs more than it gives (n links a node, n heads a second),
and each name keeps about log2 n links instead: the union of rings, each ring holding all names in an order of its own, drawn by
hashing.

Rules.

* Pure: the same names and seed give the same graph, in any order of the names, on every machine. Links go both ways.
* Connected always: one ring alone links everybody. ``rings(n)`` rings: at most twice as many links each, at least two.
* A name that joins or leaves changes the links of its own neighbours on each ring and of nobody else.

The union of random rings is, with overwhelming probability, an expander: its diameter grows as log n, and it holds together when
nodes drop out at random. After Law and Siu, "Distributed construction of random expander networks" (INFOCOM 2003), here without
the protocol: the members are known, so nobody needs to be asked.

What it is not: membership. Who is alive, and whether a link is up, is the transport's to say.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Mapping
from hashlib import sha256
from typing import Final

import msgspec

FULL_MESH: Final = 16
"""So many names are linked all to all."""

_DOMAIN: Final = b"gossip overlay v1\x00"


class Place(msgspec.Struct, frozen=True):
    """One name's place in the overlay: the ``peers`` that it is linked to, and those of them that it shares a branch with."""

    peers: tuple[str, ...]
    branches: tuple[str, ...]


def places(names: Collection[str], seed: bytes = b"", core: Collection[str] = ()) -> dict[str, Place] | None:
    """name -> its place, as ``neighbours`` and ``branches`` draw it; None when so few need no overlay: all are linked to all."""
    if len(set(names)) <= FULL_MESH:
        return None
    links = neighbours(names, seed, core)
    tree = branches(links, seed)
    return {name: Place(links[name], tree[name]) for name in links}


def rings(names: int) -> int:
    """How many rings carry so many names: half of log2, and at least three, so that two failures isolate nobody."""
    return max(3, math.ceil(math.log2(max(2, names)) / 2))


def neighbours(names: Collection[str], seed: bytes = b"", core: Collection[str] = ()) -> dict[str, tuple[str, ...]]:
    """name -> the names that it is linked to, sorted. ``seed`` draws the rings (the genesis' hash, say). The names in ``core`` are
    linked all to all besides."""
    everybody = sorted(set(names))
    links: dict[str, set[str]] = {name: set() for name in everybody}
    if len(everybody) <= FULL_MESH:
        core = everybody
    else:
        for ring in range(rings(len(everybody))):
            order = sorted(everybody, key=lambda name, ring=ring: _place(seed, ring, name))  # type: ignore[misc]
            for one, other in zip(order, [*order[1:], order[0]], strict=True):
                links[one].add(other)
                links[other].add(one)
    meshed = links.keys() & set(core)
    for name in meshed:
        links[name] |= meshed - {name}
    return {name: tuple(sorted(linked)) for name, linked in links.items()}


def branches(links: Mapping[str, Collection[str]], seed: bytes = b"") -> dict[str, tuple[str, ...]]:
    """name -> the neighbours that it shares a branch with, in a spanning tree of connected ``links`` that everybody computes alike: by
    breadth from the name that ``seed`` draws. Where the first broadcasts go along (``gossip.tree``)."""
    if not links:
        return {}
    root = min(links, key=lambda name: _place(seed, 0, name))
    tree: dict[str, set[str]] = {root: set()}
    reached = deque([root])
    while reached:
        above = reached.popleft()
        for name in sorted(links[above]):
            if name not in tree:
                tree[name] = {above}
                tree[above].add(name)
                reached.append(name)
    return {name: tuple(sorted(tree[name])) for name in links}


def _place(seed: bytes, ring: int, name: str) -> bytes:
    """Where ``name`` stands on a ring: every variable part is preceded by its length."""
    return sha256(_DOMAIN + len(seed).to_bytes(4, "big") + seed + ring.to_bytes(4, "big") + name.encode()).digest()
