"""Three replicas of a CRDT under test: the steps of a story, what they do, and the strategy that draws them.

Replicas change, send their states, messages arrive late, twice, in any order or never. A restore is a replica that finds an older copy of
its own state on its disk and goes on from there. ``World`` also keeps, for each state, which changes it has seen.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeAlias

from hypothesis import strategies as st

from crdtledger.testing.crdt import REPLICAS, Change, Crdt, Op, State

STEPS: Final = 12
Seen: TypeAlias = frozenset[int]


@dataclass(frozen=True)
class Update:
    """A replica changes its state."""

    replica: str
    op: Any


@dataclass(frozen=True)
class Send:
    """A replica sends its state to another; the message may arrive at any time, or never."""

    source: str
    target: str


@dataclass(frozen=True)
class Deliver:
    """One of the messages sent so far arrives, perhaps again. ``which``: counted from the newest."""

    which: int


@dataclass(frozen=True)
class Restore:
    """A replica finds an older copy of its state on its disk, and changes it. ``which``: counted from the newest but one."""

    replica: str
    which: int
    op: Any


@dataclass(frozen=True)
class Tell:
    """A replica's state reaches another at once."""

    source: str
    target: str


Step: TypeAlias = Update | Tell | Send | Deliver | Restore


class World(Generic[State, Op]):
    """The replicas, what is under way between them, and what their disks hold. ``story`` tells it in words."""

    def __init__(self, crdt: Crdt[State, Op]) -> None:
        self.crdt = crdt
        self.story: list[str] = []
        self.changes: list[Change] = []
        self.states = {name: crdt.ask("new", crdt.new, name) for name in REPLICAS}
        self.seen: dict[str, Seen] = dict.fromkeys(REPLICAS, frozenset())
        self._disks = {name: [(crdt.saved(state), self.seen[name])] for name, state in self.states.items()}
        self._lives = dict.fromkeys(REPLICAS, 0)
        self._sent: list[tuple[str, str, State, Seen]] = []

    def tell(self, step: Step) -> None:
        """Carry out one step."""
        crdt = self.crdt
        if isinstance(step, Update):
            self._update(step.replica, step.op)
        elif isinstance(step, Tell):
            self.story.append(f"  {step.target} hears of {step.source}")
            self.states[step.target] = crdt.join(self.states[step.target], self.states[step.source])
            self.seen[step.target] |= self.seen[step.source]
        elif isinstance(step, Send):
            self._sent.append((step.source, step.target, crdt.copy(self.states[step.source]), self.seen[step.source]))
            self.story.append(f"  {step.source} sends message {len(self._sent)} to {step.target}")
        elif isinstance(step, Deliver):
            if self._sent:
                self._hear(len(self._sent) - step.which % len(self._sent))
        elif len(self._disks[step.replica]) > 1:
            older = len(self._disks[step.replica]) - 1
            self._restore(step.replica, older - 1 - step.which % older)
            self._update(step.replica, step.op)

    def _update(self, name: str, op: Op) -> None:
        self.story.append(f"  {name} updates: {op!r}")
        self.states[name] = self.crdt.changed(self.states[name], name, op)
        self.changes.append(Change(len(self.changes), name, op, self.seen[name]))
        self.seen[name] |= {self.changes[-1].number}
        self._disks[name].append((self.crdt.saved(self.states[name]), self.seen[name]))

    def _hear(self, number: int) -> None:
        source, target, state, seen = self._sent[number - 1]
        self.story.append(f"  {target} receives message {number} from {source}")
        self.states[target] = self.crdt.join(self.states[target], state)
        self.seen[target] |= seen

    def _restore(self, name: str, older: int) -> None:
        self.story.append(f"  {name} is restored from what it was after {older} of its updates")
        self._lives[name] += 1
        saved, self.seen[name] = self._disks[name][older]
        self.states[name] = self.crdt.loaded(saved, name, self._lives[name])

    def exchange(self) -> None:
        """All send their states at once, and hear the others in different orders; and once more, what came of it."""
        self.story.append("  everybody hears everybody, twice")
        for _ in range(2):
            now = {name: self.crdt.copy(state) for name, state in self.states.items()}
            for at, name in enumerate(REPLICAS):
                others = [now[REPLICAS[(at + further) % len(REPLICAS)]] for further in range(1, len(REPLICAS))]
                self.states[name] = self.crdt.join(self.states[name], *others)
        self.seen = dict.fromkeys(REPLICAS, frozenset[int]().union(*self.seen.values()))

    def what_if(self) -> World[State, Op]:
        """The same world, in which something may happen that does not happen here."""
        other = copy.copy(self)
        other.states, other.seen, other.story = dict(self.states), dict(self.seen), list(self.story)
        return other

    def meant(self, seen: Iterable[int]) -> Any:
        """What the specification says that a state shows which has seen these changes."""
        assert self.crdt.meaning is not None
        changes: Sequence[Change] = [self.changes[number] for number in sorted(seen)]
        return self.crdt.ask("meaning", self.crdt.meaning, changes)


def steps(operations: st.SearchStrategy[Any], restores: bool) -> st.SearchStrategy[list[Step]]:
    """Short stories, and long ones."""
    replica, few = st.sampled_from(REPLICAS), st.integers(0, 5)
    pairs = [(one, other) for one in REPLICAS for other in REPLICAS if one != other]
    update = st.builds(Update, replica, operations)
    kinds: list[st.SearchStrategy[Any]] = [
        update,
        st.sampled_from([Tell(*pair) for pair in pairs]),
        update,
        st.sampled_from([Send(*pair) for pair in pairs]),
        st.builds(Deliver, few),
    ]
    if restores:
        kinds += [st.builds(Restore, replica, few, operations)] * 2
    step = st.one_of(kinds)
    return st.one_of(st.lists(step, max_size=STEPS), st.lists(step, min_size=STEPS, max_size=2 * STEPS))
