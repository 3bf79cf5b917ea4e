"""A key table is a dict from keys to the order of their first sight."""

from __future__ import annotations

import time
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtledger.ledger import keytable
from crdtledger.ledger.keytable import NEAR, STRETCH, KeyTable

Key = tuple[int, int]
parts = st.one_of(st.integers(0, 3), st.integers(0, (1 << 64) - 1), st.integers(0, 40).map(lambda k: k << 58))
keys = st.lists(st.tuples(parts, parts), max_size=40)


def columns(rows: list[Key]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    return np.array([high for high, _ in rows], np.uint64), np.array([low for _, low in rows], np.uint64)


def put_in_both(table: KeyTable, model: dict[Key, int], put: list[Key]) -> None:
    """The table numbers these keys as the dict does."""
    expected_new = []
    for key in put:
        expected_new.append(key not in model)
        model.setdefault(key, len(model))
    ordinals, new = table.insert(*columns(put))
    assert new.tolist() == expected_new
    assert ordinals.tolist() == [model[key] for key in put]


@given(st.lists(st.tuples(keys, keys), max_size=12), st.integers(0, (1 << 64) - 1))
def test_it_numbers_keys_as_a_dict_would(steps: list[tuple[list[Key], list[Key]]], salt: int) -> None:
    table, model = KeyTable(salt, capacity=1), dict[Key, int]()
    for put, ask in steps:
        put_in_both(table, model, put)
        assert table.find(*columns(ask)).tolist() == [model.get(key, -1) for key in ask]
        assert [table.holds(*key) for key in ask] == [key in model for key in ask]
        assert len(table) == len(model)


class OneHome(KeyTable):
    """Every key wants the same slot and bears the same mark: the worst that chosen ids could do to a table without a salt."""

    __slots__ = ()

    def _marks(self, high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        return np.zeros(len(high), np.uint64)

    def _mark(self, high: int, low: int) -> int:
        return 0


@given(st.lists(keys, max_size=8))
def test_colliding_keys_stay_apart(steps: list[list[Key]]) -> None:
    table, model = OneHome(capacity=1), dict[Key, int]()
    for put in steps:
        put_in_both(table, model, put)
        assert table.find(*columns(list(model))).tolist() == list(model.values())


def test_keys_chosen_to_look_alike_do_not_stall_it() -> None:
    rows = 4_096 * 8
    n = np.arange(rows, dtype=np.uint64)
    zero = np.zeros(rows, np.uint64)
    alike = [(zero, n), (n, zero), (n << np.uint64(48), zero), (zero, n << np.uint64(48)), (n, ~n), (n, n)]
    for salt in (0, 1, 0x5DEECE66D):
        table = KeyTable(salt)
        started = time.process_time()
        for high, low in alike:
            table.insert(high, low)
            assert (table.find(high, low) >= 0).all()
        assert time.process_time() - started < 5


@given(st.integers(0, (1 << 64) - 1), st.integers(1, 4 * STRETCH), st.integers(9, 5_000), st.integers(0, 3))
@settings(max_examples=20)
def test_a_table_of_many_keys_numbers_them_in_order_however_it_grew(salt: int, rows: int, step: int, low: int) -> None:
    table, n = KeyTable(salt, capacity=1), np.arange(rows, dtype=np.uint64)
    constant = np.full(rows, low, np.uint64)
    for start in range(0, rows, step):
        part = slice(max(0, start - 3), start + step)  # three are said again
        ordinals, new = table.insert(n[part], constant[part])
        assert (ordinals == n[part]).all()
        assert (new == (n[part] >= start)).all()
    assert (table.find(n, constant) == n).all()
    assert (table.find(n, constant + np.uint64(1)) == -1).all()
    assert np.array_equal(table.keys(0, rows)[0], n)


@given(st.lists(st.lists(st.integers(0, 30), min_size=9, max_size=60), max_size=4), st.sampled_from([9, 20, NEAR]))
def test_keys_said_again_and_again_in_one_call_have_one_number(steps: list[list[int]], near: int) -> None:
    table, model = KeyTable(), dict[Key, int]()
    for step in steps:
        put = [(n, n) for n in step]
        with patch.object(keytable, "NEAR", near):
            put_in_both(table, model, put)
        assert list(zip(*(half.tolist() for half in table.keys(0, len(table))), strict=True)) == list(model)
    assert table.find(*columns(list(model))).tolist() == list(model.values())
