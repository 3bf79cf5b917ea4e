"""Moments as text, always in UTC: for names of files that are moved aside, and for people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def stamp() -> str:
    """The time now, in UTC, as a part of a file's name: ``20260131T235959.123456Z``."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def moment(us: int) -> str:
    """Microseconds since 1970 as text, to the second: ``2026-01-31 23:59:59 UTC``. A time beyond the year 9999 stays a number."""
    try:
        return (_EPOCH + timedelta(microseconds=us)).strftime("%Y-%m-%d %H:%M:%S UTC")
    except OverflowError:
        return f"{us} us"
