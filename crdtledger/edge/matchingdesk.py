"""Matching in the node: feeds the pure desk (``crdtledger.matching.desk``) from the replica's view, and has what it says recorded.

- *From the view.* The desk stands on a view: when that is folded anew (a checkpoint was settled, the node started, opened a new epoch or
  was restored, a fork took batches out), a new desk takes up what the view says. So a restart loses nothing, and settlement is followed:
  the desk's books are those of the view, at every node that holds the same facts on the same base the same.
- *Nothing twice.* An id is the lane's epoch, its length when the desk was made, and a number: whatever was recorded made the lane longer.
  Answers that were recorded are in the view, and are not given again.
- *Bounded.* At most ``FACTS`` a step are recorded, the rest in later ones; events wait outside a full desk, and where there are too many
  of them the desk is made anew instead.
- *A silent node* matches and answers nothing: one that is locked (a new epoch that does not know its predecessors' end) could not record
  it, and one that was just started again may hold an old disk, and would fork its lane.
- *What the recorder refuses* the desk takes back: a match with it its taker is cancelled. Anything else that is refused waits for the next
  checkpoint or tick.
- *Time.* While there are orders, nodes tell each other once a ``TICK_US`` how far their lane goes and what their clock says, so that they
  know how old their picture of each other is.
- *Reserves* that this node made for orders (``ordering``) are voided when all orders on them are done and settled.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec
import numpy as np

from crdtledger.edge.journaling import Journaling
from crdtledger.edge.messages import LaneClock, ShareAsk
from crdtledger.edge.ordering import made_here
from crdtledger.errors import LedgerError
from crdtledger.ledger.batch import LANE_BYTES, Batch
from crdtledger.ledger.body import split_id
from crdtledger.ledger.clock import COUNTER_BITS
from crdtledger.ledger.facts import KIND_OF, MAX_TEXT, ORDER_KINDS, Cancel, FactId, Kind, Match, Order, Void
from crdtledger.ledger.orderfacts import Stated, Terms, stated_facts
from crdtledger.ledger.recorder import Recorder
from crdtledger.ledger.view import View
from crdtledger.matching.book import Book
from crdtledger.matching.desk import MatchingDesk
from crdtledger.matching.events import Asked, AskFor, DeskEvent, Holds, Seen, Tick, Unrecorded
from crdtledger.matching.orders import Name
from crdtledger.matching.sharing import SharePolicy
from crdtledger.matching.standing import Fact
from crdtledger.matching.survival import Survival
from crdtledger.matching.viewed import fact_of, name_of, spelt, standing_of
from gossip.effects import Notify, StartTimer
from gossip.protocol import GossipEngine, Output

CHANNEL: Final = "orders"
ORDERS_TIMER: Final = "orders"
MORE_TIMER: Final = "orders.more"
TIMERS: Final = {ORDERS_TIMER, MORE_TIMER}
TICK_US: Final = 250_000
FACTS: Final = 512
"""Recorded in one step, at most."""
BACKLOG: Final = 65_536
"""Events that wait outside a full desk, at most."""

_encode = msgspec.msgpack.Encoder().encode


def clock_us(clock: int) -> int:
    """The wall time in a batch's clock."""
    return (clock >> COUNTER_BITS) * 1_000


class OrderDesk:
    """Matching at the node that writes with ``recorder``. ``note`` takes batches recorded here; ``silent``: whether none may be."""

    def __init__(
        self,
        recorder: Recorder,
        engine: GossipEngine,
        journaling: Journaling,
        note: Callable[[Sequence[Batch]], None],
        sharing: SharePolicy,
        silent: Callable[[], bool],
    ) -> None:
        self._recorder, self._replica = recorder, recorder.replica
        self._engine, self._journaling, self._note = engine, journaling, note
        self._sharing, self._silent = sharing, silent
        self.name = recorder.genesis.by_id[recorder.lane.node].name
        self.survival = Survival()
        self._desk: MatchingDesk | None = None
        self._view: View | None = None  # that the desk stands on
        self._height = -1
        self._active = False  # there are orders
        self._due = True  # the desk is to be made anew
        self._backlog: deque[DeskEvent] = deque()
        self._mine: set[bytes] = set()  # batches that the desk had recorded: it knows
        self._stood_on: dict[bytes, int] = {}  # how far each lane went when the desk was made: it knows that, too
        self._clocks: dict[str, LaneClock] = {}  # what peers told and is not here yet
        self._positions: dict[tuple[str, str], int] = {}  # as the desk knows them
        self._reducing: set[tuple[str, str]] = set()
        self._ticking = self._more = False

    # -- what can be looked at ------------------------------------------------------------------------------

    def book(self, instrument: str) -> Book:
        """The book as seen from here."""
        return self._desk.book(instrument) if self._desk else Book()

    def fresh_us(self, probability: float, now_us: int) -> float:
        """With this probability, nothing older than so many microseconds is missing here."""
        return self.survival.fresh_us(probability, now_us)

    @property
    def settled_down(self) -> bool:
        """Whether everything that was seen is worked on and recorded."""
        idle = self._desk is not None and self._desk.waiting == (0, 0) and not self._backlog
        return not self._active or (idle and not self._stale)

    # -- events ---------------------------------------------------------------------------------------------

    def replayed(self) -> None:
        """Everything that the journal holds is here."""
        self._active = bool(self._replica.state.orders) or any(map(_about_orders, self._replica.batches()))

    def arrived(self, batches: Sequence[Batch], now_us: int) -> list[Output]:
        """Batches came in or were recorded, or time has come to look again."""
        ours = bool(batches) and all(batch.hash in self._mine for batch in batches)
        fresh = [batch for batch in batches if batch.hash not in self._mine]
        self._mine.difference_update(batch.hash for batch in batches)
        for batch in fresh:
            if _about_orders(batch):
                self._active = True
                self._take_in(batch)
            elif batch.lane.node != self._recorder.lane.node:
                node = self._recorder.genesis.by_id[batch.lane.node].name
                self.survival.recorded(node, clock_us(batch.header.clock), now_us)
        return [] if ours or not self._active else self._go_on(now_us)

    def timer(self, key: str, now_us: int) -> list[Output]:
        """One of ``TIMERS`` is due."""
        if key == MORE_TIMER:
            self._more = False
            return self._go_on(now_us)
        self._ticking = False
        if not self._active:
            return []
        if self._stale:
            self._due = True
        out = self._go_on(now_us, Tick())
        lane = self._recorder.lane
        seq = self._replica.head(lane.key).seq
        beat = _encode(LaneClock(lane.key, seq, now_us))
        for peer in self._engine.peers:
            out += self._engine.send_app(peer, CHANNEL, beat, self._journaling.needed)
        return out

    def received(self, peer: str, message: LaneClock | ShareAsk, now_us: int) -> list[Output]:
        """``peer`` tells how far its lane goes, or would like a share of an order of ours."""
        if isinstance(message, ShareAsk):
            self._backlog.append(Asked(peer, (message.home, split_id(message.order)), message.qty))
            return self._go_on(now_us) if self._active else []
        if len(message.lane) == LANE_BYTES and message.lane.startswith(self._recorder.genesis.member(peer).id):
            self._clocks[peer] = message
            self._hear(now_us)
        return []

    def _hear(self, now_us: int) -> None:
        """What peers said of their lanes and is here by now."""
        for peer, told in list(self._clocks.items()):
            if self._replica.head(told.lane).seq >= told.seq:
                del self._clocks[peer]
                self.survival.heard(peer, told.clock_us, now_us)

    # -- the desk -------------------------------------------------------------------------------------------

    @property
    def _stale(self) -> bool:
        """Whether the view that the desk stands on is not the view any more."""
        return self._desk is None or self._view is None or self._view is not self._replica.folded

    def _go_on(self, now_us: int, *events: DeskEvent) -> list[Output]:
        """Feed the desk and carry out what it says; what there is to send."""
        if self._silent():
            self._desk, self._due = None, True
            return self._timers()
        if self._due or self._desk is None or self._replica.base[0] != self._height:
            self._make(now_us)
        desk = self._desk
        assert desk is not None
        if self._stale:
            return self._timers()
        self._hear(now_us)
        if self._backlog:
            self._backlog.extendleft(self._news_of_positions())
        self._backlog.extend(events)
        while self._backlog and desk.offer(self._backlog[0], now_us):
            self._backlog.popleft()
        out = self._carry_out(desk, now_us)
        return [*out, *self._timers()]

    def _timers(self) -> list[Output]:
        out: list[Output] = []
        if self._desk is not None and not self._more and (self._backlog or any(self._desk.waiting)):
            self._more = True
            out.append(StartTimer(MORE_TIMER, 0))
        if self._active and not self._ticking:
            self._ticking = True
            out.append(StartTimer(ORDERS_TIMER, TICK_US))
        return out

    def _make(self, now_us: int) -> None:
        """A desk that stands on the view."""
        view = self._replica.view
        settled = self._replica.base[0] != self._height
        before, self._view, self._height = self._desk, view, self._replica.base[0]
        desk = MatchingDesk(self.name, self._ids(), self.survival, sharing=self._sharing)
        orders = [record for name in view.orders.names() if (record := view.orders.get(name)) is not None]
        standings = [
            standing_of(one)
            for one in orders
            if one.terms is not None and (one.open or one.asked or one.asking) and self._trades(one.terms)
        ]
        self._active = bool(orders)
        self._due = False
        self._backlog.clear()
        self._positions.clear()
        self._stood_on = {lane: head.seq for lane, head in self._replica.frontier().items()}
        self._desk = desk
        desk.resume(standings, list(_unanswered(view)), before)
        if settled:
            self._release(now_us)
        self._reducing = {
            cell for one in orders if one.terms is not None and (cell := self._reduces(one.name, one.terms))
        }
        for holds in self._news_of_positions():
            desk.offer(holds, now_us)
        desk.work()
        desk.begin(now_us)

    def _ids(self) -> Iterator[FactId]:
        lane = self._recorder.lane
        made = f"{lane.epoch}.{self._replica.head(lane.key).seq}"
        return (f"{made}.{number}" for number in itertools.count(1))

    def _trades(self, terms: Terms) -> bool:
        """Whether matching has to do with an order: auctions clear at checkpoints."""
        catalog = self._replica.view.catalog
        definition = catalog.definitions.get(terms.definition)
        standing = catalog.standing(terms.instrument)
        return definition is not None and standing == terms.definition and definition.mode == "continuous"

    def _take_in(self, batch: Batch) -> None:
        """What a batch says of orders is to be seen by the desk, as far as it stands in the view."""
        if self._stale or self._due:
            return  # the desk will be made anew, from a view that has it
        if batch.seq <= self._stood_on.get(batch.key, 0):
            return  # a height let it in, and the desk was made before it was told of
        view, node = self._replica.view, self._recorder.genesis.by_id[batch.lane.node].name
        for stated in stated_facts(batch.body, self._recorder.genesis, node):
            known = view.orders.known(stated.kind, stated.name)
            if known is None or (known.lane, known.seq, known.row) != (batch.key, batch.seq, stated.row):
                continue
            if node == self.name and stated.kind not in (Kind.ORDER, Kind.CANCEL, Kind.REVEAL):
                self._due = True  # a client's own hand in what is the desk's
            self._see(batch, node, stated, view)
        if len(self._backlog) > BACKLOG:
            self._due = True

    def _see(self, batch: Batch, node: str, stated: Stated, view: View) -> None:
        fact = fact_of(stated)
        if fact is None or (stated.terms is not None and not self._trades(stated.terms)):
            return
        record = view.orders.get(stated.name) if isinstance(fact, Order) else None
        cell = self._reduces(stated.name, stated.terms) if stated.terms is not None else None
        if cell:
            self._reducing.add(cell)
        place = record.place if record is not None else (batch.header.clock, batch.key, batch.seq, stated.row)
        self._backlog.append(Seen(node, fact, place, clock_us(batch.header.clock)))

    def _reduces(self, name: Name, terms: Terms) -> tuple[str, str] | None:
        """The (account, instrument) whose position an order of this node is to reduce."""
        return (terms.account, terms.instrument) if terms.reduce_only and name[0] == self.name else None

    def _news_of_positions(self) -> Iterator[Holds]:
        """Positions that reduce-only orders of this node are to reduce, where they changed: filled, and matched since."""
        if not self._reducing:
            return
        view = self._replica.view
        held = {(row.account, row.instrument): row.qty for row in view.position_rows()}
        for row in view.order_rows():
            cell = (row.account, row.instrument)
            held[cell] = held.get(cell, 0) + row.side * row.matched
        for cell in sorted(self._reducing):
            if self._positions.get(cell, 0) != held.get(cell, 0):
                self._positions[cell] = held.get(cell, 0)
                yield Holds(*cell, self._positions[cell])

    # -- recording ------------------------------------------------------------------------------------------

    def _carry_out(self, desk: MatchingDesk, now_us: int) -> list[Output]:
        out: list[Output] = []
        left = FACTS
        while left > 0:
            desk.work(FACTS)
            said = desk.take(left)
            if not said:
                break
            left -= len(said)
            run: list[Fact] = []
            for one in said:
                if isinstance(one, AskFor):
                    out += self._ask_for(one)
                    continue
                # Facts of one batch apply by kind: what must come after a later kind goes into a batch of its own.
                if run and KIND_OF[type(one.fact)] < KIND_OF[type(run[-1])]:
                    out += self._record(run, desk, now_us)
                    run = []
                run.append(one.fact)
            out += self._record(run, desk, now_us)
        return out

    def _ask_for(self, wish: AskFor) -> list[Output]:
        """Ask whoever holds of an order for a share of it."""
        record = self._replica.view.orders.get(spelt(wish.order))
        holders = [node for node in sorted(record.held) if record.open_at(node)] if record is not None else []
        ask = _encode(ShareAsk(wish.order[0], str(wish.order[1]), wish.qty))
        return [send for node in holders if node != self.name for send in self._engine.send_app(node, CHANNEL, ask)]

    def _record(self, facts: Sequence[Fact], desk: MatchingDesk, now_us: int) -> list[Output]:
        if not facts:
            return []
        try:
            batches = self._recorder.record(facts, now_us).batches
        except LedgerError as error:
            if len(facts) == 1:
                return self._refused(facts[0], error, desk, now_us)
            return [output for fact in facts for output in self._record([fact], desk, now_us)]
        self._mine.update(batch.hash for batch in batches)
        self._note(batches)
        return []

    def _refused(self, fact: Fact, error: LedgerError, desk: MatchingDesk, now_us: int) -> list[Output]:
        """The recorder would not have it: what the desk thinks is open, or paid for, is not."""
        kind = KIND_OF[type(fact)].name.lower()
        if not isinstance(fact, Match) or not desk.offer(Unrecorded(fact), now_us):
            self._view = None  # another desk is made at the next tick
        if isinstance(fact, Match):
            cancel = Cancel(id=f"refused {fact.id}"[:MAX_TEXT], order=fact.taker)
            self._note(self._recorder.record([cancel], now_us).batches)
        return [Notify("orders.refused", {"kind": kind, "id": str(fact.id), "why": str(error)})]

    def _release(self, now_us: int) -> None:
        """Void reserves that were made for orders and are not needed any more."""
        view, lane = self._replica.view, self._recorder.lane.key
        for (high, low), reserve in sorted(self._replica.state.reserves.get(lane, {}).items()):
            left = view.rights.reserve(lane, (np.array([high], np.uint64), np.array([low], np.uint64)))
            if made_here(reserve.id) and left and left[1] and not view.orders.on_reserve(lane, reserve.id):
                void = Void(id=f"done {reserve.id}"[:MAX_TEXT], reserve=split_id(reserve.id))
                self._note(self._recorder.record([void], now_us).batches)

    # -- checking -------------------------------------------------------------------------------------------

    def check_invariants(self) -> None:
        """The desk that has worked on everything says of every order what the view says. (Where a node contradicts itself, the view may
        take back what the desk has seen.)"""
        if self._desk is None or not self._active or not self.settled_down:
            return
        orders = self._replica.view.orders
        if orders.conflicts():
            return
        for name in orders.names():
            record = orders.get(name)
            if record is None or record.terms is None or not self._trades(record.terms):
                continue
            standing, seen = standing_of(record), self._desk.standing(name_of(name))
            if standing.visible() or (seen is not None and seen.visible()):
                assert seen is not None, f"the desk knows {name}"
                assert seen.visible() == standing.visible(), f"the desk's {name} is the view's"


def _about_orders(batch: Batch) -> bool:
    return bool(ORDER_KINDS & batch.body.tables.keys())


def _unanswered(view: View) -> Iterator[tuple[Name, Match]]:
    """Tentative matches that wait for their answer."""
    orders = view.orders
    for name in sorted({*orders.matches(), *orders.pending_names()}):
        stated, pending = orders.match(name), orders.pending(name)
        if orders.answer(name) is not None:
            continue
        if stated is not None and not stated.firm:
            match = fact_of(stated)
            assert isinstance(match, Match)
            yield name_of(name), match
        elif pending is not None:
            home, maker = name_of(pending.maker)
            terms = {"qty": pending.held, "price": pending.price, "survival": pending.survival}
            taker = split_id(pending.taker[1])
            yield name_of(name), Match(id=split_id(name[1]), taker=taker, maker_home=home, maker=maker, **terms)
