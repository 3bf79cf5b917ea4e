"""The writing side of a node: facts in, sealed batches out, onto one lane.

What a caller hands in is checked here completely before anything is signed: names, ranges, authority, ids already used,
rights. A refusal is an exception from ``crdtledger.errors`` and leaves no trace. What passes is signed and admitted to the
node's own replica by the same code that judges everybody else's batches.

Facts already recorded with the same content are skipped and counted (recording twice changes nothing). A fill that
contradicts a recorded one is recorded all the same: two venue statements disagree, and operators must see both. Anything
else that contradicts what is recorded, or itself within one call, is refused: that is the caller's mistake.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from crdtledger.errors import (
    BadInput,
    BelowFloor,
    Conflict,
    InsufficientRights,
    NotAllowed,
    ReserveInUse,
    UnknownName,
    UnknownReserve,
)
from crdtledger.ledger import batch as batches
from crdtledger.ledger import body as columns
from crdtledger.ledger.batch import Batch, Dep, Lane
from crdtledger.ledger.boardpen import BoardPen, note_bodies
from crdtledger.ledger.body import Body, Cursor, WireBody, is_cursor, packed_rows, split_id
from crdtledger.ledger.clock import HybridClock
from crdtledger.ledger.drafting import FillColumns, check_fact, check_fills, draft_facts, draft_fills, used_places
from crdtledger.ledger.factkeys import lone_fill_key
from crdtledger.ledger.facts import (
    ORDER_KINDS,
    RIGHTS_KINDS,
    TABLES,
    Account,
    Deposit,
    Fact,
    Fill,
    Grant,
    Instrument,
    Kind,
    Mark,
    Note,
    Order,
    Post,
    Reserve,
    Transfer,
    Void,
    Withdrawal,
)
from crdtledger.ledger.findings import fill_name
from crdtledger.ledger.identity import Identity
from crdtledger.ledger.idwindow import bound_us, older_than
from crdtledger.ledger.orderchecks import OrderChecks
from crdtledger.ledger.orderfacts import stated_facts
from crdtledger.ledger.recordedrows import Mask, RecordedRows
from crdtledger.ledger.reference import check_instrument, instrument_digest
from crdtledger.ledger.replica import Applied, Replica
from crdtledger.ledger.rights import Verdict
from crdtledger.ledger.view import View


class Recorded(msgspec.Struct, frozen=True):
    """What a call recorded: the batches, how many facts are in them, and how many were recorded already."""

    batches: tuple[Batch, ...]
    facts: int
    duplicates: int


class Recorder:
    """Writes one lane of one node. ``locked`` holds the reason why this lane may not spend yet, or is empty."""

    def __init__(self, replica: Replica, identity: Identity, lane: Lane, clock: HybridClock) -> None:
        self.replica = replica
        self.genesis = replica.genesis
        self.identity = identity
        self.lane = lane
        self.clock = clock
        self.locked = ""
        self._checked: set[str] = set()
        self._checked_in: View | None = None
        self._name = self.genesis.by_id[lane.node].name
        self._member = {member.name: index for index, member in enumerate(self.genesis.nodes)}

    # -- recording ------------------------------------------------------------------------------------------

    def record(self, facts: Sequence[Fact], now_us: int) -> Recorded:
        """Record single facts. All or nothing for the facts that move rights; see the module for what is refused."""
        self._check_lane()
        for index, fact in enumerate(facts):
            check_fact(fact, f"facts[{index}]")
        self._check_names(facts)
        fresh = self._not_defined_yet(facts)
        definitions = {fact.name: instrument_digest(fact) for fact in fresh if isinstance(fact, Instrument)}
        notes = [fact for fact in fresh if isinstance(fact, Note)]
        others = [fact for fact in fresh if not isinstance(fact, Note)]
        bodies = draft_facts(others, lambda name: definitions.get(name) or self._definition(name), self._member_index)
        bodies += note_bodies(BoardPen(self.replica.view.board, self.lane.key, self._name).updates(notes))
        self._check_reserves(fresh)
        self._check_times(bodies, now_us)
        # What can be refused goes first, for a refusal must leave no trace: orders are looked at before rights are recorded.
        for wire in bodies:
            if _kinds(wire) & ORDER_KINDS:
                self._check_orders(wire)
        bodies.sort(key=lambda wire: not _kinds(wire) & RIGHTS_KINDS)
        done = [self._record_body(wire, now_us) for wire in bodies]
        recorded = tuple(batch for batch in done if batch is not None)
        counted = sum(batch.facts for batch in recorded)
        return Recorded(recorded, counted, len(facts) - counted)

    def record_fills(
        self, fills: FillColumns, now_us: int, cursor: Cursor | None = None, kind: Kind = Kind.FILL
    ) -> Recorded:
        """Record whole columns of fills (or busts). ``cursor`` says how far their import has come, atomically with the last."""
        self._check_lane()
        check_fills(fills)
        if cursor is not None and not is_cursor(cursor):
            raise BadInput(what="cursor", where="fills", why="a short source and non-negative numbers")
        self._definition(fills.instrument)
        self._check_accounts({fills.accounts[index] for index in used_places(fills.account, len(fills.accounts))})
        for index in np.unique(fills.fee_asset).tolist() if fills.fee_asset is not None else []:
            if index >= 0:
                self._check_asset(fills.fee_assets[index])
        bodies = draft_fills(fills, self._definition, cursor, kind)
        self._check_times(bodies, now_us)
        known = self._recorded.known_fills(kind, bodies) if len(fills) else [np.zeros(0, np.bool_)] * len(bodies)
        done = [self._record_fill_body(wire, mask, now_us) for wire, mask in zip(bodies, known, strict=True)]
        recorded = tuple(batch for batch in done if batch is not None)
        counted = sum(batch.facts for batch in recorded)
        return Recorded(recorded, counted, len(fills) - counted)

    def claim(self, deps: Sequence[Dep], now_us: int, cursors: Sequence[Cursor] = ()) -> Batch:
        """Take over what predecessor lanes left: a batch without facts that names them as deps. Without any it takes a cursor."""
        wire = WireBody([], [], [], [], [], [], list(cursors))
        return self._seal(wire, tuple(sorted(deps, key=lambda dep: dep.lane)), now_us)

    def spendable(self, account: str, asset: str) -> int:
        """What this lane may spend now, in minor units: its own rights and the grants it has seen."""
        self._check_asset(asset)
        if self.locked or account not in self.replica.view.catalog.labels:
            return 0
        rights = self.replica.view.rights
        cell = rights.cell(account, asset)
        granted = sum(totals.get(cell, 0) for _, totals in rights.unclaimed(self.lane.key).values())
        return rights.available(self.lane.key, cell) + granted

    # -- checks ---------------------------------------------------------------------------------------------

    def _check_lane(self) -> None:
        fork = self.replica.head(self.lane.key).fork_seq
        if fork:
            allowed = f"a new epoch of {self._name}: this lane is forked at {fork}, nothing beyond counts"
            raise NotAllowed(node=self._name, action="record on", subject="its lane", allowed=allowed)

    def _check_names(self, facts: Sequence[Fact]) -> None:
        new_accounts = {fact.name for fact in facts if isinstance(fact, Account)}
        new_instruments = {fact.name for fact in facts if isinstance(fact, Instrument)}
        for index, fact in enumerate(facts):
            if isinstance(fact, Instrument):
                check_instrument(fact, self.genesis, f"facts[{index}]")
            if isinstance(fact, Order) or (isinstance(fact, Fill | Mark) and fact.instrument not in new_instruments):
                self._definition(fact.instrument)
            if isinstance(fact, Fill) and fact.fee_asset is not None:
                self._check_asset(fact.fee_asset)
            if isinstance(fact, Fill | Deposit | Withdrawal | Transfer | Grant | Reserve | Order):
                self._check_account(fact.account, f"record a {type(fact).__name__.lower()} for", new_accounts)
            if isinstance(fact, Transfer | Post):
                self._check_account(fact.credit, None, new_accounts)
            if isinstance(fact, Deposit | Withdrawal | Transfer | Grant | Reserve):
                self._check_asset(fact.asset)
            if isinstance(fact, Deposit):
                custodian = self.genesis.custodian(fact.account, fact.asset)
                if custodian != self._name:
                    subject = f"{fact.account} {fact.asset}"
                    raise NotAllowed(node=self._name, action="deposit for", subject=subject, allowed=custodian)
            if isinstance(fact, Grant) and self.genesis.member(fact.node).name == self._name:
                raise BadInput(what=f"node {fact.node!r}", where=f"facts[{index}]", why="a node cannot grant to itself")

    def _check_account(self, name: str, action: str | None, new: set[str] | None = None) -> None:
        labels = self.replica.view.catalog.labels
        if name not in labels and name not in (new or ()):
            raise UnknownName(kind="account", name=name, known=[*labels, *(new or ())])
        if action is not None and not self.genesis.may_record(self._name, name):
            allowed = [m.name for m in self.genesis.nodes if self.genesis.may_record(m.name, name)]
            raise NotAllowed(node=self._name, action=action, subject=name, allowed=", ".join(allowed) or "nobody")

    def _check_accounts(self, names: set[str]) -> None:
        """The same for many whose fills are to be recorded, and who were looked at before as long as the view is the same."""
        view = self.replica.view
        if self._checked_in is not view:
            self._checked_in, self._checked = view, set()
        for name in sorted(names - self._checked):
            self._check_account(name, "record fills for")
        self._checked |= names

    def _check_times(self, wires: Sequence[WireBody], now_us: int) -> None:
        """Refuse fills and busts that are older than a window, unless they are recorded already: they may have been, and been forgotten.

        By this node's clock, since it may be long before the floor gets here: what passes lies above every floor that it may come under.
        """
        window = self.replica.state.window
        if window is None:
            return
        bound = bound_us(self.clock.last, now_us, self.genesis.policies.id_window_us)
        bound = max(window.floor_us, bound)
        for wire in wires:
            for kind in _kinds(wire) & {Kind.FILL, Kind.BUST}:
                body = columns.opened(wire)
                old = older_than(bound, body, kind, np.arange(len(body.tables[kind])))
                if len(old):
                    old = old[~self._recorded.known(kind, body)[old]]
                for row in old[:1].tolist():
                    happened = int(body.tables[kind]["ts_us"][row])
                    raise BelowFloor(name=fill_name(body, kind, row), ts_us=happened, floor_us=bound)

    def _check_asset(self, name: str) -> None:
        if name not in self.genesis.asset_decimals:
            raise UnknownName(kind="asset", name=name, known=self.genesis.asset_decimals)

    def _definition(self, name: str) -> bytes:
        standing = self.replica.view.catalog.standing(name)
        if standing is None:
            raise UnknownName(kind="instrument", name=name, known=self.replica.view.catalog.names())
        return standing

    def _member_index(self, name: str) -> int:
        self.genesis.member(name)
        return self._member[name]

    def _not_defined_yet(self, facts: Sequence[Fact]) -> list[Fact]:
        """Leave out reference data that stands already in the same words; refuse it in other words."""
        catalog = self.replica.view.catalog
        instruments: dict[str, bytes] = {}
        labels: dict[str, str] = {}
        kept: list[Fact] = []
        for fact in facts:
            if isinstance(fact, Instrument):
                digest = instrument_digest(fact)
                standing = instruments.get(fact.name) or catalog.standing(fact.name)
                if standing not in (None, digest):
                    why = "a definition is immutable; define the change under another name"
                    raise Conflict(kind="instrument", id=fact.name, why=why)
                instruments[fact.name] = digest
                if standing is not None:
                    continue
            if isinstance(fact, Account):
                known = catalog.labels.get(fact.name)
                label = labels.get(fact.name, known)
                if label is not None and fact.label not in ("", label):
                    raise Conflict(
                        kind="account", id=fact.name, why=f"its label is {label!r}, and the first one stands"
                    )
                if label is not None:
                    continue
                labels[fact.name] = fact.label
            kept.append(fact)
        return kept

    # -- sealing --------------------------------------------------------------------------------------------

    def _record_fill_body(self, wire: WireBody, known: Mask, now_us: int) -> Batch | None:
        """Drop what is recorded already, seal. ``wire`` has one table at most, of fills or busts. None if nothing is left."""
        dropped = int(np.count_nonzero(known))
        if dropped:
            ((number, packed),) = wire.tables
            wire = msgspec.structs.replace(wire, tables=_without(number, packed, known))
        if not wire.tables and (dropped or not wire.cursors) and not self._advances(wire.cursors):
            return None
        return self._seal(wire, (), now_us, check_form=False)  # the columns were checked, and drafted here

    def _record_body(self, wire: WireBody, now_us: int) -> Batch | None:
        """Drop what is recorded already, check rights, seal. None if nothing is left."""
        body = columns.opened(wire)
        wire, dropped = self._without_known(wire, body)
        if not (wire.tables or wire.definitions or wire.accounts or wire.cursors or wire.notes):
            return None
        deps: tuple[Dep, ...] = ()
        if ORDER_KINDS & body.tables.keys():
            deps = self._check_orders(wire)
        elif RIGHTS_KINDS & body.tables.keys():
            deps = self._check_rights(columns.opened(wire))
        elif dropped and not (wire.tables or wire.definitions or wire.accounts or self._advances(wire.cursors)):
            return None
        return self._seal(wire, deps, now_us)

    def _advances(self, cursors: Sequence[Cursor]) -> bool:
        known = self.replica.view.cursors
        return any(known.get((self.lane.key, c.source), (-1, -1)) < (c.position, c.line) for c in cursors)

    def _without_known(self, wire: WireBody, body: Body) -> tuple[WireBody, int]:
        if self._is_new(body):
            return wire, 0
        tables = []
        dropped = 0
        for number, packed in wire.tables:
            known = self._recorded.known(Kind(number), body)
            count = int(np.count_nonzero(known))
            tables += _without(number, packed, known) if count else [(number, packed)]
            dropped += count
        return msgspec.structs.replace(wire, tables=tables), dropped

    def _is_new(self, body: Body) -> bool:
        """Whether a body is one fill of an id that nobody has heard of, as most calls of clients are. No array is made to tell."""
        if list(map(len, body.tables.values())) != [1] or Kind.FILL not in body.tables:
            return False
        return not self.replica.view.positions.heard_of(Kind.FILL, *lone_fill_key(body))

    @property
    def _recorded(self) -> RecordedRows:
        return RecordedRows(self.replica, self.lane.key, self._name)

    def _check_reserves(self, facts: Sequence[Fact]) -> None:
        """Refuse to void or post what orders may need."""
        for fact in facts:
            if isinstance(fact, Void | Post):
                named = self.replica.view.orders.on_reserve(self.lane.key, str(split_id(fact.reserve)))
                if named:
                    raise ReserveInUse(reserve=str(fact.reserve), orders=[one.id for one in named])

    def _check_orders(self, wire: WireBody) -> tuple[Dep, ...]:
        """The deps that facts about orders lean on, or the refusal that says why not."""
        body = columns.opened(wire)
        known = {kind: self._recorded.known(kind, body) for kind in body.tables}
        checks = OrderChecks(self.replica.view, self.lane.key, self._name)
        for fact in stated_facts(body, self.genesis, self._name):
            if not known[fact.kind][fact.row]:
                checks.check(fact)
        if self.locked and checks.commits:
            raise BadInput(what="facts about orders", where="facts", why=self.locked)
        leaned = sorted(checks.leans.items())
        held = [(lane, seq, batch) for lane, seq in leaned if (batch := self.replica.batch(lane, seq)) is not None]
        settled = self.replica.state.lanes
        deps = [Dep(lane, seq, b.hash) for lane, seq, b in held if lane not in settled or seq > settled[lane].seq]
        if len(deps) > batches.MAX_DEPS:
            why = f"they lean on {len(deps)} lanes, at most {batches.MAX_DEPS} a call: record them in several"
            raise BadInput(what="facts about orders", where="facts", why=why)
        return tuple(deps)

    def _check_rights(self, body: Body) -> tuple[Dep, ...]:
        """The deps that the body needs to be covered by rights, or the refusal that says what is short."""
        rights, binding = self.replica.view.rights, self.replica.view.catalog.bind(body)
        key = self.lane.key
        spends = body.tables.keys() - {Kind.DEPOSIT}
        verdict = rights.judge(key, (), body, binding)
        if self.locked and spends:
            self._refuse_locked(verdict)
        if verdict.shortage is None:
            return self._faultless(verdict, ())
        short = {cell for cell, change in verdict.net.items() if change + rights.available(key, cell) < 0}
        offers = {lane: seq for lane, (seq, totals) in rights.unclaimed(key).items() if short & totals.keys()}
        deps = tuple(
            Dep(lane, seq, batch.hash)
            for lane, seq in sorted(offers.items())[: batches.MAX_DEPS]
            if (batch := self.replica.batch(lane, seq)) is not None
        )
        return self._faultless(rights.judge(key, deps, body, binding), deps)

    def _faultless(self, verdict: Verdict, deps: tuple[Dep, ...]) -> tuple[Dep, ...]:
        if verdict.shortage is not None:
            self._refuse(verdict.shortage.cell, verdict.shortage.available, verdict.shortage.needed)
        if verdict.fault:
            why = f"{verdict.fault}; a post or void comes after the call that made its reserve, on the same node"
            raise UnknownReserve(reserve="", why=why)
        return deps

    def _refuse_locked(self, verdict: Verdict) -> None:
        cell = min((cell for cell, change in verdict.net.items() if change < 0), default=None)
        if cell is None:
            raise UnknownReserve(reserve="", why=self.locked)
        self._refuse(cell, 0, -verdict.net[cell])

    def _refuse(self, cell: int, available: int, needed: int) -> None:
        collateral = self.replica.view.collateral
        account, asset = self.replica.view.catalog.cell_name(cell)
        others = {node: held for node, held in collateral.rights_of(cell).items() if held and node != self._name}
        raise InsufficientRights(
            account=account,
            asset=asset,
            requested=needed,
            held_here=available,
            held_elsewhere=others,
            decimals=self.genesis.asset_decimals[asset],
            note=self.locked,
        )

    def _seal(self, wire: WireBody, deps: tuple[Dep, ...], now_us: int, check_form: bool = True) -> Batch:
        head = self.replica.head(self.lane.key)
        batch = batches.seal(
            self.identity,
            self.genesis,
            self.lane,
            head.seq + 1,
            head.hash,
            self.clock.tick(now_us),
            self.replica.base,
            deps,
            wire,
            check_form,
        )
        outcome = self.replica.admit_batch(batch)
        if not isinstance(outcome, Applied):
            raise AssertionError(f"a node must accept its own batch: {outcome}")
        return batch


def _without(number: int, packed: memoryview, known: Mask) -> list[tuple[int, memoryview]]:
    """A table without the rows that are known; none if it has no others."""
    # Opaque: picking rows by their columns takes ten times as long.
    rows = np.frombuffer(packed, f"V{TABLES[Kind(number)].itemsize}")
    left = rows[~known]
    return [(number, packed_rows(left))] if len(left) else []


def _kinds(wire: WireBody) -> set[Kind]:
    return {Kind(number) for number, _ in wire.tables}
