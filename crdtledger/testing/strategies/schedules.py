"""What goes wrong, and when: schedules of partitions, cuts, crashes and clock jumps, as data, for any simulated cluster.

A schedule is a list of operations (``crdtledger.testing.steps``), with pauses between them; it is printed in words, shrinks step by step,
and says nothing of what clients do meanwhile: apply it whole, or step by step between requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from hypothesis import strategies as st

from crdtledger.edge.simulate.cluster import NAMES, SECOND, Cluster
from crdtledger.testing.drawing import pick, splits, ways
from crdtledger.testing.steps import Operation, perform
from crdtledger.testing.story import count_in_words, sides_in_words, time_in_words

PAUSES_US: Final = (3_000, 300_000, 2_000_000, 10_000_000)
SKEWS_US: Final = (0, 700_000, 3_600 * SECOND, -50_000, -3_600 * SECOND)


class Schedule(msgspec.Struct, frozen=True):
    """``steps``: operations on a cluster, in order; ``("run", us)`` lets virtual time pass."""

    steps: tuple[Operation, ...] = ()

    def apply(self, cluster: Cluster) -> None:
        """Carry out every step. The network stays as the last ones left it."""
        for _ in self.play(cluster):
            pass

    def play(self, cluster: Cluster) -> Iterator[str]:
        """Carry out one step after the other; after each, what it was, in words."""
        for step in self.steps:
            perform(cluster, {}, step)
            yield in_words(step)

    def lines(self) -> list[str]:
        """The steps in words."""
        return [in_words(step) for step in self.steps]

    def nodes(self) -> set[str]:
        """Whom it names."""
        return {name for step in self.steps for name in _names(step[1:])}


def schedules(nodes: Iterable[str] = NAMES, max_steps: int = 12) -> st.SearchStrategy[Schedule]:
    """Schedules for a cluster of these nodes. Nothing heals or starts again at the end: ``Cluster.settle`` does."""
    names = tuple(nodes)
    node = pick(names)
    troubles: list[st.SearchStrategy[Operation]] = [
        st.tuples(st.just("crash"), node),
        st.tuples(st.just("restart"), node),
        st.tuples(st.just("skew"), node, pick(SKEWS_US)),
        st.just(("heal",)),
    ]
    if len(names) > 1:
        way = ways(names)
        troubles += [
            st.tuples(st.just("partition"), splits(names)),
            st.tuples(st.just("isolate"), node),
            way.map(lambda pair: ("cut", *pair)),
            st.builds(lambda pair, extra: ("clog", *pair, 2 * SECOND, extra), way, pick((200_000, 4_000_000))),
            st.builds(lambda kind, pair, n: (kind, *pair, n), pick(("lose", "repeat")), way, st.integers(1, 3)),
        ]
    pauses = pick(PAUSES_US).map(lambda us: ("run", us))
    step = st.one_of(pauses, *troubles, pauses)
    return st.lists(step, max_size=max_steps).map(lambda drawn: Schedule(tuple(drawn)))


def in_words(step: Operation) -> str:
    """A step for people."""
    match step:
        case ("run", us):
            return f"{time_in_words(us)} pass"
        case ("partition", sides):
            return f"{sides_in_words(sides)} cut"
        case ("isolate", name):
            return f"{name} is cut off"
        case ("cut", source, sink):
            return f"whatever {source} sends {sink} is lost from now on"
        case ("clog", source, sink, for_us, extra_us):
            return f"for {time_in_words(for_us)}, what {source} sends {sink} takes {time_in_words(extra_us)} longer"
        case ("lose", source, sink, frames):
            return f"the next {count_in_words(frames, 'frame')} from {source} to {sink} will be lost"
        case ("repeat", source, sink, frames):
            return f"the next {count_in_words(frames, 'frame')} from {source} to {sink} will arrive twice"
        case ("skew", name, offset_us):
            where = "back" if offset_us < 0 else "ahead"
            return f"the clock of {name} is set {time_in_words(abs(offset_us))} {where}"
        case ("crash", name):
            return f"{name} crashes"
        case ("restart", name):
            return f"{name} starts again"
        case ("heal",):
            return "the network is healed"
    return " ".join(map(str, step))


def _names(arguments: Iterable[object]) -> Iterator[str]:
    for one in arguments:
        if isinstance(one, str):
            yield one
        elif isinstance(one, tuple):
            yield from _names(one)
