"""CRDTs of many kinds, as they are right, and as they are subtly wrong: each fault is one that people have shipped.

``RIGHT``: name -> (CRDT, operations). ``WRONG``: name -> (CRDT, operations, the laws that it breaks).
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from pycrdt import Array, Map, Text

from crdtledger.testing.laws import Change, Crdt
from crdtledger.testing.pycrdtlaws import document_crdt

Zoo = dict[str, tuple[Crdt[Any, Any], st.SearchStrategy[Any]]]
KEYS = st.integers(0, 3)
LETTERS = st.sampled_from("xyz")
SET_OPS = st.tuples(st.sampled_from(("add", "remove")), KEYS)
MAP_OPS = st.tuples(st.sampled_from("kl"), LETTERS)
LIST_OPS = st.tuples(st.integers(0, 3), LETTERS)
WORDS = st.tuples(st.sampled_from("kl"), st.sampled_from("xyz"))
CENTS = st.sampled_from((0.1, 0.2, 0.3, 0.7))

# -- counters -------------------------------------------------------------------------------------------------

Counts = dict[str, Any]


def larger(state: Counts, other: Counts) -> Counts:
    return {name: max(state.get(name, 0), other.get(name, 0)) for name in {**state, **other}}


def counted(state: Counts, replica: str, by: Any) -> Counts:
    return {**state, replica: state.get(replica, 0) + by}


def total(changes: Sequence[Change]) -> int:
    return sum(change.op for change in changes)


COUNTER: Crdt[Counts, int] = Crdt(
    new=lambda replica: {}, update=counted, merge=larger, value=lambda state: sum(state.values()), meaning=total
)


def both_ways(merge: Any) -> Crdt[Any, int]:
    """A counter that goes up and down: (ups, downs)."""

    def update(state: Any, replica: str, by: int) -> Any:
        ups, downs = state
        return (counted(ups, replica, by), downs) if by > 0 else (ups, counted(downs, replica, -by))

    return Crdt(
        new=lambda replica: ({}, {}),
        update=update,
        merge=lambda state, other: tuple(merge(one, two) for one, two in zip(state, other, strict=True)),
        value=lambda state: sum(state[0].values()) - sum(state[1].values()),
        meaning=total,
    )


def added(state: Counts, other: Counts) -> Counts:
    return {name: state.get(name, 0) + other.get(name, 0) for name in {**state, **other}}


# -- registers ------------------------------------------------------------------------------------------------

REGISTER: Crdt[tuple[int, str, str], str] = Crdt(
    new=lambda replica: (0, "", ""),
    update=lambda state, replica, text: (state[0] + 1, replica, text),
    merge=max,
    value=lambda state: state[2],
)
ARRIVAL: Crdt[tuple[int, str], str] = Crdt(
    new=lambda replica: (0, ""),
    update=lambda state, replica, text: (state[0] + 1, text),
    merge=lambda state, other: other if other[0] >= state[0] else state,
    value=lambda state: state[1],
)


def covers(clock: Counts, other: Counts) -> bool:
    return all(clock.get(name, 0) >= count for name, count in other.items())


def undominated(versions: list[tuple[Counts, str]]) -> list[tuple[Counts, str]]:
    kept: list[tuple[Counts, str]] = []
    for version in versions:
        if version not in kept and not any(version[0] != v[0] and covers(v[0], version[0]) for v in versions):
            kept.append(version)
    return kept


def newest(changes: Sequence[Change]) -> list[str]:
    """What is written and not overwritten by somebody who saw it."""
    old = {number for change in changes for number in change.seen}
    return sorted(change.op for change in changes if change.number not in old)


def multi_value(merge: Any) -> Crdt[list[tuple[Counts, str]], str]:
    """A register that keeps all values written at once: a list of (vector clock, value)."""

    def update(state: list[tuple[Counts, str]], replica: str, text: str) -> list[tuple[Counts, str]]:
        clock: Counts = {}
        for seen, _ in state:
            clock = larger(clock, seen)
        return [(counted(clock, replica, 1), text)]

    return Crdt(
        new=lambda replica: [],
        update=update,
        merge=merge,
        value=lambda state: sorted(text for _, text in state),
        meaning=newest,
    )


def one_of_them(state: list[tuple[Counts, str]], other: list[tuple[Counts, str]]) -> list[tuple[Counts, str]]:
    """Concurrent values are settled by size: agreed on everywhere, and one is lost."""
    return (
        [max(undominated([*state, *other]), key=lambda v: (sum(v[0].values()), v[1], sorted(v[0].items())))]
        if (state or other)
        else []
    )


# -- sets -----------------------------------------------------------------------------------------------------

GROW_SET: Crdt[frozenset[int], int] = Crdt(
    new=lambda replica: frozenset(),
    update=lambda state, replica, element: state | {element},
    merge=lambda state, other: state | other,
    delta=lambda before, after, replica: after - before,
    merge_delta=lambda state, delta: state | delta,
)


def present(changes: Sequence[Change]) -> set[int]:
    """Elements that were added, by an add that no remove of them has seen."""
    gone = {
        add.number
        for change in changes
        if change.op[0] == "remove"
        for add in changes
        if add.number in change.seen and add.op == ("add", change.op[1])
    }
    return {change.op[1] for change in changes if change.op[0] == "add" and change.number not in gone}


def observed_remove(**changed: Any) -> Crdt[Any, tuple[str, int]]:
    """Adds are tagged, removes name the tags that they saw."""

    def update(state: Any, replica: str, op: tuple[str, int]) -> Any:
        adds, gone = state
        if op[0] == "add":
            return adds | {(op[1], replica, len(adds))}, gone
        return adds, gone | {tag for tag in adds if tag[0] == op[1]}

    def joined(state: Any, other: Any) -> Any:
        return state[0] | other[0], state[1] | other[1]

    functions: dict[str, Any] = {
        "new": lambda replica: (frozenset(), frozenset()),
        "update": update,
        "merge": joined,
        "value": lambda state: {element for element, *_ in state[0] - state[1]},
        "meaning": present,
        "delta": lambda before, after, replica: (after[0] - before[0], after[1] - before[1]),
        "merge_delta": joined,
    }
    return Crdt(**{**functions, **changed})


def removed_for_good(state: Any, replica: str, op: tuple[str, int]) -> Any:
    adds, gone = state
    return (adds | {op[1]}, gone) if op[0] == "add" else (adds, gone | {op[1]})


# -- lists and maps -------------------------------------------------------------------------------------------

Node = tuple[tuple[int, str], tuple[int, str], str]


def growing_array(rank: Any) -> Crdt[Any, tuple[int, str]]:
    """A list in which each element names the one that it was put behind (RGA). Siblings stand in order of ``rank``."""

    def in_order(nodes: Any) -> list[Node]:
        below: dict[Any, list[Node]] = {}
        for node in nodes:
            below.setdefault(node[1], []).append(node)

        def walk(parent: tuple[int, str]) -> list[Node]:
            return [one for node in sorted(below.get(parent, []), key=rank) for one in (node, *walk(node[0]))]

        return walk((0, ""))

    def update(nodes: Any, replica: str, op: tuple[int, str]) -> Any:
        held = in_order(nodes)
        behind = held[op[0] % len(held)][0] if held else (0, "")
        clock = 1 + max((node[0][0] for node in nodes), default=0)
        return {**nodes, ((clock, replica), behind, op[1]): len(nodes)}

    return Crdt(
        new=lambda replica: {},
        update=update,
        merge=lambda nodes, others: {**nodes, **others},
        value=lambda nodes: "".join(node[2] for node in in_order(nodes)),
    )


def stamped_map(merge: Any) -> Crdt[Any, tuple[str, str]]:
    """A map of registers: key -> [clock, replica, text], changed in place."""

    def update(state: Any, replica: str, op: tuple[str, str]) -> Any:
        cell = state.setdefault(op[0], [0, "", ""])
        cell[:] = [cell[0] + 1, replica, op[1]]
        return state

    return Crdt(
        new=lambda replica: {},
        update=update,
        merge=merge,
        value=lambda state: {key: cell[2] for key, cell in state.items()},
    )


def cells_of_its_own(state: Any, other: Any) -> Any:
    for key, cell in other.items():
        state[key] = max(state.get(key, cell), cell)[:]
    return state


def cells_of_the_other(state: Any, other: Any) -> Any:
    for key, cell in other.items():
        state[key] = max(state.get(key, cell), cell)
    return state


def both_become_the_same(state: Any, other: Any) -> Any:
    for key in {**state, **other}:
        state[key] = other[key] = max(state.get(key, [0]), other.get(key, [0]))[:]
    return state


def documents(**options: Any) -> Zoo:
    def write(doc: Any, op: tuple[str, str]) -> None:
        doc.get("m", type=Map)[op[0]] = op[1]

    return {
        "a pycrdt map": (document_crdt(write, lambda doc: doc.get("m", type=Map).to_py(), **options), WORDS),
        "a pycrdt text": (
            document_crdt(
                lambda doc, op: doc.get("t", type=Text).insert(0, op[1]),
                lambda doc: str(doc.get("t", type=Text)),
                **options,
            ),
            WORDS,
        ),
        "a pycrdt array": (
            document_crdt(
                lambda doc, op: doc.get("a", type=Array).append(op[1]),
                lambda doc: doc.get("a", type=Array).to_py(),
                **options,
            ),
            WORDS,
        ),
    }


RIGHT: Zoo = {
    "a grow-only set": (GROW_SET, KEYS),
    "a register": (REGISTER, st.sampled_from("xy")),
    "a map of registers": (stamped_map(cells_of_its_own), MAP_OPS),
    **documents(),
}
REUSES_TAGS: Zoo = {
    "a counter": (COUNTER, st.integers(1, 3)),
    "a counter that goes both ways": (both_ways(larger), st.sampled_from((-2, -1, 1, 3))),
    "a counter of fractions, summed exactly": (
        Crdt(new=lambda replica: {}, update=counted, merge=larger, value=lambda s: math.fsum(s.values())),
        CENTS,
    ),
    "a list": (growing_array(lambda node: (-node[0][0], node[0][1])), LIST_OPS),
    "an observed-remove set": (observed_remove(), SET_OPS),
    "a register of all that was written at once": (multi_value(lambda a, b: undominated([*a, *b])), LETTERS),
}
"""Right, as long as nobody is restored: they then write the same tag, slot or clock for the second time."""

WRONG: dict[str, tuple[Crdt[Any, Any], st.SearchStrategy[Any], set[str]]] = {
    "a register whose ties go to the latest arrival": (ARRIVAL, st.sampled_from("xy"), {"commutative", "converges"}),
    "a document that goes on from an old copy under its old client id": (
        *documents(keeps_client_id=True)["a pycrdt map"],
        {"survives a restore"},
    ),
    "a counter that adds what it merges": (both_ways(added), st.integers(1, 3), {"idempotent", "faithful"}),
    "a counter whose replicas share one id": (
        Crdt(
            new=lambda replica: {},
            update=lambda state, replica, by: counted(state, "me", by),
            merge=larger,
            value=lambda state: sum(state.values()),
            meaning=total,
        ),
        st.integers(1, 3),
        {"faithful"},
    ),
    "a counter whose slot is written again from an older copy": (COUNTER, st.integers(1, 3), {"survives a restore"}),
    "a counter with one slot for all": (
        Crdt(new=lambda replica: 0, update=lambda state, replica, by: state - by, merge=max),
        st.integers(1, 3),
        {"inflationary"},
    ),
    "a counter that sums fractions as they came": (
        Crdt(new=lambda replica: {}, update=counted, merge=larger, value=lambda state: sum(state.values())),
        CENTS,
        {"commutative"},
    ),
    "a set whose element cannot be removed while somebody still has it": (
        Crdt(
            new=lambda replica: frozenset(),
            update=lambda state, replica, op: state | {op[1]} if op[0] == "add" else state - {op[1]},
            merge=lambda state, other: state | other,
        ),
        SET_OPS,
        {"inflationary"},
    ),
    "a set whose remove wins over adds that it has not seen": (
        observed_remove(
            update=removed_for_good, value=lambda state: set(state[0] - state[1]), delta=None, merge_delta=None
        ),
        SET_OPS,
        {"faithful"},
    ),
    "a set whose delta leaves out what was removed": (
        observed_remove(delta=lambda before, after, replica: (after[0] - before[0], frozenset())),
        SET_OPS,
        {"delta"},
    ),
    "a set that shows its elements as they came": (
        Crdt(
            new=lambda replica: {},
            update=lambda state, replica, element: {**state, element: True},
            merge=lambda state, other: {**state, **other},
            value=list,
        ),
        KEYS,
        {"commutative"},
    ),
    "a register of all that was written at once, which forgets what arrives": (
        multi_value(lambda a, b: b if not a or (b and covers(b[0][0], a[0][0])) else a),
        LETTERS,
        {"commutative", "converges"},
    ),
    "a register of all that was written at once, which keeps the largest": (
        multi_value(one_of_them),
        LETTERS,
        {"faithful"},
    ),
    "a list whose ties go by arrival": (
        growing_array(lambda node: -node[0][0]),
        LIST_OPS,
        {"commutative", "converges"},
    ),
    "a list whose ties are drawn": (
        growing_array(lambda node: (-node[0][0], random.random() * 7 % 1)),
        LIST_OPS,
        {"deterministic"},
    ),
    "a map that shares its cells with whom it heard of": (stamped_map(cells_of_the_other), MAP_OPS, {"separate"}),
    "a map whose merge changes both": (stamped_map(both_become_the_same), MAP_OPS, {"separate"}),
    "a map that begins as the same object everywhere": (
        (
            lambda shared: Crdt(
                new=lambda replica: shared,
                update=lambda state, replica, op: state.__setitem__(*op) or state,
                merge=lambda state, other: {**state, **other},
            )
        )({}),
        MAP_OPS,
        {"separate"},
    ),
    "a delta that leaves out what is 0": (
        Crdt(
            new=lambda replica: frozenset(),
            update=lambda state, replica, element: state | {element},
            merge=lambda state, other: state | other,
            delta=lambda before, after, replica: frozenset(filter(None, after - before)),
            merge_delta=lambda state, delta: state | delta,
        ),
        KEYS,
        {"delta"},
    ),
    "a state that forgets its elements beyond the second on the disk": (
        Crdt(
            new=lambda replica: frozenset(),
            update=lambda state, replica, element: state | {element},
            merge=lambda state, other: state | other,
            save=lambda state: sorted(state)[:2],
            load=lambda saved, replica, life: frozenset(saved),
        ),
        KEYS,
        {"reloads"},
    ),
    "a state that merges no removals that it has not seen begin": (
        observed_remove(merge=lambda a, b: (a[0] | b[0], a[1] | (b[1] & a[0])), delta=None, merge_delta=None),
        SET_OPS,
        {"commutative"},
    ),
}
