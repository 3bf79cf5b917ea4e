"""Venue timestamps to integer microseconds since the Unix epoch.

Venues write seconds, milliseconds, microseconds or nanoseconds, and the same venue changes its mind between years
(Binance's public files went from milliseconds to microseconds). The magnitude tells them apart: each unit's range
below covers the years 1973 to 5138 and no two overlap. Below a microsecond, digits are cut off: a timestamp is a
label, not money. ISO 8601 text without an offset is UTC.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np

MILLISECONDS: Final = range(10**11, 10**14)
MICROSECONDS: Final = range(10**14, 10**17)
UNITS: Final = ("auto", "s", "ms", "us", "ns", "iso")

_PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_LATEST_US: Final = 10**17
_NUMERIC: Final = re.compile(r"([0-9]{1,20})(?:\.([0-9]{1,20}))?")
_ISO: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:[.,]([0-9]{1,9}))?"
    r"(Z|[+-][0-9]{2}:?[0-9]{2})?"
)


class NoTimeError(ValueError):
    """The value is no timestamp in the expected unit. The message is the reason."""


def unit_of(value: int) -> str:
    """``s``, ``ms``, ``us`` or ``ns``, by the magnitude of ``value``. Raises ``NoTimeError`` outside 1973 to 5138."""
    for unit, per_second in _PER_SECOND.items():
        if 10**8 * per_second <= value < 10**11 * per_second:
            return unit
    raise NoTimeError("outside the years 1973 to 5138 in any unit")


def to_us(value: int) -> int:
    """Microseconds of a venue timestamp in milliseconds or microseconds. Raises ``NoTimeError`` for anything else."""
    if value in MILLISECONDS:
        return value * 1000
    if value in MICROSECONDS:
        return value
    raise NoTimeError("neither milliseconds nor microseconds since 1970, in the years 1973 to 5138")


def text_to_us(text: str, unit: str) -> int:
    """Microseconds of ``text`` in ``unit`` (one of ``UNITS``). A decimal fraction is allowed. Raises ``NoTimeError``."""
    whole_number = unit in _PER_SECOND and text.isascii() and text.isdigit() and len(text) <= 20
    numeric = None if whole_number else _NUMERIC.fullmatch(text)
    if whole_number:
        us = int(text) * 10**6 // _PER_SECOND[unit]
    elif numeric and unit != "iso":
        whole, fraction = numeric.groups("")
        per_second = _PER_SECOND[unit_of(int(whole)) if unit == "auto" else unit]
        us = int(whole + fraction) * 10**6 // (per_second * int("1" + "0" * len(fraction)))
    elif unit in ("auto", "iso"):
        us = _iso_to_us(text)
    else:
        raise NoTimeError(f"not a number of {unit} since 1970")
    if not 0 < us < _LATEST_US:
        raise NoTimeError(f"outside the years 1970 to 5138 if the unit is {unit}")
    return us


def _iso_to_us(text: str) -> int:
    match = _ISO.fullmatch(text)
    if not match:
        raise NoTimeError("neither a number nor a time like 2024-08-08T23:54:16.172Z")
    date, clock, fraction, offset = match.groups("")
    try:
        seconds = int(np.datetime64(f"{date}T{clock}", "s").astype(np.int64))
    except ValueError as error:
        raise NoTimeError("no such day or time") from error
    us = seconds * 10**6 + int(fraction.ljust(9, "0")) // 1000
    if offset not in ("", "Z"):
        hours, minutes = int(offset[1:3]), int(offset[-2:])
        if hours > 23 or minutes > 59:
            raise NoTimeError("no such offset")
        shift = (hours * 60 + minutes) * 60 * 10**6
        us -= shift if offset[0] == "+" else -shift
    return us
