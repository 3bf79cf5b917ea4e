"""Collateral as everybody may count it: in, out, held, and who holds the rights.

``rights`` judges each batch; this adds up what the judged batches did, over all nodes, as sums that do not depend on the
order of arrival. For every asset, at every frontier:

    in = held + out,   held = rights of all nodes + reserved + in transit + to be refunded

*in transit*: debited by a transfer or post, credited at settlement. *to be refunded*: the same withdrawal or transfer
recorded at two nodes took rights twice but counts once; settlement gives the second taking back. Until settlement both
stay out of reach, so nothing can be spent twice meanwhile. ``shortfall`` has its place: it can only come from settlement.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from crdtledger.ledger.batch import Batch
from crdtledger.ledger.body import Body, Keys, fact_keys
from crdtledger.ledger.catalog import Binding, Catalog, Place
from crdtledger.ledger.facts import Kind
from crdtledger.ledger.keytable import KeyTable
from crdtledger.ledger.lanerights import Rows, Totals
from crdtledger.ledger.rights import Verdict
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
    in_transit: int
    incoming: int
    refundable: int
    held: int
    rights: tuple[tuple[str, int], ...]
    decimals: int

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
    """The sums of one view. ``batches``, ``bindings`` and ``places`` are the view's, by local batch number."""

    def __init__(
        self,
        catalog: Catalog,
        batches: Sequence[Batch],
        bindings: Sequence[Binding],
        places: Sequence[Place],
        salt: int,
    ) -> None:
        self._catalog = catalog
        self._batches, self._bindings, self._places = batches, bindings, places
        self._assets = len(catalog.assets)
        self._node = {member.id: index for index, member in enumerate(catalog.genesis.nodes)}
        self.rights: list[Totals] = [{} for _ in catalog.genesis.nodes]
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

    def apply(self, number: int, verdict: Verdict) -> None:
        """Add up one judged batch, by its local number."""
        if verdict.fault:
            return
        batch, binding = self._batches[number], self._bindings[number]
        node = self._node[batch.lane.node]
        for kind, rows in verdict.effective.items():
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

    def _state(self, kind: Kind, number: int, rows: Rows) -> None:
        """Enter statements of ids that the whole cluster shares."""
        high, low = fact_keys(self._batches[number].body, kind)
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
        node = self._node[self._batches[number].lane.node]
        add_into(self.rights[node], amounts, 1 if kind is Kind.DEPOSIT else -1)
        add_into(self._effect(kind), amounts)
        if kind is Kind.TRANSFER:
            credits = binding.accounts[table["credit"]] * self._assets + cells % self._assets
            add_into(self.incoming, sum_by(credits, table["amount"]))

    def _effect(self, kind: Kind) -> Totals:
        return {
            Kind.DEPOSIT: self.deposited,
            Kind.WITHDRAWAL: self.withdrawn,
            Kind.TRANSFER: self.in_transit,
        }[kind]

    def _count(self, kind: Kind, statements: list[Statement], sign: int) -> None:
        """What one id adds, given all its statements: rights once per node, the effect once in all.

        Within a node the first of its lanes counts (a restored node may repeat itself); between nodes the first place.
        """
        by_node: dict[int, Statement] = {}
        for statement in statements:
            if statement.node not in by_node or statement < by_node[statement.node]:
                by_node[statement.node] = statement
        winner = min(by_node.values(), key=lambda statement: (statement.place, statement.row))
        for node, statement in by_node.items():
            change = {statement.cell: sign * statement.amount}
            add_into(self.rights[node], change, 1 if kind is Kind.DEPOSIT else -1)
            if kind is Kind.DEPOSIT or statement is winner:
                add_into(self._effect(kind), change)
            else:
                add_into(self.refundable, change)
        if kind is Kind.TRANSFER:
            add_into(self.incoming, {winner.credit: sign * winner.amount})

    def _statement(self, kind: Kind, number: int, row: int) -> Statement:
        batch = self._batches[number]
        content = self.content(kind, batch.body, self._bindings[number], row)
        node = self._node[batch.lane.node]
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
        """The first statement seen of each id, or None."""
        return [
            self._statement(kind, int(self._batch[kind][n]), int(self._row[kind][n])) if n >= 0 else None
            for n in self._ids[kind].find(*keys).tolist()
        ]

    # -- reading --------------------------------------------------------------------------------------------

    def rights_of(self, cell: int) -> dict[str, int]:
        """What each node may still spend of a cell, by name, as far as this view has seen."""
        members = self._catalog.genesis.nodes
        return {member.name: totals.get(cell, 0) for member, totals in zip(members, self.rights, strict=True)}

    def held(self, cell: int) -> int:
        """Everything in the cell that has not gone out, spendable or not."""
        free = sum(totals.get(cell, 0) for totals in self.rights)
        return free + sum(part.get(cell, 0) for part in (self.reserved, self.in_transit, self.refundable))

    def rows(self) -> list[Balance]:
        """Every (account, asset) that anything is said about, sorted by account, then asset."""
        sums = (self.deposited, self.withdrawn, self.reserved, self.in_transit, self.incoming, self.refundable)
        # Not the keys: which cells hold a zero depends on the order of arrival.
        cells = {cell for totals in (*sums, *self.rights) for cell, amount in totals.items() if amount}
        return sorted((self._balance(cell) for cell in cells), key=lambda balance: (balance.account, balance.asset))

    def _balance(self, cell: int) -> Balance:
        account, asset = self._catalog.cell_name(cell)
        return Balance(
            account=account,
            asset=asset,
            deposited=self.deposited.get(cell, 0),
            withdrawn=self.withdrawn.get(cell, 0),
            reserved=self.reserved.get(cell, 0),
            in_transit=self.in_transit.get(cell, 0),
            incoming=self.incoming.get(cell, 0),
            refundable=self.refundable.get(cell, 0),
            held=self.held(cell),
            rights=tuple((node, amount) for node, amount in self.rights_of(cell).items() if amount),
            decimals=self._catalog.genesis.asset_decimals[asset],
        )

    def imbalance(self) -> dict[str, int]:
        """in - held - out per asset, where it is not zero. Empty, always: conservation is an invariant."""
        out: dict[str, int] = {}
        cells = {cell for totals in self.rights for cell in totals} | self.deposited.keys() | self.withdrawn.keys()
        for cell in cells | self.in_transit.keys() | self.reserved.keys() | self.refundable.keys():
            asset = self._catalog.cell_name(cell)[1]
            gap = self.deposited.get(cell, 0) - self.held(cell) - self.withdrawn.get(cell, 0)
            out[asset] = out.get(asset, 0) + gap
        return {asset: gap for asset, gap in out.items() if gap}

    def overdrawn(self) -> list[tuple[str, str, str, int]]:
        """(account, asset, node, rights) wherever a node's rights are below zero. Empty among honest nodes."""
        found = []
        for member, totals in zip(self._catalog.genesis.nodes, self.rights, strict=True):
            found += [
                (*self._catalog.cell_name(cell), member.name, amount) for cell, amount in totals.items() if amount < 0
            ]
        return sorted(found)
