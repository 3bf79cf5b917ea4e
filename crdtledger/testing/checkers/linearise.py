"""Whether calls that overlap can be put in one order that each of them agrees with: a search, for any object with a few states.

A call takes effect at one instant between its beginning and its end (Herlihy, Wing, "Linearizability: a correctness condition for
concurrent objects", TOPLAS 1990); one that is indeterminate at any time after its beginning, or never. The search goes through the history
once and carries every *configuration* that is possible so far: the object's state, and which of the calls under way have taken effect.
When a call ends, it must have: a configuration in which it has not makes other calls take effect first, in every order, until it can. What
is left of the configurations when none can is the proof that there is no such order.

The search is that of Wing and Gong ("Testing and verifying concurrent objects", JPDC 1993) made just-in-time and memoised as Lowe describes
("Testing for linearizability", Concurrency and Computation 2017, sections 5 and 6). What is ours keeps
indeterminate calls cheap. Among configurations with the same state the one that used fewer of them can do whatever the other can, so only
the thriftiest are carried, and are looked at first; of indeterminate calls that do the same the one that began first is used first; none is
used just before a call that undoes whatever it did; and a call that never changes the state takes effect as soon as it agrees with one.

Bounded: every look at a configuration and every try of a call costs one of the ``Budget``; when it is used up the search says so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypeAlias

import msgspec

State: TypeAlias = Hashable
Trail: TypeAlias = "tuple[int, Trail] | None"
"""Calls in the order in which they took effect, the last one first."""


class Task(msgspec.Struct, frozen=True):
    """A call to be put in order. ``began`` and ``ended`` are instants, all different; what is indeterminate ends at None. ``does`` names
    its effect: calls with equal names do the same. ``pure``: it never changes the state. ``blind``: it agrees with every state, and leaves
    the same one behind."""

    began: int
    ended: int | None
    does: Hashable
    pure: bool
    blind: bool


class Budget:
    """How much may be looked at, by one search or by several."""

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self, tries: int) -> None:
        """Raises OutOfBudget when too little is left."""
        if self.left < tries:
            raise OutOfBudget
        self.left -= tries


class OutOfBudget(Exception):
    """Caught by ``linearise``."""


class Ordered(msgspec.Struct, frozen=True):
    """There is an order."""


class Stuck(msgspec.Struct, frozen=True):
    """There is none: ``task`` cannot have ended as it did. ``reached``: the states before it, each with an order that leads there;
    ``under_way``: the tasks that might have taken effect meanwhile."""

    task: int
    reached: dict[State, list[int]]
    under_way: list[int]


class Exhausted(msgspec.Struct, frozen=True):
    """The budget ran out at the end of ``task``."""

    task: int


Outcome: TypeAlias = Ordered | Stuck | Exhausted
Effect: TypeAlias = Callable[[State, int], State | None]
"""(state, number of a task) -> the state after it; None where it does not agree with the state."""

Place: TypeAlias = tuple[State, int, bool]
"""A state, which of the calls that will end have taken effect, and whether the last to do so was indeterminate."""
Configurations: TypeAlias = dict[Place, list[tuple[int, Trail]]]
"""Of each place, which indeterminate calls were used to get there (the thriftiest sets), and how."""


def linearise(tasks: Sequence[Task], start: State, effect: Effect, budget: Budget) -> Outcome:
    """Look for an order of ``tasks`` from ``start``. No state is None."""
    return _Search(tasks, effect, budget).run(start)


class _Search:
    def __init__(self, tasks: Sequence[Task], effect: Effect, budget: Budget) -> None:
        self._tasks, self._effect, self._budget = tasks, effect, budget
        self._bit: dict[int, int] = {}  # of the calls under way that will end
        self._doubtful: dict[int, int] = {}  # bits of the indeterminate ones that have begun
        self._earlier: dict[int, int] = {}  # of an indeterminate one: the bit of its like that began before it

    def run(self, start: State) -> Outcome:
        here: Configurations = {(start, 0, False): [(0, None)]}
        free: list[int] = []
        for task, ends in self._events():
            if ends:
                try:
                    after = self._end(task, self._settled(here))
                except OutOfBudget:
                    return Exhausted(task)
                bit = self._bit.pop(task)
                free.append(bit)
                if not after:
                    under_way = sorted([*self._bit, *self._doubtful])
                    return Stuck(task, self._states(here), under_way)
                here = after
            elif self._tasks[task].ended is None:
                self._begin_doubtful(task)
            else:
                self._bit[task] = free.pop() if free else 1 << len(self._bit)
        return Ordered()

    def _events(self) -> Iterator[tuple[int, bool]]:
        events = [(task.began, number, False) for number, task in enumerate(self._tasks)]
        events += [(task.ended, number, True) for number, task in enumerate(self._tasks) if task.ended is not None]
        return ((number, ends) for _, number, ends in sorted(events))

    def _begin_doubtful(self, task: int) -> None:
        if self._tasks[task].pure:
            return  # it tells nothing and changes nothing
        does = self._tasks[task].does
        like = [bit for other, bit in self._doubtful.items() if self._tasks[other].does == does]
        self._doubtful[task] = 1 << len(self._doubtful)
        self._earlier[task] = like[-1] if like else 0

    def _end(self, task: int, here: Configurations) -> Configurations:
        """The configurations in which ``task`` has taken effect, from those ``here`` and whatever may happen before it."""
        mine = self._bit[task]
        seen: Configurations = {}
        after: Configurations = {}
        # Those that used as many indeterminate calls at a time, the thriftiest first.
        work = deque((place, used, trail) for place, ways in here.items() for used, trail in ways)
        work = deque(sorted(work, key=lambda one: one[1].bit_count()))
        while work:
            (state, done, loose), used, trail = work.popleft()
            if done & mine:
                self._put(after, (state, done & ~mine, False), used, trail)
                continue
            if not self._put(seen, (state, done, loose), used, trail):
                continue
            self._budget.spend(len(self._bit) + len(self._doubtful))
            for other, bit in self._bit.items():
                if not (done & bit or (loose and self._tasks[other].blind)):
                    changed = self._effect(state, other)
                    if changed is not None:
                        work.appendleft(self._agreeing((changed, done | bit, False), used, (other, trail)))
            for other, bit in self._doubtful.items():
                if used & bit or self._earlier[other] & ~used or (loose and self._tasks[other].blind):
                    continue
                changed = self._effect(state, other)
                if changed is not None and changed != state:
                    work.append(self._agreeing((changed, done, True), used | bit, (other, trail)))
        return after

    def _settled(self, here: Configurations) -> Configurations:
        """The same configurations, with what agrees and changes nothing done."""
        out: Configurations = {}
        for place, ways in here.items():
            for used, trail in ways:
                self._put(out, *self._agreeing(place, used, trail))
        return out

    def _agreeing(self, place: Place, used: int, trail: Trail) -> tuple[Place, int, Trail]:
        state, done, loose = place
        for other, bit in self._bit.items():
            if not done & bit and self._tasks[other].pure and self._effect(state, other) is not None:
                done, loose, trail = done | bit, False, (other, trail)
        return (state, done, loose), used, trail

    def _put(self, into: Configurations, place: Place, used: int, trail: Trail) -> bool:
        """Carry a configuration unless a thriftier one is carried; whether it is."""
        ways = into.setdefault(place, [])
        self._budget.spend(1 + len(ways))
        if any(other & used == other for other, _ in ways):
            return False
        ways[:] = [(other, way) for other, way in ways if used & other != used]
        ways.append((used, trail))
        return True

    @staticmethod
    def _states(here: Configurations) -> dict[State, list[int]]:
        reached: dict[State, list[int]] = {}
        for (state, _, _), ways in here.items():
            if state not in reached:
                reached[state] = _order(ways[0][1])
        return reached


def _order(trail: Trail) -> list[int]:
    out: list[int] = []
    while trail is not None:
        task, trail = trail
        out.append(task)
    return out[::-1]
