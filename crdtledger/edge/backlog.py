"""Frames that were read and not yet handled, in turns: one sender's flood delays nobody but this sender.

Every sender has a queue of its own, bounded by frames and by bytes; ``take`` goes round the senders, one frame each. What
does not fit is refused, and counted by whoever asked: gossip repairs what it loses, and a client asks again.

What it is not: a priority queue, or a judge of what is in a frame.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Backlog(Generic[T]):
    """At most ``frames`` frames and ``most_bytes`` bytes wait for each sender. A sender is any string."""

    def __init__(self, frames: int, most_bytes: int) -> None:
        self._frames = frames
        self._most_bytes = most_bytes
        self._queues: dict[str, deque[tuple[T, int]]] = {}  # in the order of their turns
        self._bytes: dict[str, int] = {}
        self._waiting = 0

    def __len__(self) -> int:
        """How many frames wait."""
        return self._waiting

    def put(self, sender: str, frame: T, size_bytes: int) -> bool:
        """Queue a frame; False when its sender has too many waiting. A lone frame always fits."""
        queue = self._queues.get(sender)
        if queue is None:
            queue = self._queues[sender] = deque()
            self._bytes[sender] = 0
        elif len(queue) >= self._frames or self._bytes[sender] + size_bytes > self._most_bytes:
            return False
        queue.append((frame, size_bytes))
        self._bytes[sender] += size_bytes
        self._waiting += 1
        return True

    def take(self) -> T:
        """The next frame of the sender whose turn it is. ``LookupError`` when nobody's waits."""
        sender = next(iter(self._queues), None)
        if sender is None:
            raise LookupError("nothing waits")
        queue = self._queues.pop(sender)
        frame, size_bytes = queue.popleft()
        self._bytes[sender] -= size_bytes
        self._waiting -= 1
        if queue:
            self._queues[sender] = queue  # to the end of the round
        else:
            del self._bytes[sender]
        return frame
