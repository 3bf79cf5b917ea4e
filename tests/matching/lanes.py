"""Several desks and the lanes between them, lossless and delayed as a test likes: no time but counters, no order but each lane's own."""

from __future__ import annotations

from collections.abc import Iterator

from crdtledger.ledger.facts import Accept, Cancel, FactId, Match, Order, Share
from crdtledger.matching.desk import MatchingDesk
from crdtledger.matching.events import Asked, AskFor, Record, Seen, Tick
from crdtledger.matching.match import FIRM
from crdtledger.matching.orders import Name
from crdtledger.matching.queues import DeskLimits
from crdtledger.matching.sharing import SharePolicy
from crdtledger.matching.survival import Survival

INSTRUMENT = "BTC"


def ids() -> Iterator[FactId]:
    number = 1_000
    while True:
        number += 1
        yield number


class Lanes:
    """Desks by name, what each has recorded, and how far each has read each other's lane."""

    def __init__(
        self, names: str = "abc", sharing: SharePolicy | None = None, limits: DeskLimits | None = None
    ) -> None:
        self.names = names
        self._sharing, self._limits = sharing, limits
        self.written: dict[str, list[Seen]] = {name: [] for name in names}
        self.read: dict[tuple[str, str], int] = {(r, w): 0 for r in names for w in names if r != w}
        self.clock: dict[str, int] = dict.fromkeys(names, 1)
        self.wishes: list[tuple[str, AskFor]] = []
        self.desks = {name: self.desk(name) for name in names}
        for desk in self.desks.values():
            desk.begin(0)
        self.orders = 0

    def desk(self, name: str) -> MatchingDesk:
        return MatchingDesk(name, ids(), Survival(), self._limits, self._sharing)

    def record(self, node: str, fact: Order | Cancel | Share | Match | Accept) -> Seen:
        self.clock[node] += 1
        lane = self.written[node]
        seen = Seen(node, fact, (self.clock[node], node.encode(), len(lane) + 1, 0), self.clock[node])
        lane.append(seen)
        return seen

    def enter(self, node: str, **terms) -> Name:
        self.orders += 1
        fields = {"account": f"A{self.orders}", "instrument": INSTRUMENT, "reserve": 1, **terms}
        self._feed(node, self.record(node, Order(id=self.orders, **fields)))
        return node, self.orders

    def cancel(self, name: Name) -> None:
        standing = self.desks[name[0]].standing(name)
        if standing is not None and not standing.closed:
            self._feed(name[0], self.record(name[0], Cancel(id=f"c{name[1]}", order=name[1])))

    def deliver(self, reader: str, writer: str) -> bool:
        """The next fact of a lane reaches a node."""
        at = self.read[reader, writer]
        if at == len(self.written[writer]):
            return False
        self.read[reader, writer] = at + 1
        seen = self.written[writer][at]
        self.clock[reader] = max(self.clock[reader], seen.recorded_us)
        self._feed(reader, seen)
        return True

    def tick(self, node: str) -> None:
        self._feed(node, Tick())

    def _feed(self, node: str, event: Seen | Tick | Asked) -> None:
        desk = self.desks[node]
        assert desk.offer(event, self.clock[node])
        self.drain(node)

    def drain(self, node: str) -> None:
        desk = self.desks[node]
        while any(desk.waiting):
            desk.work()
            for instruction in desk.take(1_000):
                if isinstance(instruction, Record):
                    assert desk.offer(self.record(node, instruction.fact), self.clock[node])
                else:
                    self.wishes.append((node, instruction))

    def grant_wishes(self) -> None:
        wishes, self.wishes = self.wishes, []
        for node, wish in wishes:
            self._feed(wish.order[0], Asked(node, wish.order, wish.qty))

    def settle_down(self) -> None:
        """Deliver everything until nobody has anything to say."""
        moved = True
        while moved:
            moved = False
            for reader, writer in self.read:
                while self.deliver(reader, writer):
                    moved = True
            before = sum(map(len, self.written.values()))
            for name in self.names:
                self.tick(name)
            moved = moved or sum(map(len, self.written.values())) > before

    # -- what all lanes say together, whoever has read them -------------------------------------------------

    def matches(self) -> dict[Name, Match]:
        return {(w, s.fact.id): s.fact for w, lane in self.written.items() for s in lane if isinstance(s.fact, Match)}

    def answers(self) -> dict[Name, Accept]:
        accepts = [s.fact for lane in self.written.values() for s in lane if isinstance(s.fact, Accept)]
        assert len({(a.match_home, a.match) for a in accepts}) == len(accepts), "a match is answered once"
        return {(a.match_home, a.match): a for a in accepts}

    def matched(self) -> dict[Name, int]:
        """What of each order stands: firm, or accepted."""
        answers, out = self.answers(), {}
        for (writer, number), match in self.matches().items():
            answer = answers.get((writer, number))
            qty = match.qty if match.survival == FIRM else answer.qty if answer else 0
            for name in ((writer, match.taker), (match.maker_home, match.maker)):
                out[name] = out.get(name, 0) + qty
        return out

    def quantities(self) -> dict[Name, int]:
        return {
            (w, s.fact.id): s.fact.qty for w, lane in self.written.items() for s in lane if isinstance(s.fact, Order)
        }
