"""Names for files that are moved aside: when it was done."""

from __future__ import annotations

from datetime import UTC, datetime


def stamp() -> str:
    """The time now, in UTC, as a part of a file's name: ``20260131T235959.123456Z``."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
