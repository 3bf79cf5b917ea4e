"""Laws that every state-based CRDT keeps, checked on yours: describe it once, and Hypothesis looks for a story in which one breaks.

    gset = Crdt(
        new=lambda replica: frozenset(),
        update=lambda state, replica, element: state | {element},
        merge=lambda state, other: state | other,
    )
    check_laws(gset, operations=st.integers(0, 9))

A join-semilattice (Shapiro, Preguica, Baquero, Zawirski, "Conflict-free replicated data types", SSS 2011, definition 3) is

* *commutative*: a + b shows what b + a shows;
* *associative*: (a + b) + c shows what a + (b + c) shows;
* *idempotent*: a + a shows a, and joining twice what was joined once changes nothing;
* *inflationary*: an update, and a join, only ever adds: joining the older state again changes nothing.

Where the means are given: *delta* (a state joined with what an update sent shows what it shows joined with all of the updated state:
Almeida, Shoker, Baquero, "Delta state replicated data types", JPDC 2018, section 4), and *reloads* (a saved state reads back).
Then the story that users live through: replicas change, send their states, messages arrive late, twice, in any order or never; at last
everybody hears everybody: *converges*. And *survives a restore*: the same, but now and then a replica finds an older copy of its own
state on its disk, and goes on from there.

States are compared by what ``value`` shows. The kit never lends your functions a state that it needs again: it hands them copies.
Breaking a law raises ``LawBroken``, whose text is the story, shrunk.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

State = TypeVar("State")
Op = TypeVar("Op")

REPLICAS: Final = ("a", "b", "c")
STEPS: Final = 12
EXAMPLES: Final = 200

Law: TypeAlias = Literal[
    "commutative", "associative", "idempotent", "inflationary", "delta", "reloads", "converges", "survives a restore"
]


class LawBroken(AssertionError):
    """``law`` does not hold. ``story``: the shortest way there that was found; ``sides``: what was to be equal, in words and as shown."""

    def __init__(self, law: Law, story: Sequence[str], sides: Sequence[tuple[str, Any]]) -> None:
        self.law, self.story, self.sides = law, tuple(story), tuple(sides)
        width = max(len(name) for name, _ in sides)
        shown = [f"  {name:<{width}}  shows {value!r}" for name, value in sides]
        super().__init__("\n".join([f"not {law}:" if law.endswith("ive") else f"{law}: no", *story, *shown]))


@dataclass(frozen=True, kw_only=True)
class Crdt(Generic[State, Op]):
    """A CRDT under test, as functions.

    ``new(replica)``: the state of a replica (``"a"``, ``"b"`` or ``"c"``) before anything happened. ``update(state, replica, op)``:
    its state after a change of its own. ``merge(state, other)``: its state after it heard of another's. ``value(state)``: what it shows,
    something that ``==`` compares. Functions may change the state that they are given, and return it.

    Optional: ``delta(before, after, replica)`` is what an update sends instead of its whole state, and ``merge_delta(state, delta)``
    takes it in. ``save(state)`` is what goes to the disk, ``load(saved, replica, life)`` reads it back; ``life`` is 0 at first and one
    more after every restore, for whoever must not be the same writer twice. ``copy(state)``: a state of its own with the same content.
    """

    new: Callable[[str], State]
    update: Callable[[State, str, Op], State]
    merge: Callable[[State, State], State]
    value: Callable[[State], Any] = field(default=lambda state: state)
    delta: Callable[[State, State, str], Any] | None = None
    merge_delta: Callable[[State, Any], State] | None = None
    save: Callable[[State], Any] = copy.deepcopy
    load: Callable[[Any, str, int], State] = field(default=lambda saved, replica, life: copy.deepcopy(saved))
    copy: Callable[[State], State] = copy.deepcopy

    def join(self, state: State, *others: State) -> State:
        """A new state: ``state`` after it heard of the others, in this order."""
        joined = self.copy(state)
        for other in others:
            joined = self.merge(joined, self.copy(other))
        return joined

    def show(self, state: State) -> Any:
        """What the state shows."""
        return self.value(self.copy(state))


# -- stories ------------------------------------------------------------------------------------------------


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
    """A replica finds an older copy of its state on its disk, and changes it. ``which``: counted from the oldest, the empty one."""

    replica: str
    which: int
    op: Any


@dataclass(frozen=True)
class Tell:
    """A replica's state reaches another at once."""

    source: str
    target: str


Step: TypeAlias = Update | Tell | Send | Deliver | Restore


class _World(Generic[State, Op]):
    """Three replicas, what is under way between them, and what their disks hold."""

    def __init__(self, crdt: Crdt[State, Op]) -> None:
        self.crdt = crdt
        self.states = {name: crdt.new(name) for name in REPLICAS}
        self.disks = {name: [crdt.save(crdt.copy(state))] for name, state in self.states.items()}
        self.lives = dict.fromkeys(REPLICAS, 0)
        self.sent: list[tuple[str, str, State]] = []
        self.story: list[str] = []
        self.before: State | None = None

    def tell(self, step: Step) -> None:
        """Carry out one step."""
        crdt = self.crdt
        if isinstance(step, Update):
            self.states[step.replica] = crdt.update(crdt.copy(self.states[step.replica]), step.replica, step.op)
            self.story.append(f"  {step.replica} updates: {step.op!r}")
            self.disks[step.replica].append(crdt.save(crdt.copy(self.states[step.replica])))
        elif isinstance(step, Tell):
            self.states[step.target] = crdt.join(self.states[step.target], self.states[step.source])
            self.story.append(f"  {step.target} hears of {step.source}")
        elif isinstance(step, Send):
            self.sent.append((step.source, step.target, crdt.copy(self.states[step.source])))
            self.story.append(f"  {step.source} sends message {len(self.sent)} to {step.target}")
        elif isinstance(step, Deliver):
            if self.sent:
                self._hear(len(self.sent) - step.which % len(self.sent))
        elif len(self.disks[step.replica]) > 1:
            name, older = step.replica, step.which % (len(self.disks[step.replica]) - 1)
            self.lives[name] += 1
            self.states[name] = crdt.load(self.disks[name][older], name, self.lives[name])
            self.story.append(f"  {name} is restored from what it was after {older} of its updates")
            self.tell(Update(name, step.op))

    def _hear(self, number: int) -> None:
        source, target, state = self.sent[number - 1]
        self.states[target] = self.crdt.join(self.states[target], state)
        self.story.append(f"  {target} receives message {number} from {source}")

    def exchange(self) -> None:
        """All send their states at once, and hear the others in different orders; and once more, what came of it."""
        for _ in range(2):
            now = {name: self.crdt.copy(state) for name, state in self.states.items()}
            for at, name in enumerate(REPLICAS):
                others = [now[REPLICAS[(at + further) % len(REPLICAS)]] for further in range(1, len(REPLICAS))]
                self.states[name] = self.crdt.join(self.states[name], *others)
        self.story.append("  everybody hears everybody, twice")


def _steps(operations: st.SearchStrategy[Any], restores: bool) -> st.SearchStrategy[list[Step]]:
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


def _reached(crdt: Crdt[State, Op], steps: Iterable[Step]) -> _World[State, Op]:
    world: _World[State, Op] = _World(crdt)
    for step in steps:
        world.tell(step)
    return world


# -- laws ---------------------------------------------------------------------------------------------------


def _equal(law: Law, world: _World[State, Op], *sides: tuple[str, State]) -> None:
    shown = [(name, world.crdt.show(state)) for name, state in sides]
    if any(value != shown[0][1] for _, value in shown[1:]):
        raise LawBroken(law, world.story, shown)


def _commutative(world: _World[State, Op]) -> None:
    a, b, join = world.states["a"], world.states["b"], world.crdt.join
    _equal("commutative", world, ("a + b", join(a, b)), ("b + a", join(b, a)))


def _associative(world: _World[State, Op]) -> None:
    a, b, c = (world.states[name] for name in REPLICAS)
    join = world.crdt.join
    _equal("associative", world, ("(a + b) + c", join(join(a, b), c)), ("a + (b + c)", join(a, join(b, c))))


def _idempotent(world: _World[State, Op]) -> None:
    a, b, join = world.states["a"], world.states["b"], world.crdt.join
    _equal("idempotent", world, ("a", a), ("a + a", join(a, a)))
    _equal("idempotent", world, ("a + b", join(a, b)), ("a + b + b", join(a, b, b)))


def _inflationary(world: _World[State, Op], op: Op) -> None:
    a, b, crdt = world.states["a"], world.states["b"], world.crdt
    updated = crdt.update(crdt.copy(a), "a", op)
    world.story.append(f"  a updates to a': {op!r}")
    _equal("inflationary", world, ("a'", updated), ("a' + a", crdt.join(updated, a)))
    joined = crdt.join(a, b)
    _equal("inflationary", world, ("a + b", joined), ("a + b + a", crdt.join(joined, a)))


def _delta(world: _World[State, Op], op: Op) -> None:
    crdt = world.crdt
    assert crdt.delta is not None
    assert crdt.merge_delta is not None
    before = world.states["a"]
    after = crdt.update(crdt.copy(before), "a", op)
    receiver = crdt.join(world.states["b"], before)
    sent = crdt.delta(crdt.copy(before), crdt.copy(after), "a")
    world.story.append(f"  b hears of a; then a updates to a': {op!r}")
    in_full, by_delta = crdt.join(receiver, after), crdt.merge_delta(crdt.copy(receiver), sent)
    _equal("delta", world, ("b + a'", in_full), ("b + delta", by_delta))


def _reloads(world: _World[State, Op]) -> None:
    crdt = world.crdt
    for name, state in world.states.items():
        again = crdt.load(crdt.save(crdt.copy(state)), name, 0)
        _equal("reloads", world, (name, state), (f"{name}, saved and loaded", again))
        others = [other for other in REPLICAS if other != name]
        heard = world.states[others[0]]
        _equal(
            "reloads",
            world,
            (f"{name} + {others[0]}", crdt.join(state, heard)),
            (f"{name}, loaded, + {others[0]}", crdt.join(again, heard)),
        )


def _converges(law: Law, world: _World[State, Op]) -> None:
    world.exchange()
    _equal(law, world, *world.states.items())


def laws_of(crdt: Crdt[State, Op]) -> tuple[Law, ...]:
    """The laws that can be checked on ``crdt``, in the order in which they are best read."""
    lattice: tuple[Law, ...] = ("commutative", "associative", "idempotent", "inflationary")
    return (*lattice, *(("delta",) if crdt.delta else ()), "reloads", "converges", "survives a restore")


def check_law(
    crdt: Crdt[State, Op], law: Law, operations: st.SearchStrategy[Op], settings: settings | None = None
) -> None:
    """Look for a story in which ``law`` does not hold; raise ``LawBroken`` with the shortest found.

    ``operations`` draws what ``update`` is given. ``settings``: Hypothesis'; 200 examples unless they say otherwise.
    """
    if law not in laws_of(crdt):
        raise ValueError(f"{law!r} cannot be checked here: one of {', '.join(laws_of(crdt))}")
    if law == "delta" and crdt.merge_delta is None:
        raise ValueError("delta goes with merge_delta")

    def holds(steps: list[Step], op: Op) -> None:
        world = _reached(crdt, steps)
        if law in ("converges", "survives a restore"):
            _converges(law, world)
        elif law == "inflationary":
            _inflationary(world, op)
        elif law == "delta":
            _delta(world, op)
        else:
            {
                "commutative": _commutative,
                "associative": _associative,
                "idempotent": _idempotent,
                "reloads": _reloads,
            }[law](world)

    steps = _steps(operations, law == "survives a restore")
    (settings or default_settings())(given(steps, operations)(holds))()


def check_laws(
    crdt: Crdt[State, Op],
    operations: st.SearchStrategy[Op],
    laws: Iterable[Law] | None = None,
    settings: settings | None = None,
) -> None:
    """Check ``laws`` (all that can be checked) one after the other."""
    for law in laws_of(crdt) if laws is None else laws:
        check_law(crdt, law, operations, settings)


def default_settings() -> settings:
    """No deadline, ``EXAMPLES`` examples, nothing printed but the story."""
    phases = [phase for phase in Phase if phase is not Phase.explain]  # the story explains, and tracing is slow
    return settings(
        max_examples=EXAMPLES, phases=phases, deadline=None, suppress_health_check=list(HealthCheck), print_blob=False
    )
