"""Collateral as everybody may count it: in, out, held, and who holds the rights.

``rights`` judges each batch; this adds up what the judged batches did, over all nodes, as sums that do not depend on the
order of arrival. For every asset, at every frontier:

    in = held + out,   held = rights of all nodes + reserved + in transit + to be refunded

*in transit*: debited by a transfer or post, credited at settlement. *to be refunded*: the same withdrawal or transfer
recorded at two nodes took rights twice but counts once; settlement gives the second taking back. Until settlement both
stay out of reach, so nothing can be spent twice meanwhile. ``margin`` stands behind settled positions; it and ``shortfall`` (what an
account owes beyond what was there to take, beside the sums) only come from settlement.
``landing`` says at which node each credit and each refund arrives.

The sums kept here are of unsettled batches; figures read are the base's plus these. An id that the base has settled is
settled: who restates it takes his own rights out of reach until they are refunded, and nothing else happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from crdtledger.ledger.batch import Batch
from crdtledger.ledger.body import Body
from crdtledger.ledger.catalog import Binding, Catalog, Place
from crdtledger.ledger.contents import fact_contents
from crdtledger.ledger.factkeys import Keys, fact_keys
from crdtledger.ledger.facts import Kind
from crdtledger.ledger.genesis import NODE_ID_BYTES
from crdtledger.ledger.keytable import Column, KeyTable
from crdtledger.ledger.lanerights import Rows, Totals
from crdtledger.ledger.places import ByNumber
from crdtledger.ledger.rights import Verdict
from crdtledger.ledger.settledparts import SettledBalance, SuspendedFills
from crdtledger.ledger.wide import add_into, sum_by

SHARED_IDS = (Kind.DEPOSIT, Kind.WITHDRAWAL, Kind.TRANSFER)
"""Kinds whose ids the whole cluster shares. Grants, reserves, posts and voids belong to the node that records them."""


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the collateral view, in minor units of the asset. ``rights``: spendable share by node, zeros left out."""

    account: str
    asset: str
    deposited: int
    withdrawn: int
    reserved: int
    margin: int
    shortfall: int
    in_transit: int
    incoming: int
    refundable: int
    held: int
    rights: tuple[tuple[str, int], ...]
    decimals: int
    settled: bool = False
    """No unsettled fact touches these figures."""

    @property
    def free(self) -> int:
        """What all nodes together may still spend."""
        return sum(amount for _, amount in self.rights)


class Statement(NamedTuple):
    """One row that states a deposit, withdrawal or transfer. ``credit`` is the credited cell, -1 where there is none."""

    lane: bytes
    seq: int
    row: int
    place: Place
    node: int
    cell: int
    amount: int
    credit: int

    @property
    def content(self) -> tuple[int, int, int]:
        """What must be equal for two statements of one id to be the same fact."""
        return self.cell, self.amount, self.credit


class Collateral:
    """The sums of one view. ``batches``, ``bindings`` and ``places`` are the view's, by local batch number.

    ``rights``, ``landing``: by member, in the order of the genesis. All of them are of unsettled batches alone.
    """

    def __init__(
        self,
        catalog: Catalog,
        batches: Sequence[Batch | SuspendedFills],
        bindings: ByNumber[Binding],
        places: ByNumber[Place],
        salt: int,
        settling: bool = False,
    ) -> None:
        self._catalog = catalog
        self._base = catalog.base
        self._batches, self._bindings, self._places = batches, bindings, places
        self._settling = settling
        self._assets = len(catalog.assets)
        self._node = {member.id: index for index, member in enumerate(catalog.genesis.nodes)}
        self.rights: list[Totals] = [{} for _ in catalog.genesis.nodes]
        self.landing: list[Totals] = [{} for _ in catalog.genesis.nodes]
        """What settlement will credit or refund to each node, by cell: ``incoming`` and ``refundable`` told apart by node."""
        self.deposited: Totals = {}
        self.withdrawn: Totals = {}
        self.reserved: Totals = {}
        self.in_transit: Totals = {}
        self.incoming: Totals = {}
        self.refundable: Totals = {}
        self._ids = {kind: KeyTable(salt) for kind in SHARED_IDS}
        self._batch = {kind: np.empty(64, np.uint32) for kind in SHARED_IDS}
        self._row = {kind: np.empty(64, np.uint16) for kind in SHARED_IDS}
        self.repeated: dict[tuple[Kind, int], list[Statement]] = {}
        """Ids that several unsettled batches state: all their statements."""
        self.restated: dict[tuple[Kind, int, int], list[Statement]] = {}
        """Settled ids that unsettled batches of other nodes state again, by kind and the id's halves."""
        self.overruled: dict[tuple[Kind, int, int], list[Statement]] = {}
        """Those of them, and of ids restated by their own node, that say something else than what is settled."""
        self._landings: dict[tuple[int, int], int] = {}

    def apply(self, number: int, verdict: Verdict) -> None:
        """Add up one judged batch, by its local number."""
        if verdict.fault:
            return
        batch, binding = self._batches[number], self._bindings[number]
        node = self._node[batch.key[:NODE_ID_BYTES]]
        for kind, rows in verdict.effective.items():
            if kind in SHARED_IDS:
                self._overrule(kind, number, verdict.repeated[kind])
            if not len(rows) or kind in (Kind.VOID, Kind.POST):
                continue
            if kind in SHARED_IDS:
                self._state(kind, number, rows)
                continue
            table = batch.body.tables[kind][rows]
            amounts = sum_by(self._catalog.cells(binding, table), table["amount"])
            add_into(self.rights[node], amounts, -1)
            if kind is Kind.RESERVE:
                add_into(self.reserved, amounts)
        for member, amounts in verdict.granted.items():
            add_into(self.rights[member], amounts)
        change = verdict.reserves
        add_into(self.rights[node], change.released)
        add_into(self.reserved, change.released, -1)
        add_into(self.reserved, change.taken, -1)
        add_into(self.in_transit, change.taken)
        add_into(self.incoming, change.incoming)
        for credit, amount in change.incoming.items():
            add_into(self.landing[self._lands_at(node, credit)], {credit: amount})

    def effect(self, number: int, verdict: Verdict) -> Totals:
        """What a batch, not applied yet, would change of its node's rights, given all that was applied: its net change, but for what
        another lane of the node has stated already, which changes nothing."""
        batch = self._batches[number]
        node = self._node[batch.key[:NODE_ID_BYTES]]
        change = dict(verdict.net)
        for kind in SHARED_IDS:
            rows = verdict.effective.get(kind, _NO_ROWS)
            keys = fact_keys(batch.body, kind) if len(rows) else (_NO_KEYS, _NO_KEYS)
            ordinals = self._ids[kind].find(keys[0][rows], keys[1][rows])
            for row, ordinal in zip(rows.tolist(), ordinals.tolist(), strict=True):
                key = (kind, int(keys[0][row]), int(keys[1][row]))
                told = self.restated.get(key, []) if ordinal < 0 else self._told(kind, ordinal)
                if any(statement.node == node for statement in told):
                    cell, amount, _ = self.content(kind, batch.body, self._bindings[number], row)
                    add_into(change, {cell: amount}, -1 if kind is Kind.DEPOSIT else 1)
        return change

    def _told(self, kind: Kind, ordinal: int) -> list[Statement]:
        """Every unsettled statement of one id."""
        first = (int(self._batch[kind][ordinal]), int(self._row[kind][ordinal]))
        return self.repeated.get((kind, ordinal)) or [self._statement(kind, *first)]

    def _lands_at(self, node: int, credit: int) -> int:
        """The member at which a credit arrives: the one that recorded it, if it may record the account, else the custodian."""
        key = (node, credit)
        if key not in self._landings:
            genesis = self._catalog.genesis
            account, asset = self._catalog.cell_name(credit)
            here = self._catalog.may_record(genesis.nodes[node].name, credit // self._assets)
            self._landings[key] = node if here else self._node[genesis.member(genesis.custodian(account, asset)).id]
        return self._landings[key]

    def _overrule(self, kind: Kind, number: int, rows: Rows) -> None:
        """Remember which of these rows say something else than what is settled under their ids."""
        if not len(rows) or not len(self._base.shared):
            return
        body = self._batches[number].body
        high, low = fact_keys(body, kind)
        found = self._base.shared.find((high[rows], low[rows]))
        rows, found = rows[found >= 0], found[found >= 0]
        differs = (fact_contents(body, kind, rows) != self._base.shared.says(found)).any(axis=1)
        for row in rows[differs].tolist():
            told = self.overruled.setdefault((kind, int(high[row]), int(low[row])), [])
            told.append(self._statement(kind, number, row))

    def _restate(self, kind: Kind, number: int, rows: Rows, high: Column, low: Column) -> Rows:
        """Take in rows whose ids another node has settled, and give back the others."""
        found = self._base.shared.find((high[rows], low[rows])) >= 0
        for row in rows[found].tolist():
            statements = self.restated.setdefault((kind, int(high[row]), int(low[row])), [])
            self._count(kind, statements, -1, settled=True)
            statements.append(self._statement(kind, number, row))
            self._count(kind, statements, 1, settled=True)
        self._overrule(kind, number, rows[found])
        return rows[~found]

    def _state(self, kind: Kind, number: int, rows: Rows) -> None:
        """Enter statements of ids that the whole cluster shares."""
        high, low = fact_keys(self._batches[number].body, kind)
        if len(self._base.shared):
            rows = self._restate(kind, number, rows, high, low)
        ordinals, new = self._ids[kind].insert(high[rows], low[rows])
        self._grow(kind)
        self._batch[kind][ordinals[new]] = number
        self._row[kind][ordinals[new]] = rows[new]
        self._count_column(kind, number, rows[new])
        for ordinal, row in zip(ordinals[~new].tolist(), rows[~new].tolist(), strict=True):
            statements = self.repeated.get((kind, ordinal))
            if statements is None:
                first = self._statement(kind, int(self._batch[kind][ordinal]), int(self._row[kind][ordinal]))
                statements = self.repeated[kind, ordinal] = [first]
            self._count(kind, statements, -1)
            statements.append(self._statement(kind, number, row))
            self._count(kind, statements, 1)

    def _count_column(self, kind: Kind, number: int, rows: Rows) -> None:
        """What rows with ids never seen before add, a column at a time."""
        binding = self._bindings[number]
        table = self._batches[number].body.tables[kind][rows]
        cells = self._catalog.cells(binding, table)
        amounts = sum_by(cells, table["amount"])
        node = self._node[self._batches[number].key[:NODE_ID_BYTES]]
        add_into(self.rights[node], amounts, 1 if kind is Kind.DEPOSIT else -1)
        add_into(self._effect(kind), amounts)
        if kind is Kind.TRANSFER:
            credits = binding.accounts[table["credit"]] * self._assets + cells % self._assets
            for credit, amount in sum_by(credits, table["amount"]).items():
                add_into(self.incoming, {credit: amount})
                add_into(self.landing[self._lands_at(node, credit)], {credit: amount})

    def _effect(self, kind: Kind) -> Totals:
        return {
            Kind.DEPOSIT: self.deposited,
            Kind.WITHDRAWAL: self.withdrawn,
            Kind.TRANSFER: self.in_transit,
        }[kind]

    def _count(self, kind: Kind, statements: list[Statement], sign: int, settled: bool = False) -> None:
        """What one id adds, given all its statements: rights once per node, the effect once in all, and not at all where the base
        has ``settled`` it.

        Within a node the first of its lanes counts (a restored node may repeat itself); between nodes the first place. While
        settling the first place counts within a node too, so that nothing that came before is taken back.
        """
        by_node: dict[int, Statement] = {}
        for statement in statements:
            if statement.node not in by_node or self._rank(statement) < self._rank(by_node[statement.node]):
                by_node[statement.node] = statement
        if not by_node:
            return
        winner = None if settled else min(by_node.values(), key=lambda statement: (statement.place, statement.row))
        for node, statement in by_node.items():
            change = {statement.cell: sign * statement.amount}
            add_into(self.rights[node], change, 1 if kind is Kind.DEPOSIT else -1)
            if kind is Kind.DEPOSIT or statement is winner:
                add_into(self._effect(kind), change)
            else:
                add_into(self.refundable, change)
                add_into(self.landing[node], change)
        if kind is Kind.TRANSFER and winner is not None:
            credit = {winner.credit: sign * winner.amount}
            add_into(self.incoming, credit)
            add_into(self.landing[self._lands_at(winner.node, winner.credit)], credit)

    def _rank(self, statement: Statement) -> tuple[Any, ...]:
        return (statement.place, statement.row) if self._settling else statement

    def _statement(self, kind: Kind, number: int, row: int) -> Statement:
        batch = self._batches[number]
        content = self.content(kind, batch.body, self._bindings[number], row)
        node = self._node[batch.key[:NODE_ID_BYTES]]
        return Statement(batch.key, batch.seq, row, self._places[number], node, *content)

    def content(self, kind: Kind, body: Body, binding: Binding, row: int) -> tuple[int, int, int]:
        """(cell, amount, credited cell or -1) of one row: what must be equal for two statements to be one fact."""
        fact = body.tables[kind][row]
        asset = int(binding.assets[fact["asset"]])
        credit = int(binding.accounts[fact["credit"]]) * self._assets + asset if kind is Kind.TRANSFER else -1
        return int(binding.accounts[fact["account"]]) * self._assets + asset, int(fact["amount"]), credit

    def _grow(self, kind: Kind) -> None:
        size = len(self._ids[kind])
        for store in (self._batch, self._row):
            if size > len(store[kind]):
                grown = np.empty(max(size, 2 * len(store[kind])), store[kind].dtype)
                grown[: len(store[kind])] = store[kind]
                store[kind] = grown

    def known(self, kind: Kind, keys: Keys) -> list[Statement | None]:
        """The first unsettled statement seen of each id, or None."""
        return [
            self._statement(kind, int(self._batch[kind][n]), int(self._row[kind][n])) if n >= 0 else None
            for n in self._ids[kind].find(*keys).tolist()
        ]

    # -- reading --------------------------------------------------------------------------------------------

    def _settled(self, cell: int) -> SettledBalance:
        return self._base.collateral.get(self._catalog.cell_name(cell), _NO_BALANCE)

    def rights_of(self, cell: int) -> dict[str, int]:
        """What each node may still spend of a cell, by name, as far as this view has seen."""
        members = self._catalog.genesis.nodes
        return {member.name: amount for member, amount in zip(members, self._shares(cell), strict=True)}

    def _shares(self, cell: int) -> list[int]:
        shares = [totals.get(cell, 0) for totals in self.rights]
        for member, amount in self._settled(cell).rights:
            shares[member] += amount
        return shares

    def held(self, cell: int) -> int:
        """Everything in the cell that has not gone out, spendable or not."""
        return self._settled(cell).held + self._change(cell)

    def _change(self, cell: int) -> int:
        """What unsettled batches change of what is held in a cell."""
        free = sum(totals.get(cell, 0) for totals in self.rights)
        return free + sum(part.get(cell, 0) for part in (self.reserved, self.in_transit, self.refundable))

    def rows(self) -> list[Balance]:
        """Every (account, asset) that anything is said about, sorted by account, then asset."""
        sums = (self.deposited, self.withdrawn, self.reserved, self.in_transit, self.incoming, self.refundable)
        # Not the keys: which cells hold a zero depends on the order of arrival.
        cells = {cell for totals in (*sums, *self.rights) for cell, amount in totals.items() if amount}
        named = dict.fromkeys(self._base.collateral, -1) | {self._catalog.cell_name(cell): cell for cell in cells}
        rows = (self._balance(*name, cell) for name, cell in sorted(named.items()))
        return [row for row in rows if row.rights or row.incoming or row.deposited or row.withdrawn or row.held]

    def _balance(self, account: str, asset: str, cell: int) -> Balance:
        """One row: the base's figures and the unsettled ones of ``cell``, which is -1 where there are none."""
        settled = self._base.collateral.get((account, asset), _NO_BALANCE)
        shares = dict(settled.rights)
        for member, totals in enumerate(self.rights):
            if totals.get(cell):
                shares[member] = shares.get(member, 0) + totals[cell]
        members = self._catalog.genesis.nodes
        return Balance(
            account=account,
            asset=asset,
            deposited=settled.deposited + self.deposited.get(cell, 0),
            withdrawn=settled.withdrawn + self.withdrawn.get(cell, 0),
            reserved=settled.reserved + self.reserved.get(cell, 0),
            margin=settled.margin,
            shortfall=settled.shortfall,
            in_transit=self.in_transit.get(cell, 0),
            incoming=self.incoming.get(cell, 0),
            refundable=self.refundable.get(cell, 0),
            held=settled.held + self._change(cell),
            rights=tuple((members[member].name, shares[member]) for member in sorted(shares) if shares[member]),
            decimals=self._catalog.genesis.asset_decimals[asset],
            settled=cell < 0,
        )

    def landed(self) -> dict[tuple[str, str], SettledBalance]:
        """Every (account, asset) that changes, as it is once credits have landed and refunds are given: what settlement makes of
        these sums. Nothing is in transit then, and nothing refundable."""
        moved = (self.deposited, self.withdrawn, self.reserved, *self.rights, *self.landing)
        cells = {cell for totals in moved for cell, amount in totals.items() if amount}
        out = {}
        for cell in sorted(cells, key=self._catalog.cell_name):
            settled = self._settled(cell)
            shares = dict(settled.rights)
            for member, (own, landing) in enumerate(zip(self.rights, self.landing, strict=True)):
                shares[member] = shares.get(member, 0) + own.get(cell, 0) + landing.get(cell, 0)
            out[self._catalog.cell_name(cell)] = SettledBalance(
                deposited=settled.deposited + self.deposited.get(cell, 0),
                withdrawn=settled.withdrawn + self.withdrawn.get(cell, 0),
                reserved=settled.reserved + self.reserved.get(cell, 0),
                margin=settled.margin,
                shortfall=settled.shortfall,
                rights=tuple((member, shares[member]) for member in sorted(shares) if shares[member]),
            )
        return out

    def imbalance(self) -> dict[str, int]:
        """in - held - out per asset, where it is not zero. Empty, always: conservation is an invariant."""
        out = dict(self._base.imbalance())
        cells = {cell for totals in self.rights for cell in totals} | self.deposited.keys() | self.withdrawn.keys()
        for cell in cells | self.in_transit.keys() | self.reserved.keys() | self.refundable.keys():
            asset = self._catalog.cell_name(cell)[1]
            gap = self.deposited.get(cell, 0) - self._change(cell) - self.withdrawn.get(cell, 0)
            out[asset] = out.get(asset, 0) + gap
        return {asset: gap for asset, gap in out.items() if gap}

    def overdrawn(self) -> list[tuple[str, str, str, int]]:
        """(account, asset, node, rights) wherever a node's rights are below zero. Empty among honest nodes."""
        found = []
        for index, member in enumerate(self._catalog.genesis.nodes):
            for cell, change in self.rights[index].items():
                amount = change + self._settled(cell).share(index) if change < 0 else 0
                if amount < 0:
                    found.append((*self._catalog.cell_name(cell), member.name, amount))
        return sorted(found)


_NO_BALANCE = SettledBalance()
_NO_ROWS: Rows = np.empty(0, np.int64)
_NO_KEYS = np.empty(0, np.uint64)
