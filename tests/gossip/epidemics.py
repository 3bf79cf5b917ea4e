"""The epidemics of the literature, as cores for the simulator: what is published about them, the simulator has to bring out.

All run in rounds of a second, on a network that takes a moment and loses nothing; what a node learns in a round it passes on from the next
round on. Many rumours spread at once, each for itself: every node draws another partner for each, so each is a sample of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random
from typing import Any, Final, TypeAlias

import msgspec

from gossip.effects import Effect, Received, Send, StartTimer, TimerFired
from gossip.network import Faults
from gossip.simulation import Simulation

NODES: Final = 1000
SECOND: Final = 1_000_000
_QUIET: Final = Faults(latency_min_us=200, latency_mean_us=200, detect_us=1, trace_lines=0)
_TELL, _ASK, _USEFUL, _KNOWN = range(4)


class Start(msgspec.Struct, frozen=True):
    """A client's wish: spread ``rumour`` from here."""

    rumour: int


class Mongering(msgspec.Struct, frozen=True):
    """Rumour mongering by push: whoever told ``k`` in a row that knew it already loses interest. ``together``: of several that tell the
    same susceptible in one round all were useful, not only the first; ``resets``: a useful contact lets the count begin anew."""

    k: int
    together: bool = True
    resets: bool = True


class Epidemic(msgspec.Struct, frozen=True):
    """A simple epidemic: every node contacts another in every round. ``push``: those who know tell; ``pull``: those who do not ask."""

    push: bool
    pull: bool


Rule: TypeAlias = Mongering | Epidemic


class _State(msgspec.Struct):
    heard: int = -1  # in which round; -1: not yet
    useless: int = 0
    active: bool = False


class Node:
    """One node, and where it stands with every rumour. ``sent``: the updates that it sent, by rumour."""

    def __init__(
        self, place: int, names: Sequence[str], rules: Sequence[Rule], over: Collection[int], random: Random
    ) -> None:
        self.round = 0
        self.states = [_State() for _ in rules]
        self.sent = [0] * len(rules)
        self._names = names
        self._place = place
        self._rules = rules
        self._over = over
        self._random = random

    def start(self, now_us: int) -> list[Effect]:
        return [StartTimer("round", SECOND)]

    def step(self, event: Any, now_us: int) -> list[Effect]:
        if isinstance(event, TimerFired):
            return [*self._contacts(), StartTimer("round", SECOND)]
        if isinstance(event, Start):
            self._hear(event.rumour, self.round)
        if isinstance(event, Received):
            return self._received(event.peer, event.frame[0], int.from_bytes(event.frame[1:], "big"))
        return []

    def _contacts(self) -> list[Effect]:
        self.round += 1
        out: list[Effect] = []
        for rumour, (rule, state) in enumerate(zip(self._rules, self.states, strict=True)):
            knows = state.heard >= 0
            if isinstance(rule, Mongering):
                if state.active:
                    out.append(self._tell(self._partner(), rumour))
            elif rumour in self._over:
                continue
            elif knows and rule.push:
                out.append(self._tell(self._partner(), rumour))
            elif not knows and rule.pull:
                out.append(_frame(self._partner(), _ASK, rumour))
        return out

    def _received(self, peer: str, what: int, rumour: int) -> list[Effect]:
        rule, state = self._rules[rumour], self.states[rumour]
        knew = 0 <= state.heard < self.round
        if what == _ASK:
            return [self._tell(peer, rumour)] if knew else []
        if isinstance(rule, Epidemic):
            self._hear(rumour, self.round)
            return []
        if what == _TELL:
            useful = not knew if rule.together else state.heard < 0
            self._hear(rumour, self.round)
            return [_frame(peer, _USEFUL if useful else _KNOWN, rumour)]
        if what == _KNOWN:
            state.useless += 1
            state.active = state.useless < rule.k
        elif rule.resets:
            state.useless = 0
        return []

    def _hear(self, rumour: int, now: int) -> None:
        state = self.states[rumour]
        if state.heard < 0:
            state.heard, state.active = now, True

    def _tell(self, peer: str, rumour: int) -> Send:
        self.sent[rumour] += 1
        return _frame(peer, _TELL, rumour)

    def _partner(self) -> str:
        other = int(self._random.random() * (len(self._names) - 1))
        return self._names[other + (other >= self._place)]


def _frame(peer: str, what: int, rumour: int) -> Send:
    return Send(peer, bytes([what]) + rumour.to_bytes(2, "big"))


class Spread(msgspec.Struct, frozen=True):
    """What became of a rumour: the nodes that never heard of it, the updates sent, and the rounds until the last heard."""

    missed: int
    sent: int
    rounds: int


def spread(rules: Sequence[Rule], rounds: int, seed: int) -> list[Spread]:
    """Let one rumour for each of ``rules`` start somewhere, all at once, and run at most so many rounds. An epidemic that everybody
    has is over: nodes cannot know that, and who watches them need not wait."""
    over: set[int] = set()
    names = [f"n{at}" for at in range(NODES)]
    random = Random(seed)

    def factory(name: str, records: Sequence[bytes], incarnation: int) -> Node:
        return Node(int(name[1:]), names, rules, over, Random(random.random()))

    simulation = Simulation(names, factory, _QUIET, seed)
    for rumour in range(len(rules)):
        simulation.submit(names[random.randrange(NODES)], Start(rumour))
    simulation.run_for(SECOND // 2)
    nodes = [simulation.core(name) for name in names]
    for _ in range(rounds):
        simulation.run_for(SECOND)
        over |= {at for at in range(len(rules)) if at not in over and all(node.states[at].heard >= 0 for node in nodes)}
        if all(at in over or not any(node.states[at].active for node in nodes) for at in range(len(rules))):
            break
    return [
        Spread(
            missed=sum(node.states[rumour].heard < 0 for node in nodes),
            sent=sum(node.sent[rumour] for node in nodes),
            rounds=max(node.states[rumour].heard for node in nodes),
        )
        for rumour in range(len(rules))
    ]
