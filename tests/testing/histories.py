"""Histories for tests: written in a few words, drawn at random, and judged by trying everything.

history("a invoke write 1; a ok write 1; b invoke read; b ok read 2")
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from random import Random
from typing import Any

from hypothesis import strategies as st

from crdtledger.testing.history import Call, History, Op, Recorder

Script = list[tuple[int, int]]
"""(which client, how it goes on): what a drawn history is made of."""


def history(text: str) -> History:
    """Operations ``process type f value``, separated by ``;`` or lines."""
    ops = []
    parts = [part for line in text.splitlines() for part in line.split(";") if part.strip()]
    for at, part in enumerate(parts):
        process, kind, f, *value = part.split(maxsplit=3)
        ops.append(Op(process, kind, f, json.loads(value[0]) if value else None, at))  # type: ignore[arg-type]
    return History(ops)


def scripts(max_size: int) -> st.SearchStrategy[Script]:
    return st.lists(st.tuples(st.integers(0, 3), st.integers(0, 63)), max_size=max_size)


def played(script: Script, ask: Callable[[int], tuple[str, Any]], answer: Callable[[str, Any, int], Any]) -> History:
    """Each step lets a client begin something, or complete what it began: mostly ok, with an answer that ``answer`` draws."""
    recorder = Recorder()
    lives = [0] * 4
    asked: dict[str, tuple[str, Any]] = {}
    for client, number in script:
        process = f"{client}.{lives[client]}"
        if process not in asked:
            asked[process] = ask(number)
            recorder.invoke(process, *asked[process])
            continue
        f, value = asked.pop(process)
        if number % 8 == 0:
            recorder.info(process)
            lives[client] += 1
        elif number % 8 == 1:
            recorder.fail(process)
        else:
            recorder.ok(process, answer(f, value, number // 8))
    return recorder.history()


# -- registers ------------------------------------------------------------------------------------------------


def register_history(script: Script) -> History:
    """Reads, writes and compare-and-sets of 0, 1 and 2; a read may say any of them."""

    def ask(number: int) -> tuple[str, Any]:
        if number % 3 == 0:
            return "read", None
        return ("write", number // 3 % 3) if number % 3 == 1 else ("cas", [number // 3 % 3, number // 9 % 3])

    return played(script, ask, lambda f, value, number: number % 3 if f == "read" else value)


def linearizable_by_trying(given: History, initial: Any) -> bool:
    """Try every order of every choice of calls."""
    calls = [call for call in given.calls if call.outcome != "fail"]
    sure = [call for call in calls if call.outcome == "ok"]
    doubtful = [call for call in calls if call.outcome == "info" and call.f != "read"]
    return any(
        _in_order(order, initial)
        for count in range(len(doubtful) + 1)
        for chosen in itertools.combinations(doubtful, count)
        for order in itertools.permutations([*sure, *chosen])
    )


def _in_order(order: tuple[Call, ...], state: Any) -> bool:
    """Whether these calls, in this order, keep to their times and agree with a register."""
    latest = -1
    for call in order:
        latest = max(latest, call.began)
        if call.ended is not None and call.ended < latest:
            return False
        if call.f == "read":
            if call.answer != state:
                return False
        elif call.f == "write":
            state = call.asked
        elif call.asked[0] == state:
            state = call.asked[1]
        else:
            return False
    return True


def real_register(seed: int, calls: int, clients: int, crash: float = 0.0) -> History:
    """The history of clients of a register that is right: each call takes effect at one instant between its ends."""
    draw, recorder = Random(seed), Recorder()
    register: list[Any] = [None]
    begun: dict[str, tuple[str, Any]] = {}
    effects: dict[str, Any] = {}  # process -> what came of it
    ghosts: list[tuple[str, Any]] = []
    lives = dict.fromkeys(range(clients), 0)
    while calls or begun:
        client = draw.randrange(clients)
        process = f"{client}.{lives[client]}"
        if ghosts and draw.random() < 0.05:
            _take_effect(register, *ghosts.pop())
        if process not in begun:
            if calls:
                calls -= 1
                f = draw.choice(("read", "write", "cas"))
                value = {"read": None, "write": draw.randrange(5), "cas": [draw.randrange(5), draw.randrange(5)]}[f]
                begun[process] = (f, value)
                recorder.invoke(process, f, value)
        elif draw.random() < crash:
            recorder.info(process)
            ghosts += [begun.pop(process)] if process not in effects else []
            begun.pop(process, None)
            lives[client] += 1
        elif process not in effects:
            effects[process] = _take_effect(register, *begun[process])
        elif effects[process] == "mismatch":
            recorder.fail(process, "it held something else")
            del begun[process], effects[process]
        else:
            recorder.ok(process, effects.pop(process))
            del begun[process]
    return recorder.history()


def _take_effect(register: list[Any], f: str, value: Any) -> Any:
    if f == "read":
        return register[0]
    if f == "cas" and value[0] != register[0]:
        return "mismatch"
    register[0] = value if f == "write" else value[1]
    return value


# -- counters -------------------------------------------------------------------------------------------------


def counter_history(script: Script) -> History:
    """Additions from -3 to 3 and reads that say anything from -4 to 4."""

    def ask(number: int) -> tuple[str, Any]:
        return ("read", None) if number % 3 == 0 else ("add", number // 3 % 7 - 3)

    return played(script, ask, lambda f, value, number: number % 8 - 4 if f == "read" else value)


def counted_by_trying(given: History) -> bool:
    """Try, for every read, every choice of additions that its time allows."""
    adds = [call for call in given.of("add") if call.outcome != "fail"]
    for read in (call for call in given.of("read") if call.outcome == "ok"):
        assert read.ended is not None
        possible = False
        for mask in range(1 << len(adds)):
            chosen = {at for at in range(len(adds)) if mask >> at & 1}
            sums = sum(adds[at].asked for at in chosen) == read.answer
            fits = all(
                (at in chosen or not (call.ended is not None and call.ended < read.began))
                and (at not in chosen or call.began < read.ended)
                for at, call in enumerate(adds)
            )
            possible |= sums and fits
        if not possible:
            return False
    return True
