"""Views held against each other: the columns find what a plain loop over dictionaries finds, and unknown is neither zero nor flat."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.errors import BadInput
from reconcile.divergence.compare import MISSING, NULL, VALUE, compare
from reconcile.divergence.figures import Figures, Told, figures
from reconcile.divergence.tolerance import Tolerance, parse_tolerances

FIELDS = ("qty", "fees")
amounts = st.one_of(st.integers(-3, 3), st.integers(-(1 << 70), 1 << 70))
tolds = st.fixed_dictionaries({field: st.none() | st.tuples(amounts, st.integers(0, 3)) for field in FIELDS})
tables = st.dictionaries(st.tuples(st.sampled_from("ABC"), st.sampled_from("XY")), tolds, max_size=6)


def side(name: str, table: dict[tuple[str, str], Told]) -> Figures:
    return figures(name, "replica", FIELDS, ((a, s, told) for (a, s), told in table.items()))


def exact(told: Any) -> Fraction | None:
    return None if told is None else Fraction(told[0], 10 ** told[1])


def model(tables: list[dict[tuple[str, str], Told]], field: str) -> dict[tuple[str, str], list[Fraction | None]]:
    keys = sorted({key for table in tables for key in table})
    return {key: [exact(table.get(key, {}).get(field)) for table in tables] for key in keys}


@given(st.lists(tables, min_size=2, max_size=3))
def test_columns_find_what_a_loop_over_dictionaries_finds(given_tables: list[dict[tuple[str, str], Told]]) -> None:
    found = compare([side(f"s{n}", table) for n, table in enumerate(given_tables)], FIELDS)
    values = {field: model(given_tables, field) for field in FIELDS}
    expected = {}
    for key in values["qty"]:
        lacking = any(key not in table for table in given_tables)
        apart = [field for field in FIELDS if len({v for v in values[field][key] if v is not None}) > 1]
        if lacking or apart:
            expected[key] = (apart[0] if apart else "qty", lacking)
    assert [(row.account, row.subject) for row in found] == sorted(expected)
    for row in found:
        field, lacking = expected[row.account, row.subject]
        assert row.field == field
        told = [None if v is None else Fraction(v, 10**row.decimals) for v in row.values]
        assert told == values[field][row.account, row.subject]
        anything = any(values[f][row.account, row.subject][n] for f in FIELDS for n in range(len(given_tables)))
        assert row.type == ((MISSING if anything else NULL) if lacking else VALUE)


@given(tables)
def test_a_view_does_not_differ_from_itself(table: dict[tuple[str, str], Told]) -> None:
    assert compare([side("a", table), side("b", table)], FIELDS) == []


def test_what_is_not_told_is_not_compared() -> None:
    ours, theirs = {("A", "X"): {"qty": (5, 0), "fees": (3, 2)}}, {("A", "X"): {"qty": (5, 0), "fees": None}}
    assert compare([side("a", ours), side("b", theirs)], FIELDS) == []


def test_no_activity_is_not_flat_and_neither_is_a_position() -> None:
    flat, held = {("A", "X"): {"qty": (0, 0)}}, {("A", "X"): {"qty": (7, 0)}}
    assert [row.type for row in compare([side("a", flat), side("b", {})], FIELDS)] == [NULL]
    (row,) = compare([side("a", held), side("b", {})], FIELDS)
    assert (row.type, row.values, row.gap) == (MISSING, (7, None), None)


def test_a_number_cut_to_fewer_decimals_is_rounding_and_a_wrong_one_is_not() -> None:
    ours = side("a", {("A", "X"): {"qty": (123456, 4)}, ("B", "X"): {"qty": (123456, 4)}})
    theirs = side("b", {("A", "X"): {"qty": (1234, 2)}, ("B", "X"): {"qty": (1299, 2)}})
    assert [row.rounding for row in compare([ours, theirs], FIELDS)] == [True, False]


@given(st.integers(-1000, 1000), st.integers(-1000, 1000), st.integers(0, 500), st.integers(0, 200_000))
def test_a_tolerance_allows_what_its_rule_says(a: int, b: int, cents: int, ppm: int) -> None:
    rules = {"qty": Tolerance("", cents * 10**16, ppm)}
    found = compare([side("a", {("A", "X"): {"qty": (a, 2)}}), side("b", {("A", "X"): {"qty": (b, 2)}})], FIELDS, rules)
    allowed = abs(a - b) <= cents or abs(a - b) * 1_000_000 <= max(abs(a), abs(b)) * ppm
    assert bool(found) == (not allowed)


def test_tolerances_are_read_as_written_and_a_bad_one_is_named() -> None:
    assert parse_tolerances(["fees=0.01", "*=2ppm"]) == {
        "fees": Tolerance("0.01", units=10**16),
        "*": Tolerance("2ppm", ppm=2),
    }
    with pytest.raises(BadInput, match="fees=much"):
        parse_tolerances(["fees=much"])
    with pytest.raises(BadInput, match=r"field=0\.01"):
        parse_tolerances(["0.01"])
