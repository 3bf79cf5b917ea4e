"""How the rules of a machine draw what they need: one small number for each argument, so that failing examples shrink fast.

Hypothesis deletes parts of a failing example in runs of equal length, and at first tries zero wherever a number from zero on may have
been a choice between alternatives: one run of the whole example for each. So a step is five choices wherever that can be (whether there
is one, which rule, whether that is switched off, and two arguments), and ``pick`` counts from one.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import msgspec
from hypothesis import strategies as st

from gossip.network import Faults

T = TypeVar("T")
H = TypeVar("H", bound=Hashable)


def pick(values: Sequence[T]) -> st.SearchStrategy[T]:
    """One of ``values``; it shrinks towards the first."""
    return st.integers(1, len(values)).map(lambda at: values[at - 1])


@functools.cache
def pick_once(values: tuple[H, ...]) -> st.SearchStrategy[H]:
    """``pick``, made once for equal values."""
    return pick(values)


def of_machine(ask: Callable[[Any], st.SearchStrategy[T]]) -> st.SearchStrategy[T]:
    """A strategy that the machine at hand is asked for: so a subclass can say otherwise."""
    return st.runner().flatmap(ask)


@functools.cache
def ways(nodes: tuple[str, ...]) -> st.SearchStrategy[tuple[str, str]]:
    """From one node to another."""
    return pick([(source, sink) for source in nodes for sink in nodes if source != sink])


@functools.cache
def moments(nodes: tuple[str, ...], pauses_us: tuple[int, ...]) -> st.SearchStrategy[tuple[str, int]]:
    """A node, and how long to wait then."""
    return pick([(node, pause_us) for pause_us in pauses_us for node in nodes])


@functools.cache
def splits(nodes: tuple[str, ...]) -> st.SearchStrategy[tuple[tuple[str, ...], ...]]:
    """Every way to divide the nodes into two sides, then all of them into single ones."""
    first, *others = nodes
    halves = []
    for mask in range(2 ** len(others) - 1):
        side = (first, *(name for at, name in enumerate(others) if mask >> at & 1))
        halves.append((side, tuple(name for name in nodes if name not in side)))
    return pick([*halves, tuple((name,) for name in nodes)])


def all_faults() -> list[Faults]:
    """How bad the network and the disks may be: first the calmest, then whatever has one fault, then two, and so on."""
    calm = Faults(latency_mean_us=200, trace_lines=0)
    alternatives: list[list[dict[str, int]]] = [
        [{}, {"latency_mean_us": 5_000}, {"latency_mean_us": 80_000}],
        [{}, {"loss_ppm": 10_000}, {"loss_ppm": 150_000}],
        [{}, {"duplicate_ppm": 100_000}],
        [{}, {"reorder": True}],
        [{}, {"sync_us": 100_000}],
        [{}, {"torn": True}],
    ]
    worse = sorted(itertools.product(*alternatives), key=lambda faults: sum(map(len, faults)))
    return [msgspec.structs.replace(calm, **dict(one for fault in faults for one in fault.items())) for faults in worse]
