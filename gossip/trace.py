"""A record of a simulated run: a running hash over everything that happened, and the last lines of it to read.

Two runs are the same run exactly when their hashes are equal. The hash covers time, node, what happened, and the bytes involved; it
does not cover anything whose text could differ between two interpreters.

Messages are numbered as they are sent: the number stands first in the ``detail`` of ``send``, ``receive`` and ``lose``, before the name
of the other end, so that a line that was sent can be told from one that arrived, arrived twice, or never did (``lose`` at the sender:
it never got on its way; at the receiver: its link was gone, or its node down, when it was due). What a frame says is put into words
only when somebody reads the line.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from hashlib import sha256

import msgspec

from gossip import wire

MESSAGES = ("send", "receive", "lose")


class Line(msgspec.Struct, frozen=True):
    """At virtual time ``at_us``, ``node`` saw or did ``what``; ``detail`` names the peer, key or position. ``says``: a frame in words."""

    at_us: int
    node: str
    what: str
    detail: str
    size: int
    says: str = ""

    @property
    def message(self) -> int:
        """The number of the message that the line is about, 0 for none."""
        number, _, other = self.detail.partition(" ")
        return int(number) if self.what in MESSAGES and other and number.isdigit() else 0

    @property
    def other(self) -> str:
        """The other end of the message."""
        return self.detail.partition(" ")[2] if self.message else ""

    def __str__(self) -> str:
        size = f" {self.size} B" if self.size else ""
        if not self.message:
            return f"{self.at_us / 1e6:12.6f} {self.node:<10} {self.what:<8} {self.detail}{size}".rstrip()
        way = {"send": "to", "receive": "from"}.get(self.what, "")
        way = way or ("on its way from" if self.says else "to or from")
        says = f": {self.says}" if self.says else ""
        return f"{self.at_us / 1e6:12.6f} {self.node:<10} {self.what:<8} #{self.message} {way} {self.other}{says}{size}"


class Trace:
    """Keeps the last ``keep`` lines; hashes all of them. ``describe`` puts a frame into words; ``describe_frame`` unless set."""

    def __init__(self, keep: int) -> None:
        self._state = sha256()
        self._keep = keep
        self._lines: deque[tuple[int, str, str, str, bytes]] = deque(maxlen=keep)
        self.count = 0
        self.describe: Callable[[bytes], str] = describe_frame

    def note(self, at_us: int, node: str, what: str, detail: str, payload: bytes = b"") -> None:
        self.count += 1
        self._state.update(f"{at_us}|{node}|{what}|{detail}|{len(payload)}\n".encode())
        self._state.update(payload)
        if self._keep:
            self._lines.append((at_us, node, what, detail, payload))

    def digest(self) -> str:
        """The hash of the run so far, in hex."""
        return self._state.copy().hexdigest()

    def tail(self) -> list[Line]:
        """The last lines, oldest first."""
        return [
            Line(at, node, what, detail, len(payload), self.describe(payload) if payload and what in MESSAGES else "")
            for at, node, what, detail, payload in self._lines
        ]


def describe_frame(frame: bytes) -> str:
    """What a frame of the gossip says, in a few words: never raises, and says the same of equal bytes."""
    message = wire.decode(frame)
    if isinstance(message, wire.Heads):
        parts = [f"heads {len(message.lanes)}", "all" * message.complete, "asks" * message.asks]
        return " ".join(filter(None, parts))
    if isinstance(message, wire.Push | wire.Range):
        batches = len(message.batches)
        return f"{type(message).__name__.lower()} {batches} batch{'es' * (batches != 1)}"
    if isinstance(message, wire.Want):
        return f"want {message.first}..{message.last}"
    if isinstance(message, wire.App):
        return message.channel
    return type(message).__name__.lower()
