"""A record of a simulated run: a running hash over everything that happened, and the last lines of it to
read.

Two runs are the same run exactly when their hashes are equal. The hash covers time, node, what happened,
and the bytes involved; it does not cover anything whose text could differ between two interpreters.
"""

from __future__ import annotations

from collections import deque
from hashlib import sha256

import msgspec


class Line(msgspec.Struct, frozen=True):
    """At virtual time ``at_us``, ``node`` saw or did ``what``; ``detail`` names the peer, key or position."""

    at_us: int
    node: str
    what: str
    detail: str
    size: int

    def __str__(self) -> str:
        size = f" {self.size} B" if self.size else ""
        return f"{self.at_us / 1e6:12.6f} {self.node:<10} {self.what:<12} {self.detail}{size}"


class Trace:
    """Keeps the last ``keep`` lines; hashes all of them."""

    def __init__(self, keep: int) -> None:
        self._state = sha256()
        self._lines: deque[tuple[int, str, str, str, int]] = deque(maxlen=keep)
        self.count = 0

    def note(self, at_us: int, node: str, what: str, detail: str, payload: bytes = b"") -> None:
        self.count += 1
        self._state.update(f"{at_us}|{node}|{what}|{detail}|{len(payload)}\n".encode())
        self._state.update(payload)
        self._lines.append((at_us, node, what, detail, len(payload)))

    def digest(self) -> str:
        """The hash of the run so far, in hex."""
        return self._state.copy().hexdigest()

    def tail(self) -> list[Line]:
        """The last lines, oldest first."""
        return [Line(*line) for line in self._lines]
