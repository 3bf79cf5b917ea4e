"""How likely a tentative match is to stand: the probability that the maker's home accepts it whole. In ppm.

The model, for a maker's order of a peer, matched here now (docs/explanation/survival.md has it at length):

1. *What we do not see.* Our picture of the peer is ``age`` old (``links``: the newest that it recorded and we have), and it will see our
   match only after ``reach``, a distribution measured from the answers it gave before; in a partition its open end grows with the silence.
   The order must outlive both.
2. *How orders of its kind end.* A life table per (peer, instrument) (``lifetable``) gives the rates at which they are cancelled, and
   consumed by others, at the ages that the order passes through meanwhile. Over ``reach``: ``plain`` = mean of exp(-cancel - consume).
3. *What that leaves out* (makers cancel in a hurry when the market moves; several takers want the same) is learned from the answers: two
   logistic regressions per (peer, instrument) (``regression``), one for a live link and one for a partition, on the score of ``plain`` and
   the ``FEATURES`` beside it. Their priors are the same for all, so a peer that never answered is judged like any other, and old answers
   are forgotten.

The result is held within ``floor_ppm`` of certainty on both sides. Floating point is used throughout: survival is an annotation, no figure
depends on it. Bounded: the newest ``orders`` of each peer are followed.
"""

from __future__ import annotations

import math
from typing import Final, TypeAlias

import msgspec
import numpy as np

from crdtledger.matching.book import Book
from crdtledger.matching.lifetable import LifeTable
from crdtledger.matching.links import LIVELY, Link
from crdtledger.matching.orders import BUY, SELL, Name
from crdtledger.matching.regression import Regression, Vector
from crdtledger.matching.staleness import fresh
from crdtledger.matching.standing import Standing

PPM: Final = 1_000_000

FEATURES: Final = ("one", "plain", "exposed", "quiet", "silence", "hurry", "asked", "whole", "narrow", "behind")
"""What the regression sees. ``one``: always 1. ``plain``: the log odds of the plain model. ``exposed``: the log of age and reach
together, over 100 ms. ``quiet``: how long the peer has been silent, in usual gaps, at most 1. ``silence``: the log of how much longer
than one gap. ``hurry``: the log odds that the end is a cancel rather than a consumption. ``asked``: the part of the order that is asked
for already. ``whole``: the part of what is free that the match takes. ``narrow``: how narrow the spread is against its usual. ``behind``:
whether a better level stands before it."""

SIGNS: Final = (0, 1, -1, 0, -1, 0, 0, 0, 0, 0)
"""Which way features may count: what the plain model says counts for survival, exposure and an unusual silence against it, whatever the
answers of the moment suggest. So in a partition survival falls, and keeps falling."""

_SILENCE: Final = FEATURES.index("silence")
_PARTED: Final = math.log(LIVELY)

Key: TypeAlias = tuple[str, str]
"""(peer, instrument)."""


class SurvivalConfig(msgspec.Struct, frozen=True):
    """``half_life_us`` of the life tables. ``memory``: what remains of an outcome's weight after one more. ``mean`` and ``variance``: the
    prior of the regression's weights, in the order of ``FEATURES``; ``parted``: its mean in a partition."""

    half_life_us: int = 30_000_000
    memory: float = 0.999
    floor_ppm: int = 1_000
    orders: int = 4_096
    mean: tuple[float, ...] = (0.58, 0.39, -0.61, 1.26, -3.42, -0.23, -0.04, -0.71, -0.26, 0.88)
    parted: tuple[float, ...] = (-0.2, 0.38, -0.14, 0.0, -0.05, -0.31, -1.0, 0.0, -0.1, -0.4)
    variance: tuple[float, ...] = (0.25, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05, 0.15)


class Estimate(msgspec.Struct, frozen=True):
    """What was thought of a match: its ``ppm``, and the features it came from, to be learned from when the answer comes."""

    ppm: int
    key: Key
    asked_us: int
    features: Vector
    staleness_us: int


class _Peer:
    __slots__ = ("link", "orders")

    def __init__(self) -> None:
        self.link = Link()
        self.orders: dict[Name, tuple[str, int]] = {}  # name -> (instrument, placed at by its home's clock)


class _Habit:
    """What is learned of one (peer, instrument)."""

    __slots__ = ("live", "parted", "spread", "table")

    def __init__(self, config: SurvivalConfig) -> None:
        self.table = LifeTable(config.half_life_us)
        self.live = Regression(config.mean, config.variance, config.memory, SIGNS)
        self.parted = Regression(config.parted, config.variance, config.memory, SIGNS)
        self.spread = 0.0


class Survival:
    """See the module. ``peer`` is a node's name; times are microseconds, ``recorded_us`` by the peer's clock."""

    def __init__(self, config: SurvivalConfig | None = None) -> None:
        self._config = config or SurvivalConfig()
        self._peers: dict[str, _Peer] = {}
        self._habits: dict[Key, _Habit] = {}

    # -- what is seen ---------------------------------------------------------------------------------------

    def heard(self, peer: str, upto_us: int, now_us: int) -> None:
        """All that ``peer`` recorded up to ``upto_us`` is here."""
        self._peer(peer).link.heard(upto_us, now_us)

    def recorded(self, peer: str, recorded_us: int, now_us: int) -> None:
        """A fact that ``peer`` recorded is here."""
        link = self._peer(peer).link
        link.recorded(now_us)
        link.heard(recorded_us, now_us)

    def fresh_us(self, probability: float, now_us: int) -> float:
        """With this probability, nothing older than so many microseconds is missing here, of any peer (``staleness.fresh``)."""
        return fresh([peer.link.peer_age(now_us) for peer in self._peers.values()], probability)

    def placed(self, name: Name, instrument: str, recorded_us: int) -> None:
        """A peer's order was recorded."""
        orders = self._peer(name[0]).orders
        if len(orders) >= self._config.orders:
            del orders[next(iter(orders))]
        orders[name] = instrument, recorded_us

    def cancelled(self, name: Name, recorded_us: int) -> None:
        """It was cancelled."""
        self._ended(name, recorded_us, "cancel")

    def consumed(self, name: Name, recorded_us: int, ours: bool) -> None:
        """Nothing of it is left. ``ours``: because of us."""
        self._ended(name, recorded_us, "ours" if ours else "consume")

    def link(self, peer: str) -> Link:
        """What is known of the way to a peer. To be looked at only."""
        return self._peer(peer).link

    def _ended(self, name: Name, recorded_us: int, cause: str) -> None:
        known = self._peer(name[0]).orders.pop(name, None)
        if known is not None:
            instrument, placed_us = known
            self._habit((name[0], instrument)).table.lived(max(0, recorded_us - placed_us), cause, recorded_us)

    # -- what is thought ------------------------------------------------------------------------------------

    def estimate(self, maker: Standing, qty: int, book: Book, now_us: int) -> Estimate:
        """The survival of a match of ``qty`` with ``maker`` written now. ``book``: of its instrument, as seen here."""
        assert maker.order is not None
        home, order = maker.name[0], maker.order
        peer, key = self._peer(home), (home, order.instrument)
        habit = self._habit(key)
        link = peer.link
        placed_us = peer.orders.get(maker.name, (order.instrument, link.upto_us))[1]
        age_us = link.age_us(now_us)
        plain = cancels = consumes = 0.0
        reaches, silence = link.reach_us(now_us), link.silence(now_us)
        for reach_us in reaches:
            hazard = habit.table.hazard(max(0, link.upto_us - placed_us), age_us + reach_us)
            plain += math.exp(-hazard.cancel - hazard.consume) / len(reaches)
            cancels += hazard.cancel
            consumes += hazard.consume
        free = maker.free()
        exposed_us = age_us + sum(reaches) / len(reaches)
        features = np.array(
            (
                1.0,
                _log_odds(plain),
                max(-4.0, min(8.0, math.log((exposed_us + 1.0) / 100_000.0))),
                min(1.0, silence),
                math.log(max(1.0, silence)),
                max(-3.0, min(3.0, math.log((cancels + 1e-9) / (consumes + 1e-9)))),
                maker.asked / (maker.asked + free) if free else 1.0,
                qty / free if free else 1.0,
                self._narrow(habit, book),
                float(book.best(maker.sign) != order.price),
            )
        )
        chance = self._chance(habit, features)
        floor = self._config.floor_ppm
        ppm = min(PPM - floor, max(floor, round(chance * PPM)))
        return Estimate(ppm, key, now_us, features, round(exposed_us))

    def learn(self, estimate: Estimate, accepted: bool, now_us: int) -> None:
        """A match was answered: whether it was accepted whole."""
        self._peer(estimate.key[0]).link.answered(estimate.asked_us, now_us)
        habit = self._habit(estimate.key)
        parted = estimate.features[_SILENCE] > _PARTED
        (habit.parted if parted else habit.live).learn(estimate.features, accepted)

    @staticmethod
    def _chance(habit: _Habit, features: Vector) -> float:
        """By the regression of live links, or in a partition by its own, but by no more than at the moment when the link was last live."""
        if features[_SILENCE] <= _PARTED:
            return habit.live.probability(features)
        last = features.copy()
        last[_SILENCE] = _PARTED
        return min(habit.live.probability(last), habit.parted.probability(features))

    def _narrow(self, habit: _Habit, book: Book) -> float:
        bid, offer = book.best(BUY), book.best(SELL)
        if bid is None or offer is None:
            return 0.0
        spread = float(offer - bid)
        habit.spread = 0.99 * habit.spread + 0.01 * spread if habit.spread else spread
        return max(-2.0, min(2.0, 1.0 - spread / (abs(habit.spread) + 1e-9)))

    def _peer(self, name: str) -> _Peer:
        peer = self._peers.get(name)
        if peer is None:
            self._peers[name] = peer = _Peer()
        return peer

    def _habit(self, key: Key) -> _Habit:
        habit = self._habits.get(key)
        if habit is None:
            self._habits[key] = habit = _Habit(self._config)
        return habit


def _log_odds(chance: float) -> float:
    return max(-12.0, min(6.0, math.log((chance + 1e-12) / (1.0 - chance + 1e-9))))
