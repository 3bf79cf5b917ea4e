"""The part of mutation testing that says what its figures mean."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from .tally import Mutant, alive, outcome, sample, table

NAMES = st.sets(st.text(min_size=1, max_size=8), max_size=30)
CODES = st.sampled_from([None, 0, 1, 3, 5, 33, 34, 35, 36, -24, -11, -9, 255])
MUTANTS = st.lists(st.builds(Mutant, st.sampled_from("abc"), st.text(max_size=8), CODES))


@given(NAMES, st.integers(0, 40), st.integers(0, 3))
def test_a_sample_is_of_the_mutants_there_are_each_once_and_as_many_as_asked_for(
    names: set[str], count: int, seed: int
) -> None:
    drawn = sample(names, count, seed)
    assert len(drawn) == len(set(drawn)) == min(count, len(names))
    assert set(drawn) <= names


@given(NAMES, NAMES, st.integers(0, 40), st.integers(0, 3))
def test_mutants_that_come_with_new_code_displace_others_but_reorder_none(
    names: set[str], more: set[str], count: int, seed: int
) -> None:
    before, after = sample(names, count, seed), sample(names | more, count, seed)
    kept = [name for name in after if name in names]
    assert kept == before[: len(kept)]


@given(NAMES, st.integers(0, 20), st.integers(0, 20), st.integers(0, 3))
def test_a_small_sample_is_the_beginning_of_a_greater_one(names: set[str], few: int, more: int, seed: int) -> None:
    assert sample(names, few + more, seed)[:few] == sample(names, few, seed)


def test_another_seed_draws_others() -> None:
    names = [str(number) for number in range(1_000)]
    assert len(set(sample(names, 100, 1)) & set(sample(names, 100, 2))) < 30


def test_a_mutant_is_killed_by_a_failing_or_an_endless_test_alone() -> None:
    assert {outcome(code) for code in (1, 3, -24, 36, 255)} == {"killed"}
    assert {outcome(code) for code in (5, 33)} == {"untested"}
    assert {outcome(code) for code in (0, -11, -9, 2, 34, 35)} == {"survived"}, (
        "a crash proves nothing before it is looked at"
    )


@given(MUTANTS)
def test_every_mutant_whose_tests_ran_stands_once_in_the_table(mutants: list[Mutant]) -> None:
    lines, percent = table(mutants)
    ran = [one for one in mutants if one.code is not None]
    heading, *rows, total = [line.split() for line in lines]
    assert heading == ["file", "mutants", "killed", "survived", "untested", "rate"]
    assert [row[0] for row in rows] == sorted({one.file for one in ran})
    figures = [[int(figure) for figure in row[1:5]] for row in rows]
    assert [sum(column) for column in zip(*figures, strict=True)] == [int(f) for f in total[1:5]] or not rows
    assert int(total[1]) == len(ran) == sum(int(figure) for figure in total[2:5])
    killed = len(ran) - len(alive(mutants))
    assert int(total[2]) == killed
    assert percent == (100 * killed / len(ran) if ran else 100.0)


def test_the_table_reads_like_this() -> None:
    mutants = [Mutant("core/a.py", "a.1", 1), Mutant("core/a.py", "a.2", 0), Mutant("core/b.py", "b.1", 33)]
    lines, percent = table([*mutants, Mutant("core/b.py", "b.2", None), Mutant("core/b.py", "b.3", 36)])
    assert [" ".join(line.split()) for line in lines] == [
        "file mutants killed survived untested rate",
        "core/a.py 2 1 1 0 50.0%",
        "core/b.py 2 1 0 1 50.0%",
        "all 4 2 1 1 50.0%",
    ]
    assert percent == 50.0
    assert [one.name for one in alive(mutants)] == ["a.2", "b.1"]
