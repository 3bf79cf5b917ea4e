"""The law checkers pass what is right and find what is subtly wrong, with a story that is short enough to read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from pycrdt import Array, Map, Text

from crdtledger import Ledger
from crdtledger.testing.laws import Crdt, LawBroken, check_law, check_laws, default_settings, laws_of
from crdtledger.testing.pycrdtlaws import document_crdt

QUICK = settings(default_settings(), max_examples=40, database=None)
FINDING = settings(default_settings(), max_examples=400, database=None, derandomize=True)
KEYS = st.integers(0, 3)

Counts = dict[str, int]


def larger(state: Counts, other: Counts) -> Counts:
    return {name: max(state.get(name, 0), other.get(name, 0)) for name in {**state, **other}}


def counted(state: Counts, replica: str, by: int) -> Counts:
    return {**state, replica: state.get(replica, 0) + by}


GROW_SET: Crdt[frozenset[int], int] = Crdt(
    new=lambda replica: frozenset(),
    update=lambda state, replica, element: state | {element},
    merge=lambda state, other: state | other,
    delta=lambda before, after, replica: after - before,
    merge_delta=lambda state, delta: state | delta,
)
COUNTER: Crdt[Counts, int] = Crdt(
    new=lambda replica: {}, update=counted, merge=larger, value=lambda state: sum(state.values())
)
REGISTER: Crdt[tuple[int, str, str], str] = Crdt(
    new=lambda replica: (0, "", ""),
    update=lambda state, replica, text: (state[0] + 1, replica, text),
    merge=max,
    value=lambda state: state[2],
)


def observed_remove() -> Crdt[Any, tuple[str, int]]:
    """Adds are tagged, removes name the tags that they saw."""

    def update(state: Any, replica: str, op: tuple[str, int]) -> Any:
        adds, gone = state
        if op[0] == "add":
            return adds | {(op[1], replica, len(adds))}, gone
        return adds, gone | {tag for tag in adds if tag[0] == op[1]}

    return Crdt(
        new=lambda replica: (frozenset(), frozenset()),
        update=update,
        merge=lambda state, other: (state[0] | other[0], state[1] | other[1]),
        value=lambda state: {element for element, *_ in state[0] - state[1]},
    )


def ledgers() -> Crdt[tuple[str, frozenset[bytes]], int]:
    """This project's own replica: what it holds is the set of its batches, and a join is a union."""
    names = ("a", "b", "c")

    def opened(state: tuple[str, frozenset[bytes]]) -> Ledger:
        mine = dict(zip(names, Ledger.cluster(*names, assets={"USDT": 2}), strict=True))[state[0]]
        mine.admit(sorted(state[1]))
        return mine

    def update(state: tuple[str, frozenset[bytes]], replica: str, number: int) -> tuple[str, frozenset[bytes]]:
        ledger = opened(state)
        ledger.record({"kind": "account", "name": f"{replica}{number}"})
        return state[0], frozenset(ledger.batches())

    return Crdt(
        new=lambda replica: (replica, frozenset()),
        update=update,
        merge=lambda state, other: (state[0], frozenset(state[1] | other[1])),
        value=lambda state: opened(state).digest(),
    )


def documents() -> dict[str, Crdt[Any, Any]]:
    def write(doc: Any, op: tuple[str, str]) -> None:
        doc.get("m", type=Map)[op[0]] = op[1]

    return {
        "map": document_crdt(write, lambda doc: doc.get("m", type=Map).to_py()),
        "text": document_crdt(
            lambda doc, op: doc.get("t", type=Text).insert(0, op[1]), lambda doc: str(doc.get("t", type=Text))
        ),
        "array": document_crdt(
            lambda doc, op: doc.get("a", type=Array).append(op[1]), lambda doc: doc.get("a", type=Array).to_py()
        ),
    }


WORDS = st.tuples(st.sampled_from("kl"), st.sampled_from("xyz"))
RIGHT: dict[str, tuple[Crdt[Any, Any], st.SearchStrategy[Any]]] = {
    "grow-only set": (GROW_SET, KEYS),
    "register": (REGISTER, st.sampled_from("xy")),
    "observed-remove set": (observed_remove(), st.tuples(st.sampled_from(("add", "remove")), KEYS)),
    **{f"pycrdt {kind}": (crdt, WORDS) for kind, crdt in documents().items()},
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_keeps_every_law(name: str) -> None:
    check_laws(*RIGHT[name], settings=QUICK)


def test_a_counter_keeps_every_law_but_must_not_be_restored() -> None:
    """A slot that is written again from an older copy loses counts, and yet all converge: the laws do not say otherwise."""
    check_laws(COUNTER, KEYS, settings=QUICK)


def test_ledgers_keep_the_laws_of_a_semilattice() -> None:
    few = settings(QUICK, max_examples=8)
    check_laws(ledgers(), KEYS, ["commutative", "associative", "idempotent", "inflationary"], settings=few)
    check_laws(ledgers(), KEYS, ["converges"], settings=few)


def last_writer(state: tuple[int, str], other: tuple[int, str]) -> tuple[int, str]:
    """Ties go to whoever arrives."""
    return other if other[0] >= state[0] else state


WRONG: dict[str, tuple[Crdt[Any, Any], st.SearchStrategy[Any], set[str]]] = {
    "a register whose ties go to the latest arrival": (
        Crdt(
            new=lambda replica: (0, ""),
            update=lambda state, replica, text: (state[0] + 1, text),
            merge=last_writer,
            value=lambda state: state[1],
        ),
        st.sampled_from("xy"),
        {"commutative", "converges"},
    ),
    "a document that goes on from an old copy under its old client id": (
        document_crdt(
            lambda doc, op: doc.get("m", type=Map).update({op[0]: op[1]}),
            lambda doc: doc.get("m", type=Map).to_py(),
            keeps_client_id=True,
        ),
        WORDS,
        {"survives a restore"},
    ),
    "a counter that adds what it merges": (
        Crdt(
            new=lambda replica: {},
            update=counted,
            merge=lambda state, other: {n: state.get(n, 0) + other.get(n, 0) for n in {**state, **other}},
            value=lambda state: sum(state.values()),
        ),
        st.integers(1, 3),
        {"idempotent"},
    ),
    "a counter with one slot for all": (
        Crdt(new=lambda replica: 0, update=lambda state, replica, by: state - by, merge=max),
        st.integers(1, 3),
        {"inflationary"},
    ),
    "a set whose element cannot be removed while somebody still has it": (
        Crdt(
            new=lambda replica: frozenset(),
            update=lambda state, replica, op: state | {op[1]} if op[0] == "add" else state - {op[1]},
            merge=lambda state, other: state | other,
        ),
        st.tuples(st.sampled_from(("add", "remove")), KEYS),
        {"inflationary"},
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
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_subtly_wrong_is_found_and_told_in_a_few_steps(name: str) -> None:
    crdt, operations, laws = WRONG[name]
    for law in laws_of(crdt):
        if law in laws:
            with pytest.raises(LawBroken) as found:
                check_law(crdt, law, operations, FINDING)
            assert found.value.law == law
            assert 1 <= len(found.value.story) <= 6, str(found.value)
            assert len({repr(value) for _, value in found.value.sides}) > 1


def test_the_story_is_one_that_a_person_can_follow() -> None:
    crdt, operations, _ = WRONG["a document that goes on from an old copy under its old client id"]
    with pytest.raises(LawBroken) as found:
        check_law(crdt, "survives a restore", operations, FINDING)
    told = str(found.value)
    for words in ("survives a restore: no", "is restored from what it was after", "updates: ", "shows {"):
        assert words in told


def test_a_law_that_cannot_be_checked_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'delta' cannot be checked here"):
        check_law(COUNTER, "delta", KEYS)
    lacking = Crdt[int, int](new=lambda r: 0, update=lambda s, r, o: o, merge=max, delta=lambda a, b, r: b)
    with pytest.raises(ValueError, match="merge_delta"):
        check_law(lacking, "delta", KEYS)
