"""The law checkers pass what is right and find what is subtly wrong, with a story that is short enough to read."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from crdtledger import Ledger
from crdtledger.testing.laws import Crdt, LawBroken, check_law, check_laws, default_settings, laws_of
from tests.testing.crdts import ARRIVAL, COUNTER, KEYS, REUSES_TAGS, RIGHT, WRONG

QUICK = settings(default_settings(), max_examples=25, database=None)
FINDING = settings(default_settings(), database=None)
"""The budget that users have, and another seed at every run."""


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


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_keeps_every_law(name: str) -> None:
    check_laws(*RIGHT[name], settings=QUICK)


@pytest.mark.parametrize("name", REUSES_TAGS)
def test_what_must_not_be_restored_keeps_every_other_law(name: str) -> None:
    """A slot or a tag that is written again from an older copy is lost or taken for another."""
    crdt, operations = REUSES_TAGS[name]
    check_laws(crdt, operations, [law for law in laws_of(crdt) if law != "survives a restore"], settings=QUICK)


def test_ledgers_keep_the_laws_of_a_semilattice() -> None:
    few = settings(QUICK, max_examples=8)
    check_laws(ledgers(), KEYS, ["commutative", "associative", "idempotent", "inflationary"], settings=few)
    check_laws(ledgers(), KEYS, ["converges"], settings=few)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_subtly_wrong_is_found_and_told_in_a_few_steps(name: str) -> None:
    crdt, operations, laws = WRONG[name]
    for law in laws_of(crdt):
        if law in laws:
            with pytest.raises(LawBroken) as found:
                check_law(crdt, law, operations, FINDING)
            assert found.value.law == law
            few = (
                9 if law != "deterministic" else 20
            )  # what is drawn twice comes out alike by luck, the likelier the shorter it is
            assert 1 <= len(found.value.story) <= few, str(found.value)
            assert len({repr(value) for _, value in found.value.sides}) > 1


def test_the_story_is_one_that_a_person_can_follow() -> None:
    crdt, operations, _ = WRONG["a document that goes on from an old copy under its old client id"]
    with pytest.raises(LawBroken) as found:
        check_law(crdt, "survives a restore", operations, FINDING)
    told = str(found.value)
    for words in ("survives a restore: no", "is restored from what it was after", "updates: ", "shows {"):
        assert words in told


def test_what_a_function_raises_goes_through_with_the_story() -> None:
    def merge(state: frozenset[int], other: frozenset[int]) -> frozenset[int]:
        if len(state | other) > 1:
            raise KeyError("two")
        return state | other

    crdt = Crdt[frozenset[int], int](new=lambda r: frozenset(), update=lambda s, r, op: s | {op}, merge=merge)
    with pytest.raises(KeyError, match="two") as found:
        check_law(crdt, "commutative", KEYS, FINDING)
    told = "\n".join(found.value.__notes__)
    assert "raised by merge\nwhile looking whether it is commutative:\n" in told
    assert told.count(" updates: ") == 2


def test_what_breaks_once_and_not_again_is_told_as_such() -> None:
    """It depends on what is not in the story: here on how often it was asked before."""
    asked = itertools.count()
    crdt = Crdt[int, int](
        new=lambda r: 0, update=lambda s, r, op: max(s, op), merge=max, value=lambda s: -1 if next(asked) == 40 else s
    )
    with pytest.raises(LawBroken, match="here it broke once, and held when all this was told again") as found:
        check_law(crdt, "idempotent", KEYS, FINDING)
    assert found.value.law == "idempotent"


def test_a_law_that_cannot_be_checked_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'delta' cannot be checked here"):
        check_law(COUNTER, "delta", KEYS)
    with pytest.raises(ValueError, match="'faithful' cannot be checked here"):
        check_law(ARRIVAL, "faithful", st.just("x"))
    lacking = Crdt[int, int](new=lambda r: 0, update=lambda s, r, o: o, merge=max, delta=lambda a, b, r: b)
    with pytest.raises(ValueError, match="merge_delta"):
        check_law(lacking, "delta", KEYS)
