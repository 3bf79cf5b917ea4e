"""The two bounded queues that a desk works between: events in, instructions out. They decouple matching from lanes and recording."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque

import msgspec

from crdtledger.matching.events import DeskEvent, Instruction


class DeskLimits(msgspec.Struct, frozen=True):
    """``events`` waiting to be worked on; ``instructions`` waiting to be taken, beyond which no event is worked on; ``proposals`` that one
    order makes in one go; ``unanswered`` tentative matches at one time; ``patience_us`` until a share is asked for again, and at first
    until a maker is of which a home gave less than it was asked for."""

    events: int = 4_096
    instructions: int = 1_024
    proposals: int = 64
    unanswered: int = 4_096
    patience_us: int = 500_000


class DeskQueues(ABC):
    """What a desk is to those around it. A full one takes no events, and drops none that it took."""

    def __init__(self, limits: DeskLimits) -> None:
        self._limits = limits
        self._inbox: deque[tuple[DeskEvent, int]] = deque()
        self._outbox: deque[Instruction] = deque()

    @abstractmethod
    def _step(self, event: DeskEvent, now_us: int) -> None: ...

    def _put(self, instruction: Instruction) -> None:
        self._outbox.append(instruction)

    def offer(self, event: DeskEvent, now_us: int) -> bool:
        """Hand in what happened, as of now. False if the desk is full: nothing was taken, offer it again later."""
        if len(self._inbox) >= self._limits.events:
            return False
        self._inbox.append((event, now_us))
        return True

    def work(self, most: int | None = None) -> int:
        """Go through at most ``most`` events while there is room for instructions. Answers with how many were worked on."""
        done = 0
        while self._inbox and len(self._outbox) < self._limits.instructions and (most is None or done < most):
            event, now_us = self._inbox.popleft()
            self._step(event, now_us)
            done += 1
        return done

    def take(self, most: int) -> list[Instruction]:
        """At most ``most`` instructions, in the order in which they are to be carried out."""
        return [self._outbox.popleft() for _ in range(min(most, len(self._outbox)))]

    @property
    def waiting(self) -> tuple[int, int]:
        """(events, instructions) in the two queues."""
        return len(self._inbox), len(self._outbox)
