"""A view: positions, collateral, the board and reference data as a pure function of (base, batches).

Batches go in one at a time, in any order that respects lanes and deps; the same set on the same base gives the same figures,
byte for byte (``canonical``). Nothing here refuses a batch: what it may not do is void and named among the breaks.

The base is the settled state that the batches come on top of; it is looked up, never copied, so a view costs what is not
settled. Settlement is a view too, a *settling* one, and differs where it must:

* It is given each batch's place in canonical order, in that order, so nothing that came before is ever taken back.
* Its fills wait for ``finish``, when every definition of the cut is known: facts under a definition that lost its name do not
  compete for ids.
* A batch that would take its *node's* rights below zero is void (``rights.DIVIDED``): two lanes of one node that do not know of
  each other cannot be told apart from honest ones until they are put in order.

What a finished one leaves to the next state: ``judged`` (which ids are used, by whom), ``collateral.landed()``,
``rights.reserves_after()``, ``catalog.fresh_*()``, ``board.extended()``, ``unsettled_cursors()``, ``void_batches``, ``void_facts()``,
``lasting_breaks()``, and ``settled_fills``: ``counted``, ``repeated``, ``contradicted``, ``lost`` and ``waiting()``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from crdtledger.ledger import findings
from crdtledger.ledger.batch import OPEN_MOST, Batch
from crdtledger.ledger.bindings import Bindings
from crdtledger.ledger.board import NOT_NEXT, Board
from crdtledger.ledger.breaks import Break
from crdtledger.ledger.catalog import Binding, Catalog, Place, layered
from crdtledger.ledger.collateral import Balance, Collateral
from crdtledger.ledger.dedupe import Rows
from crdtledger.ledger.factkeys import fact_keys
from crdtledger.ledger.facts import ORDER_KINDS, RIGHTS_KINDS, Kind
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.highestids import HighestIds
from crdtledger.ledger.identity import digest
from crdtledger.ledger.orderrows import MatchRow, OrderRow, match_rows, order_rows
from crdtledger.ledger.orders import Orders
from crdtledger.ledger.places import Places
from crdtledger.ledger.positionrow import Position
from crdtledger.ledger.positions import Held, Positions
from crdtledger.ledger.rights import DIVIDED, OVERSPENT, Rights, Verdict
from crdtledger.ledger.settled import SettledState
from crdtledger.ledger.settledparts import SuspendedFills
from crdtledger.ledger.settlingpositions import SettlingPositions

NOT_ITS_ACCOUNT = "not this node's account"
BELOW_FLOOR = "it happened before the floor of ids"

TOGETHER = 1 << 15
"""From so many facts on, batches that were taken in have their fills folded: their columns stay in a core's cache meanwhile."""
BATCHES_TOGETHER = OPEN_MOST // 2
"""From so many batches on too: they are still open."""


class VoidBatch(NamedTuple):
    """A batch without effect, and why."""

    lane: bytes
    seq: int
    reason: str

    @property
    def cause(self) -> str:
        """One word: overspent (rights its lane lacks), divided (rights its node lacks), reserve (one that is not there)."""
        return {OVERSPENT: "overspent", DIVIDED: "divided"}.get(self.reason, "reserve")


class VoidFacts(NamedTuple):
    """Facts of one batch and kind that are void by themselves, all for one reason."""

    lane: bytes
    seq: int
    kind: Kind
    reason: str
    facts: int


class Judged(NamedTuple):
    """A batch of rights facts, by its local number, and what was judged of it."""

    number: int
    verdict: Verdict


class View:
    """The folded state of a set of batches on a base. ``salt`` only places hash-table slots; no figure depends on it.

    ``base`` None: nothing is settled. ``settling``: see the module; ``apply`` is then given each batch's place.
    """

    def __init__(
        self, genesis: Genesis, salt: int = 0, base: SettledState | None = None, settling: bool = False
    ) -> None:
        self.genesis = genesis
        self.base = SettledState.empty(genesis) if base is None else base
        self.settling = settling
        self.catalog = Catalog(genesis, self.base)
        self.batches: list[Batch | SuspendedFills] = []
        """By local number: first what is settled and waits for its definition, then the batches in the order of ``apply``."""
        self._bindings: Bindings | list[Binding] = [] if settling else Bindings(self.catalog, self.batches)
        self._places = Places(self.batches)
        self._lane_clock: dict[bytes, int] = {}
        self.highest = HighestIds()
        fold = SettlingPositions if settling else Positions
        self.positions = fold(self.catalog, self.batches, self._bindings, self._places, salt)
        self.rights = Rights(self.catalog, salt)
        self.collateral = Collateral(self.catalog, self.batches, self._bindings, self._places, salt, settling)
        self.orders = Orders(genesis, self.base, self.batches, self._places)
        """Empty while settling: ``reconcile.matchsettling`` takes orders up when everything else is known."""
        self.board = Board(genesis, self.base.board)
        self.void_batches: list[VoidBatch] = []
        self._void_facts: list[VoidFacts] = []
        self.judged: list[Judged] = []
        """Settling only: the batches of rights facts that count, in order."""
        self.refused: list[Judged] = []
        """Settling only: the void ones, in order, with what they would have done."""
        self._unsettled_cursors: dict[tuple[bytes, str], tuple[int, int]] = {}
        self.cursors: Mapping[tuple[bytes, str], tuple[int, int]] = layered(self._unsettled_cursors, self.base.cursors)
        """How far imports have come: (lane, source) -> (position, line)."""
        self.facts = self.base.facts
        self._unfolded: list[int] = []
        for index, waiting in enumerate(self.base.suspended, -len(self.base.suspended)):
            self._enter(waiting, Place(index, waiting.key, waiting.seq))
        if not settling:
            self._fold_fills()

    def _enter(self, source: Batch | SuspendedFills, place: Place) -> Binding:
        self._unfolded.append(len(self.batches))
        if not self.settling:  # nothing is recorded over such a view
            self.highest.note(source.body)
        self.batches.append(source)
        binding = self.catalog.bind(source.body)
        self._bindings.append(binding)
        self._places.append(place)
        return binding

    def apply(self, batch: Batch, place: Place | None = None) -> None:
        """Fold one batch. Its lane's earlier batches and its deps are in already. ``place``: where it stands in canonical order;
        None for the provisional one."""
        self._take_in(batch, place)
        if not self.settling:
            self._fold_fills()

    def apply_all(self, batches: Iterable[Batch]) -> None:
        """``apply`` of one batch after the other. Fills, which no other figure depends on, are folded some batches at a time."""
        rows = 0
        for batch in batches:
            self._take_in(batch, None)
            rows += batch.facts
            if rows >= TOGETHER or len(self._unfolded) >= BATCHES_TOGETHER:
                self._fold_fills()
                rows = 0
        self._fold_fills()

    def _take_in(self, batch: Batch, place: Place | None) -> None:
        """Everything of a batch but its fills, which are noted to be folded."""
        if place is None:
            clock = self._lane_clock[batch.key] = max(batch.header.clock, self._lane_clock.get(batch.key, 0) + 1)
            place = Place(clock, batch.key, batch.seq)
        number = len(self.batches)
        binding = self._enter(batch, place)
        self.facts += batch.facts
        for fresh in self.catalog.apply(batch, place):
            self.positions.define(fresh)
        if ORDER_KINDS & batch.body.tables.keys():
            self._apply_orders(number, batch, binding)
        elif batch.header.deps or RIGHTS_KINDS & batch.body.tables.keys():
            self._apply_rights(number, batch, binding)
        void = self.board.apply(batch)
        if void:
            self._void_facts.append(VoidFacts(batch.key, batch.seq, Kind.NOTE, NOT_NEXT, void))
        for cursor in batch.body.cursors:
            self._unsettled_cursors[batch.key, cursor.source] = (cursor.position, cursor.line)

    def finish(self) -> None:
        """Settling: fold the fills of everything applied. All definitions are in by now."""
        self._fold_fills()

    def _fold_fills(self) -> None:
        taken = [
            Held(kind, number, self._recordable(number, kind))
            for number in self._unfolded
            for kind in (Kind.FILL, Kind.BUST)
            if kind in self.batches[number].body.tables
        ]
        self.positions.apply_all(taken)
        self._unfolded.clear()

    def _recordable(self, number: int, kind: Kind) -> Rows:
        """The rows of a batch that its node may record, and that did not happen too long ago."""
        source = self.batches[number]
        table = source.body.tables[kind]
        if isinstance(source, SuspendedFills):
            return np.arange(len(table))  # its node's right to record them is settled too
        node = self.genesis.by_id[source.lane.node].name
        allowed = self.catalog.allowed(node)
        if allowed.all():  # every account there is, as of most nodes: no look at each row
            return self._above_floor(number, kind, np.arange(len(table)))
        allowed = allowed[self._bindings[number].accounts[table["account"]]]
        if not allowed.all():
            count = int((~allowed).sum())
            self._void_facts.append(VoidFacts(source.key, source.seq, kind, NOT_ITS_ACCOUNT, count))
        return self._above_floor(number, kind, np.flatnonzero(allowed))

    def _above_floor(self, number: int, kind: Kind, rows: Rows) -> Rows:
        """The rows but those that happened before the base's floor and whose ids are not remembered: such a one may have counted."""
        if self.base.window is None:
            return rows
        source = self.batches[number]
        old = self.base.window.below(source.body, kind, rows)
        if len(old):
            high, low = fact_keys(source.body, kind)
            old = old[self.positions.seen(kind).find((high[old], low[old])) < 0]
        if not len(old):
            return rows
        self._void_facts.append(VoidFacts(source.key, source.seq, kind, BELOW_FLOOR, len(old)))
        return rows[~np.isin(rows, old)]

    def _apply_orders(self, number: int, batch: Batch, binding: Binding) -> None:
        """An order's batch claims no grants: its deps are on other lanes' orders."""
        table = batch.body.tables.get(Kind.ORDER)
        void: dict[Kind, list[int]] = {}
        if table is not None:
            node = self.genesis.by_id[batch.lane.node].name
            accounts = binding.accounts[table["account"]].tolist()
            void[Kind.ORDER] = [row for row, a in enumerate(accounts) if not self.catalog.may_record(node, a)]
            if void[Kind.ORDER]:
                count = len(void[Kind.ORDER])
                self._void_facts.append(VoidFacts(batch.key, batch.seq, Kind.ORDER, NOT_ITS_ACCOUNT, count))
        if not self.settling:
            self.orders.apply(number, batch, void)

    def _apply_rights(self, number: int, batch: Batch, binding: Binding) -> None:
        verdict = self.rights.judge(batch.key, batch.header.deps, batch.body, binding)
        if self.settling and not verdict.fault and self._divides(number, batch, verdict):
            verdict = verdict._replace(fault=DIVIDED)
        self.rights.commit(batch, binding, verdict)
        self.collateral.apply(number, verdict)
        if verdict.fault:
            self.void_batches.append(VoidBatch(batch.key, batch.seq, verdict.fault))
        if self.settling:
            (self.refused if verdict.fault else self.judged).append(Judged(number, verdict))
        for kind, _, reason in verdict.dropped:
            self._void_facts.append(VoidFacts(batch.key, batch.seq, kind, reason, 1))

    def _divides(self, number: int, batch: Batch, verdict: Verdict) -> bool:
        """Whether the batch would take what its node holds of any cell below zero."""
        member = self.member(batch.key)
        held = self.collateral.rights[member]
        return any(
            change < 0 and self.rights.share(member, cell) + held.get(cell, 0) + change < 0
            for cell, change in self.collateral.effect(number, verdict).items()
        )

    def member(self, lane: bytes) -> int:
        """The index in the genesis of a lane's node."""
        return self.rights.member(lane)

    @property
    def settled_fills(self) -> SettlingPositions:
        """Settling: what became of each fill and bust."""
        assert isinstance(self.positions, SettlingPositions), "only a settling view says so"
        return self.positions

    # -- reading --------------------------------------------------------------------------------------------

    def position_rows(self, account: str = "") -> list[Position]:
        """Positions, of all accounts or of one, sorted by account, then instrument."""
        return self.positions.rows(account)

    def collateral_rows(self) -> list[Balance]:
        """Collateral, sorted by account, then asset."""
        return self.collateral.rows()

    def order_rows(self) -> list[OrderRow]:
        """Orders that are not done and settled, sorted by home, then id."""
        return order_rows(self.orders)

    def match_rows(self) -> list[MatchRow]:
        """Matches that are not settled, sorted by their writer, then id."""
        return match_rows(self.orders)

    def void_facts(self) -> Sequence[VoidFacts]:
        """Facts that are void by themselves, grouped by batch, kind and reason."""
        grouped: dict[tuple[bytes, int, Kind, str], int] = {}
        for lane, seq, kind, reason, facts in self._void_facts:
            grouped[lane, seq, kind, reason] = grouped.get((lane, seq, kind, reason), 0) + facts
        for kind, number, _ in self.positions.out_of_range:
            source = self.batches[number]
            key = (source.key, source.seq, kind, "its value or its fee's asset cannot be carried")
            grouped[key] = grouped.get(key, 0) + 1
        return [VoidFacts(*group, facts) for group, facts in grouped.items()]

    def unsettled_cursors(self) -> Mapping[tuple[bytes, str], tuple[int, int]]:
        """The cursors that unsettled batches moved."""
        return self._unsettled_cursors

    def breaks(self) -> list[Break]:
        """Everything recorded that does not simply count, sorted; the same at every replica with this base and these batches."""
        return sorted([*self.base.breaks, *findings.lasting(self), *findings.waiting(self)])

    def lasting_breaks(self) -> list[Break]:
        """Of the unsettled breaks those that stay when these batches are settled, sorted."""
        return sorted(findings.lasting(self))

    def break_count(self) -> int:
        """How many ``breaks`` there are, without their words: somebody may have made very many."""
        return len(self.base.breaks) + findings.count(self)

    def canonical(self) -> bytes:
        """The whole view as canonical bytes. Equal frontiers and base give equal bytes."""
        state = {
            "positions": self.position_rows(),
            "collateral": self.collateral_rows(),
            "orders": self.order_rows(),
            "matches": self.match_rows(),
            "board": self.board.notes(),
            "breaks": self.breaks(),
            "instruments": {name: self.catalog.standing(name) for name in self.catalog.names()},
            "accounts": dict(self.catalog.labels),
            "marks": sorted(self.catalog.marks.items()),  # pairs: a joined name could be split in two ways
            "cursors": {f"{lane.hex()} {source}": at for (lane, source), at in self.cursors.items()},
        }
        return msgspec.json.encode(_wide(state), order="deterministic")

    def digest(self) -> bytes:
        """32 bytes over ``canonical``."""
        return digest("view", self.canonical())


def _wide(value: object) -> object:
    """Plain data with every integer as text: sums outgrow what a JSON encoder takes."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(key): _wide(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_wide(item) for item in value]
    if isinstance(value, msgspec.Struct):
        return {field: _wide(getattr(value, field)) for field in value.__struct_fields__}
    return value
