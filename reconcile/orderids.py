"""Ids of facts about orders, while a height is settled: which rows take theirs, and what repeats or contradicts what came first.

An id is unique within its kind and node. A row that finds its id taken has no effect: in the same words it is deduplicated, in others a
conflict and a break. An order for an account that its node may not record takes no id.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from crdtledger.ledger.batch import Batch, lane_text
from crdtledger.ledger.breaks import Break
from crdtledger.ledger.contents import fact_contents
from crdtledger.ledger.factkeys import fact_keys
from crdtledger.ledger.facts import Kind
from crdtledger.ledger.findings import order_fact
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.orderfacts import stated_facts
from crdtledger.ledger.seenids import SeenIds

from .adjustments import OTHER_CONTENT, RECORDED_BEFORE, Adjustment, Effect


class OrderIds:
    """``used``: by member, the ids that it has used by now."""

    def __init__(self, genesis: Genesis, used: Mapping[int, SeenIds], salt: int) -> None:
        self._genesis, self._salt = genesis, salt
        self._members = {member.name: index for index, member in enumerate(genesis.nodes)}
        self.used = dict(used)
        self.adjustments: list[Adjustment] = []
        self.breaks: list[Break] = []

    def fresh(self, batch: Batch, kind: Kind, node: str) -> set[int]:
        """Rows whose ids are not used yet; they are from here on."""
        member, body = self._members[node], batch.body
        allowed = [True] * len(body.tables[kind])
        if kind is Kind.ORDER:
            accounts = body.tables[kind]["account"].tolist()
            allowed = [self._genesis.may_record(node, body.strings[index]) for index in accounts]
        ids = self.used.get(member) or SeenIds(self._salt)
        high, low = fact_keys(body, kind)
        fresh: dict[tuple[int, int], int] = {}
        contents = fact_contents(body, kind)
        for row, found in enumerate(ids.find((high, low)).tolist()):
            if not allowed[row]:
                continue
            first = fresh.setdefault((int(high[row]), int(low[row])), row) if found < 0 else -1
            if first == row:
                continue
            says = ids.says(np.array([found]))[0] if found >= 0 else contents[first]
            self._repeated(batch, kind, row, bool((says == contents[row]).all()))
        rows = np.array(sorted(fresh.values()), np.int64)
        if fresh:  # who used no id stands not among them: no cell of the state would say so
            self.used[member] = ids.extended((high[rows], low[rows]), contents[rows])
        return set(rows.tolist())

    def _repeated(self, batch: Batch, kind: Kind, row: int, same: bool) -> None:
        effect: Effect = "deduplicated" if same else "conflict"
        cause = RECORDED_BEFORE if same else OTHER_CONTENT
        self.adjustments.append(Adjustment(effect, cause, batch.key, batch.seq, int(kind), 1, ((row, 1),)))
        if not same:
            node = self._genesis.by_id[batch.lane.node].name
            told = next(f for f in stated_facts(batch.body, self._genesis, node) if (f.kind, f.row) == (kind, row))
            place = f"{lane_text(batch.key, self._genesis)}#{batch.seq}[{row}]"
            self.breaks.append(Break("conflict", order_fact(told), f"counts: what came first; does not: {place}"))
