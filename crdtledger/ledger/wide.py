"""Sums that never wrap: integers of up to 159 bits as columns of 32-bit limbs.

numpy has no integer wider than 64 bits, and a price times a quantity easily is. A wide number is a row of ``LIMBS``
signed 64-bit columns, least significant first, each holding 32 bits of the number (the top one holds the sign and
the rest). Every lower limb has 31 spare bits, so two billion additions fit between two normalisations; each batch is
followed by one. Equal to Python's ``int`` arithmetic, by property test.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

LIMBS = 5
MASK = (1 << 32) - 1
EXACT = 1 << 53
"""Below this every integer is a float64."""

Limbs: TypeAlias = npt.NDArray[np.int64]
"""Shape (n, LIMBS)."""


def from_int64(numbers: npt.NDArray[np.int64]) -> Limbs:
    """Wide columns of signed 64-bit numbers."""
    out = np.zeros((len(numbers), LIMBS), np.int64)
    out[:, 0] = numbers & MASK
    out[:, 1] = numbers >> 32
    return out


def from_product(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> Limbs:
    """Wide columns of ``a * b``, exact. Both are within -2**62 .. 2**62."""
    sign = np.sign(a) * np.sign(b)
    ua, ub = np.abs(a).astype(np.uint64), np.abs(b).astype(np.uint64)
    half, mask = np.uint64(32), np.uint64(MASK)
    al, ah, bl, bh = ua & mask, ua >> half, ub & mask, ub >> half
    low, cross1, cross2, high = al * bl, al * bh, ah * bl, ah * bh
    out = np.zeros((len(a), LIMBS), np.int64)
    out[:, 0] = low & mask
    out[:, 1] = (low >> half) + (cross1 & mask) + (cross2 & mask)
    out[:, 2] = (cross1 >> half) + (cross2 >> half) + (high & mask)
    out[:, 3] = high >> half
    out *= sign[:, None]
    return out


def from_ints(numbers: Sequence[int]) -> Limbs:
    """Wide columns of Python integers below 2**158 in magnitude."""
    out = np.zeros((len(numbers), LIMBS), np.int64)
    for i, number in enumerate(numbers):
        for limb in range(LIMBS - 1):
            out[i, limb] = number & MASK
            number >>= 32
        out[i, LIMBS - 1] = number
    return out


def spread(numbers: npt.NDArray[np.int64], rows: int) -> tuple[npt.NDArray[np.int64], ...]:
    """Columns, each worth 2**32 times the one before, that add up to the numbers, and whose sums in float64 are exact: no sum of
    ``rows`` of them, which are fewer than 2**21, reaches 2**53. No columns if all are 0."""
    top = biggest(numbers)
    if not top:
        return ()
    return (numbers,) if top * rows < EXACT else (numbers & MASK, numbers >> 32)


def product(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], ...]:
    """``a * b`` as columns, each worth 2**32 times the one before. Both are within -2**62 .. 2**62."""
    return (a * b,) if biggest(a) * biggest(b) < 1 << 62 else tuple(from_product(a, b)[:, : LIMBS - 1].T)


def biggest(numbers: npt.NDArray[np.int64]) -> int:
    """The largest magnitude, 0 of no numbers."""
    return max(int(numbers.max(initial=0)), -int(numbers.min(initial=0)))


def normalise(columns: Limbs) -> None:
    """Carry in place, so that every lower limb is within 0 .. 2**32-1 again. There may be fewer limbs than ``LIMBS``."""
    for limb in range(columns.shape[1] - 1):
        columns[:, limb + 1] += columns[:, limb] >> 32
        columns[:, limb] &= MASK


def to_ints(columns: Limbs) -> list[int]:
    """The numbers themselves."""
    return [to_int(row) for row in columns.tolist()]


def to_int(row: Iterable[int]) -> int:
    """One number from its limbs."""
    return sum(limb << (32 * place) for place, limb in enumerate(row))


def sum_by(keys: npt.NDArray[np.int64], amounts: npt.NDArray[np.int64]) -> dict[int, int]:
    """The exact sum of the amounts of each distinct key."""
    if not len(keys):
        return {}
    order = np.argsort(keys, kind="stable")
    distinct, starts = np.unique(keys[order], return_index=True)
    sums = np.add.reduceat(from_int64(amounts[order])[:, :2], starts, axis=0)
    return dict(zip(distinct.tolist(), to_ints(sums), strict=True))


def add_into(totals: dict[int, int], changes: dict[int, int], sign: int = 1) -> None:
    """Add ``sign * changes`` into ``totals``, in place."""
    for key, amount in changes.items():
        totals[key] = totals.get(key, 0) + sign * amount
