"""Fills of many small batches as one body: one dictionary, one table.

    for part, body in joined(Kind.FILL, sources, numbers, rows):
        keys[part] = fact_keys(body, Kind.FILL)

A column costs some dozen numpy calls however short it is, so what is worked out of columns takes longer for a hundred batches of a hundred
fills than for three of four thousand. What a row says does not depend on the batch that says it: names go by text, ids too. So
batches side by side may be read as one, whose rows are as many as one batch may have, and one that is large stays as it is.

Who counts, and where a fact stands, is still asked of its own batch: ``numbers`` and ``rows`` say where each row of ``part`` comes from.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from crdtledger.ledger.body import MAX_FACTS, Body, Scope
from crdtledger.ledger.facts import ID_IS_TEXT, NO_STRING, Kind

Rows = npt.NDArray[np.int64]
T = TypeVar("T", bound=Hashable)


class Source(Protocol):
    """A batch, or whatever has a body."""

    @property
    def body(self) -> Body: ...


class _Numbers(dict[T, int]):
    """Things by their numbers, given out at first sight."""

    def __missing__(self, thing: T) -> int:
        number = self[thing] = len(self)
        return number

    def of(self, things: Sequence[T]) -> list[int]:
        """The number of each."""
        return [*map(self.__getitem__, things)]


def runs(numbers: Rows) -> Iterator[tuple[int, slice]]:
    """Equal numbers that stand side by side: the number, and where it stands."""
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    bounds = [*starts.tolist(), len(numbers)]
    for at, number in enumerate(numbers[starts].tolist()):
        yield number, slice(bounds[at], bounds[at + 1])


def joined(
    kind: Kind, sources: Sequence[Source], numbers: Rows, rows: Rows, most: int = MAX_FACTS
) -> Iterator[tuple[slice, Body]]:
    """Bodies whose tables of ``kind``, FILL or BUST, are these rows, one after the other; and which of them each has. Those of several
    sources are at most ``most``.

    Row ``rows[n]`` is one of ``sources[numbers[n]]``. Rows of one source stand side by side, in the order of its table."""
    taken: list[tuple[Body, Rows]] = []
    begun, names = 0, 0
    for number, part in runs(numbers):
        body = sources[number].body
        names += len(body.strings) + len(body.scopes)
        if taken and (part.stop - begun > most or names >= NO_STRING):
            yield slice(begun, part.start), _as_one(kind, taken)
            taken, begun, names = [], part.start, len(body.strings) + len(body.scopes)
        taken.append((body, rows[part]))
    if taken:
        yield slice(begun, len(rows)), _as_one(kind, taken)


def _as_one(kind: Kind, taken: Sequence[tuple[Body, Rows]]) -> Body:
    if len(taken) == 1:
        ((body, rows),) = taken
        return body._replace(tables={kind: body.tables[kind][rows]})
    texts, instruments, scopes = _Numbers[str](), _Numbers[tuple[str, bytes]](), _Numbers[Scope]()
    tables, strings, places = [], [], []
    for body, rows in taken:
        table = body.tables[kind]
        tables.append(table if len(rows) == len(table) else table[rows])
        strings.append(texts.of(body.strings))
        numbers = instruments.of(body.instruments)
        places.append(scopes.of([one._replace(instrument=numbers[one.instrument]) for one in body.scopes]))
    raw = [one.tobytes() for one in tables]
    # Not ``np.concatenate``: it compares the fields of every two tables.
    table, sizes = np.frombuffer(bytearray().join(raw), tables[0].dtype), [len(one) for one in tables]
    words, first_word = _side_by_side(strings, sizes)
    for column, which in (
        ("account", slice(None)),
        ("fee_asset", table["fee_asset"] != NO_STRING),
        ("id", table["flags"] & ID_IS_TEXT != 0),
    ):
        table[column][which] = words[table[column][which].astype(np.int64) + first_word[which]]
    numbered, first_scope = _side_by_side(places, sizes)
    table["scope"] = numbered[table["scope"] + first_scope]
    return Body(tuple(texts), tuple(scopes), tuple(instruments), {kind: table}, (), (), (), ())


def _side_by_side(lists: Sequence[Sequence[int]], sizes: Sequence[int]) -> tuple[Rows, Rows]:
    """Lists as one column, and where in it the list of each row begins: of as many rows as ``sizes`` says."""
    lengths = np.array([len(one) for one in lists])
    return np.array([entry for one in lists for entry in one], np.int64), np.repeat(np.cumsum(lengths) - lengths, sizes)
