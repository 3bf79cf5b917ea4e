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

States that show the same also go on alike: an update of the same replica makes them show the same again. Before that, *deterministic*: the
same story told twice ends alike. And *separate*: a merge leaves alone what it hears of, and later changes of one do not show in the other.

Where the means are given: *delta* (a state joined with what updates sent, some of it late and twice, shows what it shows joined with all of
the updated state: Almeida, Shoker, Baquero, "Delta state replicated data types", JPDC 2018, section 4), and *reloads* (a saved state reads
back). Then the story that users live through: replicas change, send their states, messages arrive late, twice, in any order or never; at
last everybody hears everybody: *converges*. And *survives a restore*: the same, but now and then a replica finds an older copy of its own
state on its disk, and goes on from there.

A lattice may agree on the wrong thing: a counter whose replicas share one id converges, and loses increments. What yours is to show is
yours to say, as a function of the changes seen (``Crdt.meaning``; Burckhardt, Gotsman, Yang, Zawirski, "Replicated data types:
specification, verification, optimality", POPL 2014). Then *faithful* checks that every replica shows it, and so does *survives a restore*.

States are compared by what ``value`` shows. Breaking a law raises ``LawBroken``, whose text is the story, shrunk; what your own functions
raise goes through, with the story as a note.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, get_args

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky, HypothesisException

from crdtledger.testing.crdt import REPLICAS, Change, Crdt, Law, LawBroken, Op, State
from crdtledger.testing.replicas import Restore, Step, Update, World, steps

__all__ = ["Change", "Crdt", "Law", "LawBroken", "check_law", "check_laws", "default_settings", "laws_of"]

EXAMPLES: Final = 200
_REPEATED: Final = ("Failing test case", "Falsifying example")
"""How Hypothesis begins the note that lists what was drawn: the story says it in words."""


def _equal(law: Law, world: World[State, Op], *sides: tuple[str, State]) -> None:
    _same(law, world, *((name, world.crdt.show(state)) for name, state in sides))


def _same(law: Law, world: World[State, Op], *shown: tuple[str, Any]) -> None:
    if any(value != shown[0][1] for _, value in shown[1:]):
        raise LawBroken(law, world.story, shown)


def _alike(law: Law, world: World[State, Op], op: Op, *sides: tuple[str, State]) -> None:
    """States of replica a that show the same, and do so after the same update."""
    _equal(law, world, *sides)
    after = [(f"{name}, updated", world.crdt.changed(state, "a", op)) for name, state in sides]
    world.story.append(f"  then a updates: {op!r}")
    _equal(law, world, *after)
    world.story.pop()


# -- laws ---------------------------------------------------------------------------------------------------


def _deterministic(world: World[State, Op], op: Op, told: list[Step]) -> None:
    again = World(world.crdt)
    for step in told:
        again.tell(step)
    world.exchange()
    again.exchange()
    for name in REPLICAS:
        _equal("deterministic", world, (name, world.states[name]), (f"{name}, told again", again.states[name]))


def _commutative(world: World[State, Op], op: Op, told: list[Step]) -> None:
    a, b, join = world.states["a"], world.states["b"], world.crdt.join
    _equal("commutative", world, ("a + b", join(a, b)), ("b + a", join(b, a)))


def _associative(world: World[State, Op], op: Op, told: list[Step]) -> None:
    a, b, c = (world.states[name] for name in REPLICAS)
    join = world.crdt.join
    _alike("associative", world, op, ("(a + b) + c", join(join(a, b), c)), ("a + (b + c)", join(a, join(b, c))))


def _idempotent(world: World[State, Op], op: Op, told: list[Step]) -> None:
    a, b, join = world.states["a"], world.states["b"], world.crdt.join
    _alike("idempotent", world, op, ("a", a), ("a + a", join(a, a)))
    _alike("idempotent", world, op, ("a + b", join(a, b)), ("a + b + b", join(a, b, b)))


def _inflationary(world: World[State, Op], op: Op, told: list[Step]) -> None:
    a, b, crdt = world.states["a"], world.states["b"], world.crdt
    joined = crdt.join(a, b)
    _alike("inflationary", world, op, ("a + b", joined), ("a + b + a", crdt.join(joined, a)))
    updated = crdt.changed(a, "a", op)
    world.story.append(f"  a updates to a': {op!r}")
    _alike("inflationary", world, op, ("a'", updated), ("a' + a", crdt.join(updated, a)))


def _separate(world: World[State, Op], op: Op, told: list[Step]) -> None:
    crdt, b = world.crdt, world.states["b"]
    heard = crdt.copy(b)
    a = crdt.ask("merge", crdt.merge, crdt.copy(world.states["a"]), heard)
    world.story.append("  a hears of b")
    _equal("separate", world, ("b", b), ("b, after a heard of it", heard))
    a = crdt.ask("update", crdt.update, a, "a", op)
    world.story.append(f"  a updates: {op!r}")
    _equal("separate", world, ("b", b), ("b, after a's update", heard))
    kept = crdt.copy(a)
    crdt.ask("update", crdt.update, heard, "b", op)
    world.story.append(f"  b updates: {op!r}")
    _equal("separate", world, ("a", kept), ("a, after b's update", a))
    world.story[:] = [f"  a new replica a updates: {op!r}"]
    one, other = (crdt.ask("new", crdt.new, name) for name in ("a", "b"))
    empty = crdt.copy(other)
    crdt.ask("update", crdt.update, one, "a", op)
    _equal("separate", world, ("b, new", empty), ("b, new, after a's update", other))


def _delta(world: World[State, Op], op: Op, told: list[Step]) -> None:
    crdt = world.crdt
    before = world.states["a"]
    receiver = crdt.join(world.states["b"], before)
    world.story.append(f"  b hears of a; then a updates to a': {op!r}")
    after = crdt.changed(before, "a", op)
    first = _sent(crdt, before, after)
    by_delta = _taken(crdt, receiver, first)
    _equal("delta", world, ("b + a'", crdt.join(receiver, after)), ("b + delta", by_delta))
    world.story.append(f"  a' updates to a'': {op!r}")
    last = crdt.changed(after, "a", op)
    by_both = _taken(crdt, by_delta, _sent(crdt, after, last))
    late = _taken(crdt, by_both, first)
    in_full = crdt.join(receiver, last)
    _equal("delta", world, ("b + a''", in_full), ("b + delta' + delta''", by_both))
    _equal("delta", world, ("b + a''", in_full), ("b + delta' + delta'' + delta'", late))


def _sent(crdt: Crdt[State, Op], before: State, after: State) -> Any:
    assert crdt.delta is not None
    return crdt.ask("delta", crdt.delta, crdt.copy(before), crdt.copy(after), "a")


def _taken(crdt: Crdt[State, Op], state: State, delta: Any) -> State:
    assert crdt.merge_delta is not None
    return crdt.ask("merge_delta", crdt.merge_delta, crdt.copy(state), delta)


def _reloads(world: World[State, Op], op: Op, told: list[Step]) -> None:
    crdt = world.crdt
    for name, state in world.states.items():
        again = crdt.loaded(crdt.saved(state), name, 0)
        _equal("reloads", world, (name, state), (f"{name}, saved and loaded", again))
        other = next(one for one in REPLICAS if one != name)
        heard = world.states[other]
        kept, fresh = crdt.join(state, heard), crdt.join(again, heard)
        _equal("reloads", world, (f"{name} + {other}", kept), (f"{name}, loaded, + {other}", fresh))


def _converges(world: World[State, Op], op: Op, told: list[Step]) -> None:
    world.exchange()
    _equal("converges", world, *world.states.items())


def _faithful(world: World[State, Op], op: Op, told: list[Step]) -> None:
    for name, state in world.states.items():
        _same("faithful", world, (f"{name}, as meant,", world.meant(world.seen[name])), (name, world.crdt.show(state)))
    joined, seen = world.crdt.join(world.states["a"], world.states["b"]), world.seen["a"] | world.seen["b"]
    _same("faithful", world, ("a + b, as meant,", world.meant(seen)), ("a + b", world.crdt.show(joined)))


def _survives(world: World[State, Op], op: Op, told: list[Step]) -> None:
    world.exchange()
    _equal("survives a restore", world, *world.states.items())
    if world.crdt.meaning is not None:
        meant = ("all, as meant,", world.meant(world.seen["a"]))
        _same("survives a restore", world, meant, ("all", world.crdt.show(world.states["a"])))


_CHECKS: Final = {
    "deterministic": _deterministic,
    "commutative": _commutative,
    "associative": _associative,
    "idempotent": _idempotent,
    "inflationary": _inflationary,
    "separate": _separate,
    "delta": _delta,
    "reloads": _reloads,
    "converges": _converges,
    "faithful": _faithful,
    "survives a restore": _survives,
}


_AT_ONCE: Final[dict[str, type[Step]]] = {"commutative": Update, "converges": Update, "survives a restore": Restore}
"""After which steps a law is looked at, besides the end: what comes later may hide what they broke."""


# -- looking for a story ------------------------------------------------------------------------------------


def laws_of(crdt: Crdt[State, Op]) -> tuple[Law, ...]:
    """The laws that can be checked on ``crdt``, in the order in which they are best read."""
    lacking = {name for name, means in (("delta", crdt.delta), ("faithful", crdt.meaning)) if means is None}
    return tuple(law for law in get_args(Law) if law not in lacking)


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

    def holds(told: list[Step], op: Op) -> None:
        world = World(crdt)
        try:
            for step in told:
                world.tell(step)
                if isinstance(step, _AT_ONCE.get(law, ())):
                    _CHECKS[law](world.what_if(), op, told)
            _CHECKS[law](world, op, told)
        except (LawBroken, HypothesisException):
            raise
        except Exception as error:
            error.add_note("\n".join([f"while looking whether it is {law}:", *world.story]))
            raise

    drawn = steps(operations, law == "survives a restore")
    try:
        (settings or default_settings())(given(drawn, operations)(holds))()
    except Flaky as error:
        raise _not_twice(error) from error
    except Exception as error:
        error.__notes__ = [note for note in getattr(error, "__notes__", ()) if not note.startswith(_REPEATED)]
        raise


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


def _not_twice(error: Flaky) -> BaseException:
    """What broke once, and held when the same story was told again."""
    for once in getattr(error, "exceptions", ()):
        if isinstance(once, LawBroken):
            return LawBroken(
                once.law, [*once.story, "  here it broke once, and held when all this was told again"], once.sides
            )
    return error
