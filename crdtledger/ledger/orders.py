"""Orders as everybody may see them: what is open and who holds it, what was matched, asked and answered.

This adds up what lanes say and refuses nothing: a sum that a liar makes larger than it can be is shown as far as it can be, and
settlement decides. Sums do not depend on the order of arrival, so replicas that hold the same facts show the same books.

    held by a node  =  what the base leaves it (its home: the order's quantity)
                       + shares that it got - shares that it gave
                       - what its own firm matches took of the order, as maker or as taker
                       - what its home accepted;  a taker's home lays aside what it asks for, and has it back where that is refused

Ids of facts about orders are unique within their kind and node. The first statement in the order of the node's lanes stands, what is
settled before all; another with other content is a conflict. ``amends`` closes the order that it names, like a cancel.

How to ask: ``get`` for one order, ``matches`` for one match; rows for people are in ``orderrows``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from crdtledger.ledger.batch import Batch
from crdtledger.ledger.catalog import Place
from crdtledger.ledger.contents import fact_contents
from crdtledger.ledger.factkeys import fact_keys
from crdtledger.ledger.facts import ORDER_KINDS, Instrument, Kind
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.orderfacts import Name, Stated, Terms, stated_facts
from crdtledger.ledger.ordermoney import NO_DRAWN, NO_TALLY, Drawn, Tally
from crdtledger.ledger.places import ByNumber
from crdtledger.ledger.reserveneeds import Meaning, ReserveNeeds
from crdtledger.ledger.settled import SettledState
from crdtledger.ledger.settledparts import PendingMatch, SettledOrder, SuspendedFills


class Statement(NamedTuple):
    """One statement of an id. Sorted as its node's lanes have it."""

    lane: bytes
    seq: int
    row: int
    number: int  # of the batch, in the view
    fact: Stated


class Record:
    """What is known of one order. ``terms`` is None as long as the order itself is not here.

    ``held``: open quantity by node, as summed: below zero where somebody took more than it had. ``closers``: how many cancels and
    amendments name it. ``matched``: firm or accepted, not settled; ``asked`` of it, and ``asking`` for it: tentative and not answered;
    ``hoped``: the latter by price.
    ``traded``: quantity by (price, whether as maker) of what was matched and is not settled. ``gained``: node -> lane -> the last seq in
    it that gave the node something to match: what its batches lean on.
    """

    __slots__ = (
        "asked",
        "closers",
        "drawn",
        "gained",
        "held",
        "home",
        "hoped",
        "id",
        "matched",
        "place",
        "settled",
        "shown",
        "tally",
        "terms",
        "traded",
    )

    def __init__(self, name: Name) -> None:
        self.home, self.id = name
        self.terms: Terms | None = None
        self.place: tuple[int, bytes, int, int] = (0, b"", 0, 0)
        self.held: dict[str, int] = {}
        self.closers = self.matched = self.asked = 0
        self.hoped: dict[int, int] = {}
        self.settled = False
        self.tally: Tally = NO_TALLY
        self.drawn: Drawn = NO_DRAWN
        self.traded: dict[tuple[int, bool], int] = {}
        self.shown: dict[tuple[bytes, int, int], tuple[int, int, int]] = {}
        self.gained: dict[str, dict[bytes, int]] = {}

    def copy(self) -> Record:
        """A record that may be changed without changing this one."""
        other = Record((self.home, self.id))
        for field in self.__slots__:
            setattr(other, field, getattr(self, field))
        other.held, other.traded, other.hoped = dict(self.held), dict(self.traded), dict(self.hoped)
        return other

    @property
    def name(self) -> Name:
        return self.home, self.id

    def open_at(self, node: str) -> int:
        """What ``node`` may match of it firmly."""
        closed = node == self.home and self.closers
        return 0 if closed or self.terms is None else max(0, self.held.get(node, 0))

    @property
    def open(self) -> int:
        """What is open, wherever."""
        return sum(self.open_at(node) for node in self.held)

    @property
    def live(self) -> bool:
        """Whether something of it is open, or waits for an answer, or for settlement."""
        return bool(self.open or self.asked or self.asking or self.matched)

    @property
    def asking(self) -> int:
        """What its own tentative matches ask for."""
        return sum(self.hoped.values())

    def hope(self, qty: int, price: int) -> None:
        """Add to what its tentative matches ask for."""
        self.hoped[price] = self.hoped.get(price, 0) + qty

    def hold(self, node: str, change: int) -> None:
        """Add to what a node holds."""
        self.held[node] = self.held.get(node, 0) + change

    def trade(self, qty: int, price: int, maker: bool) -> None:
        """Add to what was matched."""
        self.matched += qty
        self.traded[price, maker] = self.traded.get((price, maker), 0) + qty


class Answer(NamedTuple):
    """What an accept came to: the match's two orders, what was asked, and what stands of it."""

    maker: Name
    taker: Name
    asked: int
    accepted: int
    price: int


class Orders:
    """The orders of one view. ``batches`` and ``places`` are the view's, by local number."""

    def __init__(
        self,
        genesis: Genesis,
        base: SettledState,
        batches: Sequence[Batch | SuspendedFills],
        places: ByNumber[Place],
    ) -> None:
        self._genesis, self._base = genesis, base
        self._batches, self._places = batches, places
        self._members = {member.name: index for index, member in enumerate(genesis.nodes)}
        self._records: dict[Name, Record] = {}
        self._stated: dict[tuple[Kind, Name], list[Statement]] = {}
        self._repeated: set[tuple[Kind, Name]] = set()
        self._accepts: dict[Name, list[tuple[Kind, Name]]] = {}
        self._answers: dict[Name, Answer] = {}
        self._reserved: dict[tuple[bytes, str], set[Name]] | None = None  # by (lane, reserve), once somebody asks
        self._needs: ReserveNeeds | None = None  # once somebody asks
        self.overruled: list[Statement] = []
        """Statements under ids that are settled with other content."""
        for pending in base.pending.values():
            self._record(pending.maker).asked += pending.held
            self._record(pending.taker).hope(pending.held, pending.price)

    # -- reading --------------------------------------------------------------------------------------------

    def get(self, name: Name) -> Record | None:
        """One order, None if nothing is known of it (or it is done and settled)."""
        record = self._records.get(name)
        if record is None and name in self._base.orders:
            record = self._record(name)
        return record if record is not None and record.terms is not None else None

    def names(self) -> list[Name]:
        """The orders that are known, sorted."""
        fresh = {name for name, record in self._records.items() if record.terms is not None}
        return sorted(fresh | self._base.orders.keys())

    def match(self, name: Name) -> Stated | None:
        """An unsettled match."""
        told = self._stated.get((Kind.MATCH, name))
        return told[0].fact if told else None

    def matches(self) -> list[Name]:
        """The unsettled matches, sorted."""
        return sorted(name for kind, name in self._stated if kind is Kind.MATCH)

    def pending_names(self) -> Iterable[Name]:
        """The settled matches that wait for their answer."""
        return self._base.pending.keys()

    def pending(self, name: Name) -> PendingMatch | None:
        """A settled match that waits for its answer."""
        return self._base.pending.get(name)

    def answer(self, name: Name) -> Stated | None:
        """What the maker's home answered to a match, settled or not: its first accept."""
        maker = self._asked(name)
        told = [self._stated[fact][0] for fact in self._accepts.get(name, ()) if maker and fact[1][0] == maker[0][0]]
        return min(told).fact if told else None

    def place(self, kind: Kind, name: Name) -> tuple[bytes, int] | None:
        """(lane, seq) of an unsettled fact."""
        told = self._stated.get((kind, name))
        return (told[0].lane, told[0].seq) if told else None

    def known(self, kind: Kind, name: Name) -> Statement | None:
        """The unsettled statement that stands under an id."""
        told = self._stated.get((kind, name))
        return told[0] if told else None

    def on_reserve(self, lane: bytes, reserve: str) -> list[Record]:
        """Orders that are not done, or not settled, and name this reserve of this lane."""
        if self._reserved is None:
            self._reserved = {}
            for name in self.names():
                self._note_reserve(self._record(name))
        named = (self.get(name) for name in sorted(self._reserved.get((lane, reserve), ())))
        return [one for one in named if one is not None]

    def needs(self, lane: bytes, reserve: str, definitions: Mapping[bytes, Instrument]) -> Mapping[Meaning, int]:
        """What all orders on a reserve of a lane may yet draw out of it, by what must stand for it."""
        if self._needs is None:
            self._needs = ReserveNeeds(self._genesis, self.get)
            for name in self.names():
                self._needs.touch(name)
        return self._needs.of(lane, reserve, definitions)

    def _note_reserve(self, record: Record) -> None:
        if self._reserved is not None and record.terms is not None:
            self._reserved.setdefault((record.place[1], record.terms.reserve), set()).add(record.name)

    def conflicts(self) -> list[list[Statement]]:
        """Ids under which unsettled statements say different things: all of each, the one that stands first."""
        repeated = (self._stated[at] for at in sorted(self._repeated))
        return [told for told in repeated if len({self.content(one) for one in told}) > 1]

    def content(self, one: Statement) -> bytes:
        """What a statement says, as 16 bytes."""
        rows = np.array([one.row], np.int64)
        return fact_contents(self._batches[one.number].body, one.fact.kind, rows).tobytes()

    # -- folding --------------------------------------------------------------------------------------------

    def apply(self, number: int, batch: Batch, void: Mapping[Kind, Iterable[int]]) -> None:
        """Take in a batch's facts about orders, but for those rows that are ``void`` by themselves."""
        node = self._genesis.by_id[batch.lane.node].name
        skipped = {(kind, row) for kind, rows in void.items() for row in rows}
        seen = {kind: self._settled(batch, kind, number, node) for kind in ORDER_KINDS & batch.body.tables.keys()}
        for fact in stated_facts(batch.body, self._genesis, node):
            if (fact.kind, fact.row) in skipped:
                continue
            one = Statement(batch.key, batch.seq, fact.row, number, fact)
            if fact.row in seen[fact.kind]:
                if seen[fact.kind][fact.row]:
                    self.overruled.append(one)
                continue
            self._state(one)

    def _settled(self, batch: Batch, kind: Kind, number: int, node: str) -> dict[int, bool]:
        """Rows whose ids their node has settled, and whether they say something else."""
        used = self._base.used.get(self._members[node])
        if used is None:
            return {}
        found = used.find(fact_keys(batch.body, kind))
        rows = np.flatnonzero(found >= 0)
        differs = (fact_contents(batch.body, kind, rows) != used.says(found[rows])).any(axis=1) if len(rows) else rows
        return dict(zip(rows.tolist(), differs.astype(bool).tolist(), strict=True))

    def _state(self, one: Statement) -> None:
        told = self._stated.setdefault((one.fact.kind, one.fact.name), [])
        if told:
            self._repeated.add((one.fact.kind, one.fact.name))
        if told and told[0] < one:
            told.append(one)
            return
        if told:
            self._count(told[0], -1)
        told.insert(0, one)
        self._count(one, 1)

    def _record(self, name: Name) -> Record:
        """The record of an order, there from now on, to be looked at or changed."""
        if self._needs is not None:
            self._needs.touch(name)
        record = self._records.get(name)
        if record is None:
            record = self._records[name] = Record(name)
            settled = self._base.orders.get(name)
            if settled is not None:
                self._take_in(record, settled)
        return record

    def _take_in(self, record: Record, settled: SettledOrder) -> None:
        record.terms, record.place, record.settled = settled.terms, settled.place, True
        record.held = {self._genesis.nodes[member].name: qty for member, qty in settled.open}
        record.closers = int(settled.closed)
        record.tally, record.drawn = settled.tally, settled.drawn
        if settled.shown is not None:
            record.shown[b"", 0, 0] = (settled.terms.side, *settled.shown)

    def _count(self, one: Statement, sign: int) -> None:
        """Enter a fact, or take it back."""
        fact = one.fact
        if fact.kind is Kind.ORDER:
            self._count_order(one, sign)
        elif fact.kind is Kind.CANCEL:
            self._record(fact.about).closers += sign
        elif fact.kind is Kind.SHARE:
            record = self._record(fact.about)
            record.hold(fact.name[0], -sign * fact.qty)
            record.hold(fact.node, sign * fact.qty)
            self._lean(record, fact.node, one)
        elif fact.kind is Kind.MATCH:
            self._count_match(one, sign)
        elif fact.kind is Kind.ACCEPT:
            facts = self._accepts.setdefault(fact.about, [])
            if (fact.kind, fact.name) not in facts:
                facts.append((fact.kind, fact.name))
            self._undo_answer(fact.about)
            if sign > 0:
                self._redo_answer(fact.about)
        else:
            record = self._record(fact.about)
            record.shown.pop(one[:3], None)
            if sign > 0:
                record.shown[one[:3]] = (fact.side, fact.qty, fact.price)

    def _count_order(self, one: Statement, sign: int) -> None:
        fact, terms = one.fact, one.fact.terms
        assert terms is not None
        record = self._record(fact.name)
        record.terms = terms
        record.place = (self._places[one.number].clock, one.lane, one.seq, one.row)
        record.hold(record.home, sign * terms.qty)
        self._lean(record, record.home, one)
        self._note_reserve(record)
        if terms.amends:
            self._record((fact.name[0], terms.amends)).closers += sign

    def _count_match(self, one: Statement, sign: int) -> None:
        fact = one.fact
        self._undo_answer(fact.name)
        maker, taker = self._record(fact.about), self._record(fact.taker)
        taker.hold(fact.name[0], -sign * fact.qty)
        if fact.firm:
            maker.hold(fact.name[0], -sign * fact.qty)
            maker.trade(sign * fact.qty, fact.price, True)
            taker.trade(sign * fact.qty, fact.price, False)
            return
        maker.asked += sign * fact.qty
        taker.hope(sign * fact.qty, fact.price)
        if sign > 0:
            self._redo_answer(fact.name)

    def _undo_answer(self, match: Name) -> None:
        answer = self._answers.pop(match, None)
        if answer is not None:
            self._count_answer(answer, -1)

    def _redo_answer(self, match: Name) -> None:
        """Enter the first answer of the maker's home to a tentative match, if both are here."""
        asked, accept = self._asked(match), self.answer(match)
        if asked is None or accept is None:
            return
        maker, taker, qty, price = asked
        self._answers[match] = Answer(maker, taker, qty, min(accept.qty, qty), price)
        self._count_answer(self._answers[match], 1)
        self._lean(self._record(taker), taker[0], self._stated[accept.kind, accept.name][0])

    def _count_answer(self, answer: Answer, sign: int) -> None:
        maker, taker = self._record(answer.maker), self._record(answer.taker)
        maker.asked -= sign * answer.asked
        taker.hope(-sign * answer.asked, answer.price)
        maker.hold(maker.home, -sign * answer.accepted)
        taker.hold(taker.home, sign * (answer.asked - answer.accepted))
        maker.trade(sign * answer.accepted, answer.price, True)
        taker.trade(sign * answer.accepted, answer.price, False)

    def _lean(self, record: Record, node: str, one: Statement) -> None:
        lanes = record.gained.setdefault(node, {})
        lanes[one.lane] = max(one.seq, lanes.get(one.lane, 0))

    def _asked(self, name: Name) -> tuple[Name, Name, int, int] | None:
        """(maker, taker, what is asked for, price) of a tentative match, unsettled or pending."""
        told = self._stated.get((Kind.MATCH, name))
        if told:
            fact = told[0].fact
            return None if fact.firm else (fact.about, fact.taker, fact.qty, fact.price)
        pending = self._base.pending.get(name)
        return (pending.maker, pending.taker, pending.held, pending.price) if pending else None
