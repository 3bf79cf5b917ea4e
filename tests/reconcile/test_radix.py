"""The radix tree in rows against the plain one in objects: every version says what a tree that never shared a byte says."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.radix import Changes, Labels, Radix
from reconcile.radixupdate import updated
from reconcile.rowhashes import Bytes, row_hashes
from tests.reconcile import plain_radix

EMPTY = bytes(32)
# Paths that share long prefixes, end in the same words, or differ in their last bit alone: hashes would never show all of that.
PATHS = st.builds(
    lambda head, tail, last: head + bytes(24 - len(head)) + tail + bytes(8 - len(tail) - 1) + last,
    st.binary(max_size=2),
    st.binary(max_size=1),
    st.sampled_from([b"\x00", b"\x01", b"\x80", b"\xff"]),
)
CHANGES = st.dictionaries(PATHS, st.none() | st.binary(min_size=1, max_size=1), max_size=12)


def leaf_labels(contents: Bytes) -> Bytes:
    return row_hashes(contents)


def combined(left: Bytes, right: Bytes) -> Bytes:
    return row_hashes(np.concatenate([left, right], axis=1))


LABELS = Labels(EMPTY, 33, lambda contents: contents[:, :32], leaf_labels, combined)


def changes_of(changes: dict[bytes, bytes | None]) -> Changes:
    rows = [path + (value or b"\x00") for path, value in changes.items()]
    contents = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 33)
    gone = np.array([value is None for value in changes.values()], np.bool_)
    return Changes(contents[:, :32], contents, leaf_labels(contents), gone)


def plain_of(cells: dict[bytes, bytes]) -> plain_radix.Radix[bytes]:
    tree = plain_radix.Radix(EMPTY, lambda left, right: hashlib.sha256(left + right).digest())
    return tree.update(
        {
            int.from_bytes(path, "big"): plain_radix.Leaf(
                int.from_bytes(path, "big"), hashlib.sha256(path + value).digest(), path + value
            )
            for path, value in cells.items()
        }
    )


def assert_same(tree: Radix, cells: dict[bytes, bytes], asked: list[bytes]) -> None:
    plain = plain_of(cells)
    assert tree.label == plain.label
    assert list(tree) == [leaf.content for leaf in plain]
    for path in [*cells, *asked]:
        number = int.from_bytes(path, "big")
        leaf, beside = plain.find(number), plain.neighbours(number)
        assert tree.find(path) == (leaf.content if leaf else None)
        assert tree.siblings(path) == plain.siblings(number)
        assert tree.neighbours(path) == tuple(one.content if one else None for one in beside)


@given(st.lists(st.tuples(st.integers(0, 20), CHANGES), max_size=6), st.lists(PATHS, max_size=3), st.data())
def test_every_version_says_what_the_plain_tree_says(
    rounds: list[tuple[int, dict[bytes, bytes | None]]], asked: list[bytes], data: st.DataObject
) -> None:
    versions: list[tuple[Radix, dict[bytes, bytes]]] = [(Radix.empty(LABELS), {})]
    for base, changes in rounds:  # a round may stand on any version before it: proposals do that are not decided
        tree, cells = versions[base % len(versions)]
        after = {path: value for path, value in {**cells, **changes}.items() if value is not None}
        later = updated(tree, changes_of(changes)) if changes else tree
        assert (later is tree) == (after == cells)
        versions.append((later, after))
    for tree, cells in data.draw(st.permutations(versions)):
        assert_same(tree, cells, asked)


@given(st.sets(st.integers(0, 2**16), min_size=1, max_size=300), st.integers(1, 50))
def test_many_leaves_come_and_go_as_in_the_plain_tree(names: set[int], step: int) -> None:
    paths = [hashlib.sha256(name.to_bytes(4, "big")).digest() for name in sorted(names)]
    cells = dict.fromkeys(paths, b"1")
    tree = updated(Radix.empty(LABELS), changes_of(dict(cells)))
    gone = dict.fromkeys(paths[::step])
    fewer = updated(tree, changes_of({**gone}))
    again = updated(fewer, changes_of(dict.fromkeys(paths[:: step + 1], b"2")))
    left = {path: b"1" for path in paths if path not in gone}
    assert_same(fewer, left, paths)
    assert_same(again, {**left, **dict.fromkeys(paths[:: step + 1], b"2")}, paths)
    assert_same(tree, cells, paths)


def test_rows_of_what_is_gone_are_used_again() -> None:
    paths = [hashlib.sha256(bytes([at])).digest() for at in range(64)]
    tree = updated(Radix.empty(LABELS), changes_of(dict.fromkeys(paths, b"1")))
    rooms = set()
    for _ in range(8):
        tree = updated(tree, changes_of(dict.fromkeys(paths)))
        tree = updated(tree, changes_of(dict.fromkeys(paths, b"1")))
        rooms.add((int(tree.leaves.room(1)[0]), int(tree.forks.room(1)[0])))
    assert len(rooms) == 1


def test_whoever_refuses_a_label_leaves_the_tree_as_it_was() -> None:
    calls = 0

    def refused(left: Bytes, right: Bytes) -> Bytes:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OverflowError
        return combined(left, right)

    cells = {hashlib.sha256(bytes([at])).digest(): b"1" for at in range(64)}
    tree = updated(Radix.empty(LABELS), changes_of(dict(cells)))
    tree.labels = LABELS._replace(combine=refused)
    with pytest.raises(OverflowError):
        updated(tree, changes_of(dict.fromkeys([*cells, bytes(32)], b"2")))
    assert_same(tree, cells, [bytes(32)])
