"""One view's numbers as columns: rows are (account, subject), a subject being an instrument or an asset.

Strings are dictionary-coded; a column holds integers in minor units with the decimals of each row beside it, as int64 or, where
a number would not fit, as Python integers. What a side does not tell is not known, which is not zero: ``known`` masks it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

Kind: TypeAlias = Literal["replica", "checkpoint", "venue", "custodian"]
Codes: TypeAlias = npt.NDArray[np.int64]
Values: TypeAlias = npt.NDArray[Any]

SAFE: Final = 1 << 62
"""Numbers up to this stay int64: two of them still subtract without overflow."""


class Column(NamedTuple):
    """One field of every row. ``values``: int64, or object for wide numbers. ``decimals``: of each row. ``known``: which are told."""

    values: Values
    decimals: npt.NDArray[np.int64]
    known: npt.NDArray[np.bool_]


class Figures(msgspec.Struct, frozen=True, eq=False):
    """What ``source`` says. ``account``, ``subject`` index ``accounts`` and ``subjects``; no pair stands twice."""

    source: str
    kind: Kind
    accounts: Sequence[str]
    subjects: Sequence[str]
    account: Codes
    subject: Codes
    columns: Mapping[str, Column]

    def __len__(self) -> int:
        return len(self.account)


Told: TypeAlias = Mapping[str, tuple[int, int] | None]
"""Field -> (integer, decimals), or None where it is not told."""


def figures(source: str, kind: Kind, fields: Sequence[str], rows: Iterable[tuple[str, str, Told]]) -> Figures:
    """Figures from rows of (account, subject, told). Fields that a row leaves out are not told."""
    accounts: dict[str, int] = {}
    subjects: dict[str, int] = {}
    account: list[int] = []
    subject: list[int] = []
    told: dict[str, tuple[list[int], list[int], list[bool]]] = {field: ([], [], []) for field in fields}
    for one, other, values in rows:
        account.append(accounts.setdefault(one, len(accounts)))
        subject.append(subjects.setdefault(other, len(subjects)))
        for field, (numbers, decimals, known) in told.items():
            value = values.get(field)
            numbers.append(value[0] if value else 0)
            decimals.append(value[1] if value else 0)
            known.append(value is not None)
    columns = {
        field: Column(integers(numbers), np.array(decimals, np.int64), np.array(known, np.bool_))
        for field, (numbers, decimals, known) in told.items()
    }
    codes = np.array(account, np.int64), np.array(subject, np.int64)
    return Figures(source, kind, list(accounts), list(subjects), *codes, columns)


def integers(numbers: Sequence[int]) -> Values:
    """The numbers as int64 if all of them are ``SAFE``, else as Python integers."""
    if numbers and (max(numbers) > SAFE or min(numbers) < -SAFE):
        return np.array(numbers, object)
    return np.array(numbers, np.int64)
