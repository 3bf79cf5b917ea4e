"""Who asks whom for rights, and who gives how much: a policy, no part of the ledger's safety.

Whatever is asked or answered here, a grant is an ordinary fact judged like any other, so a bad policy costs refusals,
never an overdraft. The rules:

* A node remembers its demand per (account, asset): what it spent, halved every ``half_life_us``.
* It wants a *level*: after a refusal, what was asked for plus its demand; before one, its demand, as soon as what it may
  still spend falls below that. A refused spend that is tried again and again does not raise the level.
* It asks the reachable peer that holds most for what is missing to the level, one ask at a time per cell. When rights
  arrive and more is missing, or the peer denies, or ``patience_us`` pass, the next peer is asked; nobody twice.
* The giver keeps in proportion to its own demand, and never gives more than ``share_ppm`` of what it holds.

After Balegas et al. (SRDS 2015), section 4.2, with demand instead of round-robin.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import msgspec

Cell = tuple[str, str]
"""(account, asset)."""


class RightsPolicy(msgspec.Struct, frozen=True):
    """``share_ppm``: the most of its holding that a node gives in one answer; more makes takers ask less often and givers
    run dry sooner. ``half_life_us``: how fast demand is forgotten. ``patience_us``: how long an ask may stay unanswered."""

    share_ppm: int = 500_000
    half_life_us: int = 10_000_000
    patience_us: int = 500_000


class Ask(NamedTuple):
    """Ask ``peer`` for ``amount`` of a cell; ``demand`` is what the asker's claim weighs: its recent demand, or what it misses."""

    peer: str
    account: str
    asset: str
    amount: int
    demand: int


class _Demand:
    __slots__ = ("amount", "at_us")

    def __init__(self) -> None:
        self.amount = 0
        self.at_us = 0


class _Want:
    """What is wanted of one cell: the level to reach, who was asked, and what was there when the last was."""

    __slots__ = ("asked", "asked_us", "level", "seen", "tried")

    def __init__(self) -> None:
        self.level = 0
        self.asked = ""
        self.asked_us = 0
        self.seen = 0
        self.tried: set[str] = set()


class RightsManager:
    """One node's side of asking for and giving rights. Pure: time comes in, asks go out."""

    def __init__(self, policy: RightsPolicy) -> None:
        self._policy = policy
        self._demand: dict[Cell, _Demand] = {}
        self._wants: dict[Cell, _Want] = {}

    @property
    def wanted(self) -> list[Cell]:
        """Cells for which rights are wanted."""
        return list(self._wants)

    def demand(self, cell: Cell, now_us: int) -> int:
        """Recent demand for a cell, decayed to ``now_us``."""
        known = self._demand.get(cell)
        if known is None:
            return 0
        halvings = max(0, now_us - known.at_us) // self._policy.half_life_us
        return known.amount >> min(halvings, 256)

    def spent(self, cell: Cell, amount: int, left: int, now_us: int) -> None:
        """A spend went through and ``left`` remains: ask ahead if that is less than the recent demand."""
        demand = self.demand(cell, now_us) + amount
        known = self._demand.setdefault(cell, _Demand())
        known.amount, known.at_us = demand, now_us
        if left < demand:
            self._want(cell, demand)

    def refused(self, cell: Cell, requested: int, now_us: int) -> None:
        """A spend of ``requested`` was refused: ask for what it takes and for what will follow, everybody anew."""
        self._want(cell, requested + self.demand(cell, now_us)).tried.clear()

    def _want(self, cell: Cell, level: int) -> _Want:
        want = self._wants.setdefault(cell, _Want())
        want.level = max(want.level, level)
        return want

    def held(self, cell: Cell, available: int) -> None:
        """What this node may spend of a wanted cell changed: enough ends the asking, a part of it sends it on."""
        want = self._wants.get(cell)
        if want is None:
            return
        if available >= want.level:
            del self._wants[cell]
        elif available > want.seen:
            want.asked = ""

    def denied(self, peer: str, cell: Cell) -> None:
        """``peer`` has nothing to give: try another one."""
        want = self._wants.get(cell)
        if want is not None and want.asked == peer:
            want.asked = ""

    def asks(
        self,
        available: Mapping[Cell, int],
        holders: Mapping[Cell, Mapping[str, int]],
        reachable: Collection[str],
        now_us: int,
    ) -> list[Ask]:
        """What to ask for now. For every wanted cell: what this node may spend, and what each node holds as far as seen."""
        out = []
        for cell, want in list(self._wants.items()):
            if want.asked and now_us - want.asked_us < self._policy.patience_us:
                continue
            missing = want.level - available[cell]
            held = {p: n for p, n in holders[cell].items() if p in reachable and p not in want.tried and n > 0}
            if missing <= 0 or not held:
                del self._wants[cell]  # enough, or nobody left to ask: the next refusal starts over
                continue
            want.asked = max(held, key=lambda name: (held[name], name))
            want.asked_us, want.seen = now_us, available[cell]
            want.tried.add(want.asked)
            out.append(Ask(want.asked, *cell, missing, max(missing, self.demand(cell, now_us))))
        return out

    def gift(self, cell: Cell, asked: int, asker_demand: int, available: int, now_us: int) -> int:
        """How much of ``available`` to grant in answer to an ask: rounded down, at most what was asked."""
        if available <= 0 or asked <= 0:
            return 0
        own = self.demand(cell, now_us)
        weight = max(asker_demand, 1)
        fair = available * weight // (weight + own)
        return min(asked, fair, available * self._policy.share_ppm // 1_000_000)
