"""A CRDT under test, described by the functions that a user points the laws at, and what is said when one of them breaks.

Not here: which laws there are (``laws``), and the stories in which they are looked for (``replicas``).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

State = TypeVar("State")
Op = TypeVar("Op")
T = TypeVar("T")

REPLICAS: Final = ("a", "b", "c")

Law: TypeAlias = Literal[
    "deterministic",
    "commutative",
    "associative",
    "idempotent",
    "inflationary",
    "separate",
    "delta",
    "reloads",
    "converges",
    "faithful",
    "survives a restore",
]


class LawBroken(AssertionError):
    """``law`` does not hold. ``story``: the shortest way there that was found; ``sides``: what was to be equal, in words and as shown."""

    def __init__(self, law: Law, story: Sequence[str], sides: Sequence[tuple[str, Any]]) -> None:
        self.law, self.story, self.sides = law, tuple(story), tuple(sides)
        width = max(len(name) for name, _ in sides)
        shown = [f"  {name:<{width}}  shows {value!r}" for name, value in sides]
        is_adjective = law not in ("delta", "reloads", "converges", "survives a restore")
        super().__init__("\n".join([f"not {law}:" if is_adjective else f"{law}: no", *story, *shown]))


@dataclass(frozen=True)
class Change:
    """A change that some replica made. ``number``: its place in the story, from 0. ``seen``: the numbers of the changes that the replica
    had seen before; two changes of which neither has seen the other are concurrent."""

    number: int
    replica: str
    op: Any
    seen: frozenset[int]


@dataclass(frozen=True, kw_only=True)
class Crdt(Generic[State, Op]):
    """A CRDT under test, as functions.

    ``new(replica)``: the state of a replica (``"a"``, ``"b"`` or ``"c"``) before anything happened. ``update(state, replica, op)``:
    its state after a change of its own. ``merge(state, other)``: its state after it heard of another's. ``value(state)``: what it shows,
    something that ``==`` compares. Functions may change the first state that they are given, and return it.

    Optional: ``meaning(changes)`` is what must be shown by a state that has seen these ``Change``s, first ones first: the specification,
    written without replicas. ``delta(before, after, replica)`` is what an update sends instead of its whole state, and
    ``merge_delta(state, delta)`` takes it in. ``save(state)`` is what goes to the disk, ``load(saved, replica, life)`` reads it back;
    ``life`` is 0 at first and one more after every restore, for whoever must not be the same writer twice. ``copy(state)``: a state of
    its own with the same content.
    """

    new: Callable[[str], State]
    update: Callable[[State, str, Op], State]
    merge: Callable[[State, State], State]
    value: Callable[[State], Any] = field(default=lambda state: state)
    meaning: Callable[[Sequence[Change]], Any] | None = None
    delta: Callable[[State, State, str], Any] | None = None
    merge_delta: Callable[[State, Any], State] | None = None
    save: Callable[[State], Any] = copy.deepcopy
    load: Callable[[Any, str, int], State] = field(default=lambda saved, replica, life: copy.deepcopy(saved))
    copy: Callable[[State], State] = copy.deepcopy

    def ask(self, name: str, function: Callable[..., T], *arguments: Any) -> T:
        """What one of the functions answers; what it raises says which one it was."""
        try:
            return function(*arguments)
        except Exception as error:
            error.add_note(f"raised by {name}")
            raise

    def changed(self, state: State, replica: str, op: Op) -> State:
        """A new state: ``state`` after a change at ``replica``."""
        return self.ask("update", self.update, self.copy(state), replica, op)

    def join(self, state: State, *others: State) -> State:
        """A new state: ``state`` after it heard of the others, in this order."""
        joined = self.copy(state)
        for other in others:
            joined = self.ask("merge", self.merge, joined, self.copy(other))
        return joined

    def show(self, state: State) -> Any:
        """What the state shows."""
        return self.ask("value", self.value, self.copy(state))

    def saved(self, state: State) -> Any:
        """What goes to the disk."""
        return self.ask("save", self.save, self.copy(state))

    def loaded(self, saved: Any, replica: str, life: int) -> State:
        """What is read back."""
        return self.ask("load", self.load, saved, replica, life)
