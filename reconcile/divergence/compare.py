"""Two or three views against each other, whole columns at a time.

Rows are joined by (account, subject) over dictionary codes, so a million rows cost a sort of integers and never a string each. A
record is one difference however many of its fields differ: it takes the first of them in the order of the fields, and names the others.

A row that one side lacks is not a row of zeros. If every side that has it says zero (in the fields that all of them tell), it is a
*null*: an account without activity beside one that is flat; else it is *missing*. A field that a side does not tell is not compared
with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from reconcile.divergence.figures import SAFE, Codes, Column, Figures, Values
from reconcile.divergence.tolerance import Tolerances, rule

VALUE, MISSING, NULL = "value", "missing", "null"


class Difference(NamedTuple):
    """One record that is not the same everywhere. ``values``: one per side at ``decimals``, None where the side does not tell it.
    ``rounding``: the gap is no more than one unit in the last place of the coarser side."""

    account: str
    subject: str
    field: str
    values: tuple[int | None, ...]
    decimals: int
    type: str
    rounding: bool
    also: tuple[str, ...] = ()

    @property
    def gap(self) -> int | None:
        """The first value less the first other one that is not the same; None when a side does not tell."""
        first = self.values[0]
        if first is None:
            return None
        others = [other for other in self.values[1:] if other is not None and other != first]
        return first - others[0] if others else None


class _Join(NamedTuple):
    accounts: list[str]
    subjects: list[str]
    account: Codes  # of every joined row
    subject: Codes
    at: list[Codes]  # per side: the side's row, -1 where it has none


def compare(sides: Sequence[Figures], fields: Sequence[str], tolerances: Tolerances = {}) -> list[Difference]:  # noqa: B006
    """Differences in ``fields`` among ``sides``, sorted by account, then subject. The first side is the one that others are held against,
    and the second and third are held against each other."""
    joined = _join(sides)
    rows = len(joined.account)
    present = np.stack([at >= 0 for at in joined.at]) if sides else np.zeros((0, rows), np.bool_)
    worst = np.full(rows, -1, np.int64)
    differing: list[npt.NDArray[np.bool_]] = []
    rounded: list[npt.NDArray[np.bool_]] = []
    aligned: list[list[Column | None]] = []
    for number, field in enumerate(fields):
        columns = [
            _aligned(side.columns[field], at) if field in side.columns else None
            for side, at in zip(sides, joined.at, strict=True)
        ]
        apart, small = _apart(columns, rows, rule(tolerances, field))
        worst[apart & (worst < 0)] = number
        differing.append(apart)
        rounded.append(small)
        aligned.append(columns)
    lacking: npt.NDArray[np.bool_] = np.asarray(~present.all(axis=0))
    worst[lacking & (worst < 0)] = 0
    chosen = np.flatnonzero(worst >= 0)
    order = sorted(
        chosen.tolist(),
        key=lambda row: (joined.accounts[joined.account[row]], joined.subjects[joined.subject[row]]),
    )
    out = []
    for row in order:
        number = int(worst[row])
        values, decimals = _values(aligned[number], row)
        kind = VALUE
        if lacking[row]:
            told = [_values(columns, row)[0] for columns in aligned if None not in columns]
            kind = MISSING if any(value for each in told for value in each) else NULL
        also = tuple(
            field for other, field in enumerate(fields) if other != number and differing[other][row] and kind == VALUE
        )
        name = joined.accounts[joined.account[row]], joined.subjects[joined.subject[row]]
        small = kind == VALUE and bool(rounded[number][row])
        out.append(Difference(*name, fields[number], values, decimals, kind, small, also))
    return out


def _join(sides: Sequence[Figures]) -> _Join:
    accounts: dict[str, int] = {}
    subjects: dict[str, int] = {}
    coded = []
    for side in sides:
        account = np.array([accounts.setdefault(name, len(accounts)) for name in side.accounts], np.int64)
        subject = np.array([subjects.setdefault(name, len(subjects)) for name in side.subjects], np.int64)
        coded.append((account[side.account], subject[side.subject]) if len(side) else (side.account, side.subject))
    width = max(1, len(subjects))
    keys = [account * width + subject for account, subject in coded]
    every = np.unique(np.concatenate(keys)) if keys else np.empty(0, np.int64)
    at = []
    for side_keys in keys:
        rows = np.full(len(every), -1, np.int64)
        rows[np.searchsorted(every, side_keys)] = np.arange(len(side_keys))
        at.append(rows)
    return _Join(list(accounts), list(subjects), every // width, every % width, at)


def _aligned(column: Column, at: Codes) -> Column:
    """The column in the joined order; rows that the side lacks are not known."""
    if not len(column.values):
        return Column(np.zeros(len(at), np.int64), np.zeros(len(at), np.int64), np.zeros(len(at), np.bool_))
    there = at >= 0
    values = np.where(there, column.values[at], 0)
    return Column(values, np.where(there, column.decimals[at], 0), column.known[at] & there)


def _apart(columns: Sequence[Column | None], rows: int, tolerance: Any) -> tuple[Any, Any]:
    """Which rows have two known values that lie apart, and of which of them the gap is mere rounding."""
    apart = np.zeros(rows, np.bool_)
    small = np.ones(rows, np.bool_)
    for one in range(len(columns)):
        for other in range(one + 1, len(columns)):
            a, b = columns[one], columns[other]
            if a is None or b is None:
                continue
            both = np.flatnonzero(a.known & b.known)
            left, right, decimals = _scaled(a, b, both)
            gap = abs(left - right)
            nonzero = np.flatnonzero(gap != 0)
            larger = np.maximum(abs(left[nonzero]), abs(right[nonzero]))
            beyond = nonzero[~tolerance.allows(gap[nonzero], larger, decimals[nonzero])]
            if not len(beyond):
                continue
            found = both[beyond]
            coarser = np.minimum(a.decimals[found], b.decimals[found])
            unit = [10**places for places in (decimals[beyond] - coarser).tolist()]
            tiny = (a.decimals[found] != b.decimals[found]) & (gap[beyond].astype(object) <= np.array(unit, object))
            apart[found] = True
            small[found] &= tiny.astype(np.bool_)
    return apart, small & apart


def _scaled(a: Column, b: Column, rows: Codes) -> tuple[Values, Values, npt.NDArray[np.int64]]:
    """Both columns' rows at common decimals."""
    decimals = np.maximum(a.decimals[rows], b.decimals[rows])
    return _raise(a, rows, decimals), _raise(b, rows, decimals), decimals


def _raise(column: Column, rows: Codes, decimals: npt.NDArray[np.int64]) -> Values:
    values, places = column.values[rows], decimals - column.decimals[rows]
    if not places.any():
        return values
    if values.dtype != object and len(values):
        factors = 10 ** np.minimum(places, 18)
        if places.max() <= 18 and (abs(values) <= SAFE // factors).all():
            return np.asarray(values * factors)
    return np.asarray(values.astype(object) * np.array([10**shift for shift in places.tolist()], object))


def _values(columns: Sequence[Column | None], row: int) -> tuple[tuple[int | None, ...], int]:
    """What each side says in one row, at common decimals."""
    told = [column is not None and bool(column.known[row]) for column in columns]
    decimals = max((int(c.decimals[row]) for c, known in zip(columns, told, strict=True) if c and known), default=0)
    out: list[int | None] = []
    for column, known in zip(columns, told, strict=True):
        if column is None or not known:
            out.append(None)
        else:
            out.append(int(column.values[row]) * 10 ** (decimals - int(column.decimals[row])))
    return tuple(out), decimals
