"""Who asks whom for rights, and who gives how much: a policy, no part of the ledger's safety.

Whatever is asked or answered here, a grant is an ordinary fact judged like any other, so a bad policy costs refusals,
never an overdraft. The rules:

* A node remembers its demand per (account, asset): what it spent and what it had to refuse, halved every
  ``half_life_us``.
* It asks as soon as a spend was refused, and before: when what it may still spend is less than its recent demand.
  It asks the reachable peer that holds most, for what is missing plus its demand, one ask at a time per cell; an ask
  unanswered for ``patience_us`` is forgotten and the next peer is tried.
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
    """Ask ``peer`` for ``amount`` of a cell; ``demand`` is the asker's recent demand."""

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


class RightsManager:
    """One node's side of asking for and giving rights. Pure: time comes in, asks go out."""

    def __init__(self, policy: RightsPolicy) -> None:
        self._policy = policy
        self._demand: dict[Cell, _Demand] = {}
        self._wanted: dict[Cell, int] = {}
        self._asked: dict[Cell, tuple[str, int]] = {}
        self._tried: dict[Cell, set[str]] = {}

    def demand(self, cell: Cell, now_us: int) -> int:
        """Recent demand for a cell, decayed to ``now_us``."""
        known = self._demand.get(cell)
        if known is None:
            return 0
        halvings = max(0, now_us - known.at_us) // self._policy.half_life_us
        return known.amount >> min(halvings, 256)

    def _add_demand(self, cell: Cell, amount: int, now_us: int) -> None:
        current = self.demand(cell, now_us)
        known = self._demand.setdefault(cell, _Demand())
        known.amount, known.at_us = current + amount, now_us

    def spent(self, cell: Cell, amount: int, left: int, now_us: int) -> None:
        """A spend went through and ``left`` remains: ask ahead if that is less than the recent demand."""
        self._add_demand(cell, amount, now_us)
        if left < self.demand(cell, now_us):
            self._wanted[cell] = max(self._wanted.get(cell, 0), self.demand(cell, now_us))

    def refused(self, cell: Cell, missing: int, now_us: int) -> None:
        """A spend was refused for want of ``missing``: ask for that and for what will follow."""
        self._add_demand(cell, missing, now_us)
        self._wanted[cell] = max(self._wanted.get(cell, 0), missing + self.demand(cell, now_us))
        self._tried.pop(cell, None)

    def received(self, cell: Cell) -> None:
        """Rights came in for a cell: the ask is answered."""
        self._wanted.pop(cell, None)
        self._asked.pop(cell, None)
        self._tried.pop(cell, None)

    def denied(self, peer: str, cell: Cell) -> None:
        """``peer`` has nothing to give: try another one."""
        if self._asked.get(cell, ("", 0))[0] == peer:
            del self._asked[cell]

    def asks(self, holders: Mapping[Cell, Mapping[str, int]], reachable: Collection[str], now_us: int) -> list[Ask]:
        """What to ask for now. ``holders``: what each node holds of the cells of ``wanted``, as far as this node has seen."""
        out = []
        for cell, amount in list(self._wanted.items()):
            asked = self._asked.get(cell)
            if asked is not None and now_us - asked[1] < self._policy.patience_us:
                continue
            tried = self._tried.setdefault(cell, set())
            held = {p: n for p, n in holders.get(cell, {}).items() if p in reachable and p not in tried and n > 0}
            if not held:
                self.received(cell)  # nobody left to ask: the next refusal starts over
                continue
            peer = max(held, key=lambda name: (held[name], name))
            tried.add(peer)
            self._asked[cell] = (peer, now_us)
            out.append(Ask(peer, *cell, amount, self.demand(cell, now_us)))
        return out

    @property
    def wanted(self) -> list[Cell]:
        """Cells for which rights are wanted."""
        return list(self._wanted)

    def gift(self, cell: Cell, asked: int, asker_demand: int, available: int, now_us: int) -> int:
        """How much of ``available`` to grant in answer to an ask: rounded down, at most what was asked."""
        if available <= 0 or asked <= 0:
            return 0
        own = self.demand(cell, now_us)
        weight = max(asker_demand, 1)
        fair = available * weight // (weight + own)
        return min(asked, fair, available * self._policy.share_ppm // 1_000_000)
