"""How much of its orders a home shares with other nodes ahead of need: a policy, no part of safety.

A share lets another node match firmly what would be tentative otherwise, and takes as much from what the home itself can match. The
policy remembers how much each node asked for lately (tentative matches and plain asks), halved every ``half_life_us``, and gives each in
proportion, at most ``share_ppm`` of what the home holds together, and nothing below ``least``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from crdtledger.ledger.facts import FactId, Share
from crdtledger.matching.standing import Standing


class SharePolicy(msgspec.Struct, frozen=True):
    """``share_ppm``: of what the home holds of an order, the most that goes out; 0 shares nothing. ``least``: no smaller shares than
    this."""

    share_ppm: int = 0
    half_life_us: int = 10_000_000
    least: int = 1


class Demand:
    """What each node wanted of one instrument lately."""

    def __init__(self, policy: SharePolicy) -> None:
        self._policy = policy
        self._wanted: dict[str, tuple[int, int]] = {}  # node -> (amount, as of us)

    def want(self, node: str, qty: int, now_us: int) -> None:
        """``node`` wanted ``qty``."""
        self._wanted[node] = (self.of(node, now_us) + qty, now_us)

    def of(self, node: str, now_us: int) -> int:
        """What is remembered of ``node``."""
        amount, at_us = self._wanted.get(node, (0, 0))
        return amount >> min(max(0, now_us - at_us) // self._policy.half_life_us, 256)

    def gift(self, asked: int, held: int) -> int:
        """How much of ``held`` to share with one who asked for ``asked``."""
        qty = min(asked, held * self._policy.share_ppm // 1_000_000)
        return qty if qty >= self._policy.least else 0

    def spread(self, held: int, home: str, now_us: int) -> Mapping[str, int]:
        """How to share a new order of which the home holds ``held``, over those who wanted some; the home's own demand keeps its part."""
        out = held * self._policy.share_ppm // 1_000_000
        wanted = {node: self.of(node, now_us) for node in sorted(self._wanted)}
        total = sum(wanted.values())
        if not out or not total:
            return {}
        parts = {node: out * amount // total for node, amount in wanted.items() if node != home}
        return {node: qty for node, qty in parts.items() if qty >= self._policy.least}


class Shares:
    """The shares that a node writes: of its own orders by policy, and of others' back home. ``ids``: fresh ids for them."""

    def __init__(self, node: str, ids: Iterator[FactId], policy: SharePolicy) -> None:
        self._node = node
        self._ids = ids
        self._policy = policy
        self._demands: dict[str, Demand] = {}  # by instrument

    def take_over(self, before: Shares) -> None:
        """Remember what ``before`` does of who wanted what."""
        self._demands = before._demands

    def wanted(self, maker: Standing, node: str, qty: int, now_us: int) -> None:
        """``node`` wanted ``qty`` of an order of ours, or of one like it."""
        if maker.order is not None:
            self._demands.setdefault(maker.order.instrument, Demand(self._policy)).want(node, qty, now_us)

    def spread(self, standing: Standing, now_us: int) -> list[Share]:
        """Shares of a new order of ours with those who lately wanted such."""
        order = standing.order
        demand = self._demands.get(order.instrument) if order is not None else None
        if demand is None or not standing.visible():
            return []
        parts = demand.spread(standing.held(self._node), self._node, now_us)
        return [self._share(standing, node, qty) for node, qty in parts.items()]

    def give(self, standing: Standing, node: str, qty: int, now_us: int) -> list[Share]:
        """What ``node`` gets that asked for ``qty`` of an order: of ours as the policy has it, of another's whatever is held here of it."""
        if not standing.visible():
            return []
        self.wanted(standing, node, qty, now_us)
        assert standing.order is not None
        held = standing.held(self._node)
        if standing.name[0] != self._node:
            gift = min(qty, held) if node != self._node else 0
        else:
            gift = self._demands[standing.order.instrument].gift(qty, held)
        return [self._share(standing, node, gift)] if gift else []

    def hand_back(self, standing: Standing) -> list[Share]:
        """What is held here of an order that its home has cancelled goes home."""
        home, here = standing.name[0], standing.at.get(self._node, 0)
        if not standing.closed or home == self._node or here <= 0:
            return []
        return [self._share(standing, home, here)]

    def _share(self, standing: Standing, node: str, qty: int) -> Share:
        home, order = standing.name
        return Share(id=next(self._ids), home=home, order=order, node=node, qty=qty)
