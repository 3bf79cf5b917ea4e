"""One machine of a simulation: a disk that outlives crashes, a core that does not, and a clock that can be trusted with little.

The clock is the virtual time plus ``EPOCH_US`` plus its skew, and never goes back within an incarnation: set back, it runs at half speed
until time has caught up, so that no deadline is put off for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from gossip.disk import Disk

EPOCH_US: Final = 1_700_000_000_000_000
"""What an unskewed clock says at virtual time 0, in microseconds."""


class Core(Protocol):
    """What the simulator can drive."""

    def start(self, now_us: int) -> Sequence[Any]: ...

    def step(self, event: Any, now_us: int) -> Sequence[Any]: ...


C = TypeVar("C", bound=Core)

Factory = Callable[[str, Sequence[bytes], int], C]
"""(node name, the records that survived, incarnation from 1) -> a core that starts from them."""


class Machine(Generic[C]):
    """What a simulation knows about one of its nodes. It is changed in place, by the simulation."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.disk = Disk()
        self.core: C | None = None  # None while it is down
        self.incarnation = 0
        self.durable = 0
        self.position = 0
        self.held: list[Any] = []
        self.timers: dict[str, int] = {}  # key -> the number of the wake-up that counts
        self.links: dict[str, int] = {}  # peer -> the incarnation that it believes to be linked to
        self.in_next_sync: Callable[[], None] | None = None  # what is to happen then
        self.skew_us = 0
        self._clock_us = 0
        self._read_us = 0  # when the clock was last read, in virtual time

    def begin(self) -> int:
        """Begin another incarnation; its number."""
        self.incarnation += 1
        self.durable = self.position = 0
        self._clock_us = 0
        return self.incarnation

    def lose_memory(self) -> None:
        """What a power cut takes, beside what it takes of the disk."""
        self.core = None
        self.in_next_sync = None
        self.held.clear()
        self.timers.clear()
        self.links.clear()

    def clock(self, now_us: int) -> int:
        """What its clock says at virtual time ``now_us``."""
        slow_us = self._clock_us + (now_us - self._read_us + 1) // 2
        self._clock_us = max(slow_us, EPOCH_US + now_us + self.skew_us)
        self._read_us = now_us
        return self._clock_us
