"""A word table is a dict from words to the order of their first sight."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtledger.ledger.keytable import STRETCH
from crdtledger.ledger.wordtable import WordTable

Column = npt.NDArray[np.uint64]
WORDS = st.lists(
    st.one_of(st.integers(0, 40), st.integers(0, (1 << 64) - 1), st.integers(0, 40).map(lambda word: word << 58)),
    max_size=60,
)
SALTS = st.integers(0, (1 << 64) - 1)


def column(words: list[int]) -> Column:
    return np.array(words, np.uint64)


class OneHome(WordTable):
    """Every word wants the same slot: the worst that names could do to a table without a salt."""

    __slots__ = ()

    def _homes(self, words: Column) -> npt.NDArray[np.int64]:
        return np.zeros(len(words), np.int64)

    def _home(self, word: int) -> int:
        return 0


@given(st.lists(st.tuples(WORDS, WORDS), max_size=8), SALTS, st.sampled_from([WordTable, OneHome]))
def test_it_numbers_words_as_a_dict_would(
    steps: list[tuple[list[int], list[int]]], salt: int, kind: type[WordTable]
) -> None:
    table, model = kind(salt), dict[int, int]()
    for put, ask in steps:
        expected_new = []
        for word in put:
            expected_new.append(word not in model)
            model.setdefault(word, len(model))
        ordinals, new = table.insert(column(put))
        assert new.tolist() == expected_new
        assert ordinals.tolist() == [model[word] for word in put]
        assert table.find(column(ask)).tolist() == [model.get(word, -1) for word in ask]
        assert [table.find(column([word])).tolist() for word in ask] == [[model.get(word, -1)] for word in ask]
        assert len(table) == len(model)
        assert table.words(0, len(table) + 1).tolist() == list(model)


@given(SALTS, st.integers(1, 6 * STRETCH), st.integers(9, 5_000))
@settings(max_examples=20, deadline=None)
def test_a_table_of_many_words_numbers_them_in_order_however_it_grew(salt: int, rows: int, step: int) -> None:
    table, words = WordTable(salt), np.arange(rows, dtype=np.uint64)
    kept = table.words(0, 0)
    for start in range(0, rows, step):
        part = words[max(0, start - 3) : start + step]  # three are said again
        ordinals, new = table.insert(part)
        assert (ordinals == part).all()
        assert (new == (part >= start)).all()
        kept = kept if len(kept) else table.words(0, 5)
    assert (table.find(words) == words).all()
    assert (table.find(words + np.uint64(rows)) == -1).all()
    assert np.array_equal(table.words(0, rows), words)
    assert np.array_equal(kept, words[: len(kept)])  # a copy


def test_a_word_takes_its_bytes_and_at_most_nine_more() -> None:
    table = WordTable()
    for rows in range(100, 40_000, 1_700):
        table.insert(np.arange(rows, dtype=np.uint64))
        assert 8 * rows <= 7 * len(table._slots)
        assert table._slots.nbytes <= 10 * rows
