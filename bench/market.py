"""A simulated market: desks and agents on several nodes, lanes that travel over the simulator's network, in virtual time.

Only what matching needs is simulated: facts without signatures in lanes that are lossless and in order. A frame that the network loses,
or that a partition meets, is sent again until it arrives. Same regime, same seed: same market."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterator
from random import Random

import msgspec

from crdtledger.ledger.facts import Accept, Cancel, FactId, Match, Order
from crdtledger.matching.agents import Agent, Enter, MakerConfig, MarketMaker, Taker, TakerConfig, View
from crdtledger.matching.desk import MatchingDesk
from crdtledger.matching.events import Heard, Record, Seen, Tick
from crdtledger.matching.match import FIRM
from crdtledger.matching.orders import Name
from crdtledger.matching.survival import Estimate, Survival, SurvivalConfig
from gossip.network import Faults, Network

BEAT_US = 50_000
RETRY_US = 120_000
FAIR = 10_000


class Kind(msgspec.Struct, frozen=True):
    """An instrument and who trades it. ``requote_us``: how often makers look, on average, one per node. ``takes_per_s``: per node.
    ``moves``: standard deviation of the price per square root of a second. ``tolerance``: of makers, for a quote that is off."""

    name: str
    requote_us: tuple[int, ...]
    takes_per_s: float
    moves: float
    tolerance: int = 1


BUSY = Kind("PERP", (60_000, 150_000, 300_000, 700_000), 6.0, 6.0)
CALM = Kind("OPTION", (2_000_000, 1_000_000, 600_000, 400_000), 3.0, 1.0, 2)


class Regime(msgspec.Struct, frozen=True):
    """A kind of market. ``apart_us`` every ``together_us``: partitions into two halves, drawn anew each time."""

    name: str
    faults: Faults
    kinds: tuple[Kind, ...] = (BUSY, CALM)
    skew_us: int = 0
    together_us: int = 0
    apart_us: int = 0
    min_survival: int = 0


class Outcome(msgspec.Struct, frozen=True):
    """One answered tentative match."""

    ppm: int
    accepted: bool
    staleness_us: int
    features: tuple[float, ...]
    peer: tuple[str, str]


class _Watched(Survival):
    """The model under test, with a note of every answer."""

    def __init__(self, config: SurvivalConfig | None) -> None:
        super().__init__(config)
        self.outcomes: list[Outcome] = []

    def learn(self, estimate: Estimate, accepted: bool, now_us: int) -> None:
        features = tuple(map(float, estimate.features))
        self.outcomes.append(Outcome(estimate.ppm, accepted, estimate.staleness_us, features, estimate.key))
        super().learn(estimate, accepted, now_us)


class _Node:
    def __init__(self, name: str, desk: MatchingDesk, survival: _Watched, skew_us: int) -> None:
        self.name, self.desk, self.survival, self.skew_us = name, desk, survival, skew_us
        self.lane = name.encode()
        self.seq = 0
        self.clock_us = 0
        self.frame: list[Seen] = []
        self.owners: dict[Name, Agent] = {}
        self.open: dict[int, dict[Name, None]] = {}  # of each agent, by id()
        self.pending: dict[Name, dict[FactId, tuple[int, int, int]]] = {}  # by taker


class Market:
    """One market of a regime. ``survival``: the model's settings; None for those that it comes with."""

    def __init__(self, regime: Regime, seed: int, survival: SurvivalConfig | None = None) -> None:
        self.regime = regime
        self._random = Random(f"{regime.name} {seed}")
        names = [f"n{number}" for number in range(len(regime.kinds[0].requote_us))]
        self._network = Network(names, regime.faults, Random(self._random.random()))
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self.now_us = 0
        self._fair = {kind.name: (float(FAIR), 0) for kind in regime.kinds}
        self._trading = True
        self.firm = 0
        self._apart = False
        self._sent: dict[tuple[str, str], int] = {}
        self._read: dict[tuple[str, str], int] = {}
        self._early: dict[tuple[str, str], dict[int, tuple[int, list[Seen]]]] = {}
        self._backlog: dict[tuple[str, str], list[tuple[int, int, list[Seen]]]] = {}
        self.nodes: dict[str, _Node] = {}
        for name in names:
            watched = _Watched(survival)
            desk = MatchingDesk(name, self._ids(), watched)
            desk.begin(0)
            self.nodes[name] = _Node(name, desk, watched, round(regime.skew_us * (2 * self._random.random() - 1)))
        self._order_ids = itertools.count(1)
        self._begin()

    @staticmethod
    def _ids() -> Iterator[FactId]:
        return itertools.count(1_000_000_000)

    def run(self, seconds: float) -> None:
        """Trade for ``seconds``, then wait a while for answers. A partition that stands then goes on standing."""
        self._until(round(seconds * 1e6))
        self._trading = False
        self._until(self.now_us + 3_000_000)

    # -- time -----------------------------------------------------------------------------------------------

    def _at(self, due_us: int, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (due_us, next(self._number), action))

    def _every(self, mean_us: float, action: Callable[[], None], regular: bool = False) -> None:
        """Do it for ever, at exponential distances, or almost regular ones."""

        def again() -> None:
            if self._trading:
                action()
                self._every(mean_us, action, regular)

        draw = 0.8 + 0.4 * self._random.random() if regular else -math.log(1.0 - self._random.random())
        self._at(self.now_us + max(1, round(mean_us * draw)), again)

    def _until(self, end_us: int) -> None:
        while self._queue and self._queue[0][0] <= end_us:
            self.now_us, _, action = heapq.heappop(self._queue)
            action()
        self.now_us = end_us

    def _begin(self) -> None:
        regime = self.regime
        for kind in regime.kinds:
            for node, requote_us in zip(self.nodes.values(), kind.requote_us, strict=True):
                config = MakerConfig(
                    lot=5 + int(8 * self._random.random()), variance=kind.moves**2, tolerance=kind.tolerance
                )
                maker, taker = (
                    MarketMaker(config),
                    Taker(TakerConfig(min_survival=regime.min_survival), self._random.random),
                )
                self._every(requote_us, lambda n=node, a=maker, k=kind: self._act(n, a, k), regular=True)
                self._every(1e6 / kind.takes_per_s, lambda n=node, a=taker, k=kind: self._act(n, a, k))
        for node in self.nodes.values():
            self._at(0, lambda n=node: self._beat(n))
        if regime.apart_us:
            self._at(regime.together_us, self._part)

    def _part(self) -> None:
        if not self._trading:
            return
        self._apart = not self._apart
        if self._apart:
            names = list(self.nodes)
            self._random.shuffle(names)
            self._network.partition([names[: len(names) // 2], names[len(names) // 2 :]])
        else:
            self._network.heal()
        length_us = self.regime.apart_us if self._apart else self.regime.together_us
        self._at(self.now_us + round(length_us * (0.3 + 1.4 * self._random.random())), self._part)

    def _beat(self, node: _Node) -> None:
        self._feed(node, Tick())
        self._flush(node, always=True)
        self._at(self.now_us + BEAT_US, lambda: self._beat(node))

    # -- agents ---------------------------------------------------------------------------------------------

    def _price(self, kind: Kind) -> float:
        """A random walk with jumps, moved on to now."""
        fair, at_us = self._fair[kind.name]
        elapsed = (self.now_us - at_us) / 1e6
        fair += self._random.gauss(0.0, kind.moves * math.sqrt(elapsed))
        if self._random.random() < elapsed * 0.5:
            fair += self._random.gauss(0.0, 2 * kind.moves)
        self._fair[kind.name] = fair, self.now_us
        return fair

    def _act(self, node: _Node, agent: Agent, kind: Kind) -> None:
        mine = node.open.setdefault(id(agent), {})
        for name in list(mine):
            standing = node.desk.standing(name)
            if standing is None or standing.closed or not standing.held(node.name):
                del mine[name]
        standings = [(name, node.desk.standing(name)) for name in mine]
        held = {name: (s.sign, s.held(node.name), s.order.price) for name, s in standings if s and s.order}
        pending = tuple(one for name in mine for one in node.pending.get(name, {}).values())
        belief = self._price(kind) + self._random.gauss(0.0, 0.15 * kind.moves)
        view = View(self.now_us, node.desk.book(kind.name), held, pending, belief)
        for action in agent.act(view):
            if isinstance(action, Enter):
                order = Order(
                    id=next(self._order_ids),
                    account=f"{node.name}.{type(agent).__name__}",
                    instrument=kind.name,
                    side=action.side,
                    qty=action.qty,
                    price=action.price,
                    reserve=1,
                    tif=action.tif,
                    min_survival=action.min_survival,
                )
                node.owners[node.name, order.id] = agent
                if action.tif == "gtc":
                    mine[node.name, order.id] = None
                self._feed(node, self._record(node, order))
            else:
                self._feed(node, self._record(node, Cancel(id=next(self._order_ids), order=action.order[1])))
        self._flush(node)

    def _stood(self, node: _Node, order: Name, side: int, qty: int, price: int) -> None:
        agent = node.owners.get(order)
        if agent is not None:
            agent.filled(side, qty, price)

    # -- lanes ----------------------------------------------------------------------------------------------

    def _record(self, node: _Node, fact: Order | Cancel | Match | Accept) -> Seen:
        node.seq += 1
        node.clock_us = max(node.clock_us + 1, self.now_us + node.skew_us)
        seen = Seen(node.name, fact, (node.clock_us, node.lane, node.seq, 0), node.clock_us)
        node.frame.append(seen)
        return seen

    def _feed(self, node: _Node, event: Seen | Heard | Tick) -> None:
        desk = node.desk
        assert desk.offer(event, self.now_us + node.skew_us), "a desk that is drained at once is never full"
        desk.work()
        if isinstance(event, Seen) and event.node != node.name:
            self._note(node, event.fact if isinstance(event.fact, Accept) else None)
        for instruction in desk.take(1 << 20):
            if isinstance(instruction, Record):
                self._note(node, instruction.fact)
                self._record(node, instruction.fact)

    def _note(self, node: _Node, fact: object) -> None:
        """Tell agents what stands of their orders, and keep what they have pending."""
        if isinstance(fact, Match):
            taker = node.desk.standing((node.name, fact.taker))
            assert taker is not None
            if fact.survival == FIRM:
                self.firm += 1
                self._stood(node, taker.name, taker.sign, fact.qty, fact.price)
                self._stood(node, (fact.maker_home, fact.maker), -taker.sign, fact.qty, fact.price)
            else:
                node.pending.setdefault(taker.name, {})[fact.id] = taker.sign, fact.qty, fact.survival
        elif isinstance(fact, Accept):
            asked = node.desk.asked(fact)
            if asked is not None and asked.maker_home == node.name and fact.qty:
                maker = node.desk.standing((node.name, asked.maker))
                assert maker is not None
                self._stood(node, maker.name, maker.sign, fact.qty, asked.price)
            elif asked is not None and fact.match_home == node.name:
                taken = node.pending[node.name, asked.taker].pop(fact.match)
                self._stood(node, (node.name, asked.taker), taken[0], fact.qty, asked.price)

    def _flush(self, node: _Node, always: bool = False) -> None:
        """Send what was recorded to everybody, once it is on disk."""
        if not node.frame and not always:
            return
        frame, node.frame = node.frame, []
        upto_us = max(node.clock_us, self.now_us + node.skew_us)
        node.clock_us = upto_us
        for other in self.nodes:
            if other != node.name:
                way = node.name, other
                self._sent[way] = self._sent.get(way, 0) + 1
                self._send(way, self._sent[way], upto_us, frame)

    def _send(self, way: tuple[str, str], number: int, upto_us: int, frame: list[Seen]) -> None:
        if self._backlog.get(way):
            self._wait(way, number, upto_us, frame)
            return
        due = self._network.fate(*way, self.now_us)
        if due:
            self._at(due[0] + self._network.sync_us(), lambda: self._arrive(way, number, upto_us, frame))
        else:
            self._wait(way, number, upto_us, frame)

    def _wait(self, way: tuple[str, str], number: int, upto_us: int, frame: list[Seen]) -> None:
        waiting = self._backlog.setdefault(way, [])
        waiting.append((number, upto_us, frame))
        if len(waiting) == 1:
            self._at(self.now_us + RETRY_US, lambda: self._retry(way))

    def _retry(self, way: tuple[str, str]) -> None:
        due = self._network.fate(*way, self.now_us)
        if not due:
            self._at(self.now_us + RETRY_US, lambda: self._retry(way))
            return
        waiting = sorted(self._backlog.pop(way), key=lambda one: one[0])
        for number, upto_us, frame in waiting:
            self._at(due[0], lambda n=number, u=upto_us, f=frame: self._arrive(way, n, u, f))

    def _arrive(self, way: tuple[str, str], number: int, upto_us: int, frame: list[Seen]) -> None:
        if not self._network.carries(*way):
            self._wait(way, number, upto_us, frame)
            return
        early = self._early.setdefault(way, {})
        early[number] = upto_us, frame
        reader = self.nodes[way[1]]
        while (following := early.pop(self._read.get(way, 0) + 1, None)) is not None:
            self._read[way] = self._read.get(way, 0) + 1
            upto_us, frame = following
            reader.clock_us = max(reader.clock_us, upto_us)
            for seen in frame:
                self._feed(reader, seen)
            self._feed(reader, Heard(way[0], upto_us))
        self._flush(reader)
