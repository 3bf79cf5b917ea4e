"""The network of the simulator: whether a frame arrives, when, and how often; who can reach whom.

Everything that can go wrong is in one struct, ``Faults``. Every draw comes from the one generator handed
in, in the order in which things happen, so a seed is a run. Links are first-in-first-out unless ``reorder``
is set.

A frame is judged twice: when sent (loss, duplication, delay) and when due (is the link still whole?), so
what is in flight when a partition falls is lost with it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from random import Random
from typing import Final

import msgspec

_PPM: Final = 1_000_000


class Faults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How bad things are. Times in microseconds, chances in parts per million.

    A frame takes ``latency_min_us`` plus an exponential delay whose mean is ``latency_mean_us -
    latency_min_us``. ``detect_us``: from a link going down or up to its ends hearing of it. ``sync_us``:
    mean time of a disk sync (half of it fixed, half exponential). ``torn``: a crash lets a prefix of the
    unsynced writes survive, of a length that is drawn; otherwise none does.
    """

    latency_min_us: int = 200
    latency_mean_us: int = 1_000
    loss_ppm: int = 0
    duplicate_ppm: int = 0
    reorder: bool = False
    detect_us: int = 200_000
    sync_us: int = 2_000
    torn: bool = False
    trace_lines: int = 1_000


class Network:
    """Who can reach whom among ``names``, and how long frames take."""

    def __init__(self, names: Collection[str], faults: Faults, random: Random) -> None:
        self._faults = faults
        self._random = random
        self._names = tuple(names)
        self._group: dict[str, int] = dict.fromkeys(self._names, 0)
        self._cut: set[tuple[str, str]] = set()
        self._clogged: dict[tuple[str, str], tuple[int, int]] = {}  # (until_us, extra_us)
        self._to_lose: dict[tuple[str, str], int] = {}  # how many of the next frames
        self._to_repeat: dict[tuple[str, str], int] = {}
        self._last_due_us: dict[tuple[str, str], int] = {}

    # Topology -------------------------------------------------------------------------------------------

    def partition(self, groups: Iterable[Collection[str]]) -> None:
        """Only members of one group reach each other from now on; who is in none is alone."""
        self._group = {name: -1 - at for at, name in enumerate(self._names)}
        for number, group in enumerate(groups):
            for name in group:
                if name not in self._group:
                    raise KeyError(f"no node is called {name!r}")
                self._group[name] = number

    def cut(self, source: str, target: str) -> None:
        """Frames from ``source`` to ``target`` vanish, without either end hearing of it."""
        self._cut.add((source, target))

    def clog(self, source: str, target: str, until_us: int, extra_us: int) -> None:
        """Frames sent from ``source`` to ``target`` before ``until_us`` take ``extra_us`` longer."""
        self._clogged[source, target] = (until_us, extra_us)

    def lose_next(self, source: str, target: str, frames: int) -> None:
        """The next ``frames`` frames from ``source`` to ``target`` vanish."""
        self._to_lose[source, target] = frames

    def repeat_next(self, source: str, target: str, frames: int) -> None:
        """The next ``frames`` frames from ``source`` to ``target`` arrive twice."""
        self._to_repeat[source, target] = frames

    def heal(self) -> None:
        """No partition, no cuts, no clogging, nothing that is still to be lost or repeated."""
        self._group = dict.fromkeys(self._names, 0)
        for trouble in (self._cut, self._clogged, self._to_lose, self._to_repeat):
            trouble.clear()

    def linked(self, one: str, other: str) -> bool:
        """Whether a connection between the two can stand."""
        return self._group[one] == self._group[other]

    def carries(self, source: str, target: str) -> bool:
        """Whether a frame gets through, now."""
        return self._group[source] == self._group[target] and (source, target) not in self._cut

    # Frames ---------------------------------------------------------------------------------------------

    def fate(self, source: str, target: str, now_us: int) -> list[int]:
        """When copies of a frame sent now arrive, in us: usually once, perhaps never, perhaps twice."""
        faults = self._faults
        if not self.carries(source, target) or _due(self._to_lose, source, target) or self._hit(faults.loss_ppm):
            return []
        copies = 2 if _due(self._to_repeat, source, target) or self._hit(faults.duplicate_ppm) else 1
        return [self._due_us(source, target, now_us) for _ in range(copies)]

    def sync_us(self) -> int:
        """How long a disk sync takes."""
        return self._faults.sync_us // 2 + self._exponential(self._faults.sync_us // 2)

    def surviving(self, unsynced: int) -> int:
        """How many of ``unsynced`` writes a crash happens to leave."""
        return int(self._random.random() * (unsynced + 1)) if self._faults.torn else 0

    def _due_us(self, source: str, target: str, now_us: int) -> int:
        faults = self._faults
        spread = faults.latency_mean_us - faults.latency_min_us
        due_us = now_us + faults.latency_min_us + self._exponential(spread)
        until_us, extra_us = self._clogged.get((source, target), (0, 0))
        if now_us < until_us:
            due_us += extra_us
        if not faults.reorder:
            due_us = max(due_us, self._last_due_us.get((source, target), 0))
            self._last_due_us[source, target] = due_us
        return due_us

    def _exponential(self, mean_us: int) -> int:
        return int(-math.log(1.0 - self._random.random()) * mean_us) if mean_us > 0 else 0

    def _hit(self, chance_ppm: int) -> bool:
        return chance_ppm > 0 and self._random.random() * _PPM < chance_ppm


def _due(counts: dict[tuple[str, str], int], source: str, target: str) -> bool:
    """Whether a frame on this way is one of those counted; it is counted off."""
    left = counts.get((source, target), 0)
    if left:
        counts[source, target] = left - 1
    return left > 0
