"""Settlement told slowly: dicts, integers and loops over facts, straight from the documented rules.

It shares no fold with the ledger: it reads the facts of opened batches through ``worlds.rows``, and keeps everything by name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from pycrdt import Doc

from crdtledger.ledger.batch import Batch, ForkEvidence, parse_lane
from crdtledger.ledger.facts import Instrument, Kind
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.identity import digest
from crdtledger.ledger.reference import instrument_digest
from reconcile.checkpoint import LaneCut, cut_digest
from tests.crdtledger.worlds import rows

Cell = tuple[str, str]
RIGHTS = (Kind.DEPOSIT, Kind.VOID, Kind.GRANT, Kind.RESERVE, Kind.POST, Kind.TRANSFER, Kind.WITHDRAWAL)
SHARED = (Kind.DEPOSIT, Kind.WITHDRAWAL, Kind.TRANSFER)


def order(previous: bytes, cut: Sequence[LaneCut], batches: Sequence[Batch]) -> list[Batch]:
    """Of those whose predecessors are out always the one with the least digest."""
    seed = digest("seed", previous, cut_digest(cut))
    ends = {entry.lane: entry.seq for entry in cut}
    left = {(batch.key, batch.seq): batch for batch in batches}
    out: list[Batch] = []
    while left:

        def waits(batch: Batch) -> bool:
            names = [(dep.lane, min(dep.seq, ends.get(dep.lane, 0))) for dep in batch.header.deps]
            return any(name in left for name in [*names, (batch.key, batch.seq - 1)])

        ready = [batch for batch in left.values() if not waits(batch)]
        chosen = min(ready, key=lambda b: digest("canonical", seed, b.key, b.seq.to_bytes(8, "big")))
        out.append(chosen)
        del left[chosen.key, chosen.seq]
    return out


class Ledger:
    """Everything settled so far. ``settle`` takes one more cut in."""

    def __init__(self, genesis: Genesis) -> None:
        self.genesis = genesis
        self.immediate = genesis.policies.grant_finality == "immediate"
        self.definitions: dict[str, list[tuple[bytes, Instrument]]] = {}
        self.labels: dict[str, str] = {}
        self.marks: dict[tuple[str, str], Any] = {}
        self.cursors: dict[tuple[bytes, str], tuple[int, int]] = {}
        self.board: dict[bytes, Doc[Any]] = {}
        self.taken: dict[Any, Any] = {}
        self.waiting: list[tuple[Any, Kind, dict[str, Any]]] = []
        self.positions: dict[Cell, dict[str, Any]] = {}
        self.rights: dict[str, dict[Cell, int]] = {node.name: defaultdict(int) for node in genesis.nodes}
        self.deposited: dict[Cell, int] = defaultdict(int)
        self.withdrawn: dict[Cell, int] = defaultdict(int)
        self.reserves: dict[bytes, dict[str, list[Any]]] = defaultdict(dict)
        self.used: dict[str, set[Any]] = defaultdict(set)
        self.shared: dict[Any, Any] = {}
        self.void: list[tuple[bytes, int]] = []

    def settle(
        self, previous: bytes, cut: Sequence[LaneCut], batches: Sequence[Batch], evidence: Sequence[ForkEvidence]
    ) -> None:
        self.lanes: dict[bytes, list[dict[str, Any]]] = defaultdict(list)
        self.gains: list[tuple[str, Cell, int]] = []
        self.fresh: list[tuple[Any, Kind, dict[str, Any]]] = []
        self.own_used: dict[str, set[Any]] = defaultdict(set)
        self.open_at_base = {lane: set(held) for lane, held in self.reserves.items()}
        ordered = order(previous, cut, batches)
        for batch in ordered:
            self._reference(batch)
        for place, batch in enumerate(ordered):
            self._fills(place, batch)
            if not any(kind >= Kind.ORDER for kind in batch.body.tables):
                self._rights(batch)
            for cursor in batch.body.cursors:
                self.cursors[batch.key, cursor.source] = (cursor.position, cursor.line)
            for update in batch.body.notes:
                if b"forged" not in update:  # what stock Yjs makes of the honest ones
                    self.board.setdefault(batch.key, Doc()).apply_update(update)
        self._count()
        for node, cell, amount in self.gains:
            self.rights[node][cell] += amount
        self.trade(previous, cut, batches, evidence)
        for proof in evidence:
            node = self.genesis.by_id[parse_lane(proof.lane).node].name
            for cell, remaining in self.reserves.pop(proof.lane, {}).values():
                self.rights[node][cell] += remaining
        for lane in list(self.reserves):
            self.reserves[lane] = {name: left for name, left in self.reserves[lane].items() if left[1]}
        for node, names in self.own_used.items():
            self.used[node] |= names

    def trade(
        self, previous: bytes, cut: Sequence[LaneCut], batches: Sequence[Batch], evidence: Sequence[ForkEvidence]
    ) -> None:
        """Orders have their place here (``match_model``)."""

    # -- reference data and fills ---------------------------------------------------------------------------

    def _reference(self, batch: Batch) -> None:
        for definition in sorted(
            batch.body.definitions, key=instrument_digest
        ):  # two of one name in one batch: by digest
            if definition.settlement in self.genesis.asset_decimals:
                rivals = self.definitions.setdefault(definition.name, [])
                if instrument_digest(definition) not in [one for one, _ in rivals]:
                    rivals.append((instrument_digest(definition), definition))
        for account in sorted(batch.body.accounts, key=lambda one: one.label):
            self.labels.setdefault(account.name, account.label)
        for row in rows(batch, Kind.MARK):
            slot = (row["instrument"], row["source"])
            entry = (row["ts_us"], row["sequence"], row["price"], (row["instrument"], row["digest"]))
            self.marks[slot] = max(self.marks.get(slot, entry), entry)

    def _fate(self, row: Mapping[str, Any]) -> str:
        rivals = self.definitions.get(row["instrument"], [])
        known = {one: d.name for all_of in self.definitions.values() for one, d in all_of}
        if known.get(row["digest"], row["instrument"]) != row["instrument"]:
            return "lost"
        if not rivals:
            return "waits"
        return "stands" if rivals[0][0] == row["digest"] else "lost"

    def _fills(self, place: int, batch: Batch) -> None:
        node = self.genesis.by_id[batch.lane.node].name
        for kind in (Kind.FILL, Kind.BUST):
            for row in rows(batch, kind):
                if not self.genesis.may_record(node, row["account"]) or self._fate(row) == "lost":
                    continue
                key = (kind, row["venue"], row["id_space"], row["instrument"], row["leg"], str(row["id"]))
                if key not in self.taken:
                    self.taken[key] = True
                    self.fresh.append(((batch.key, batch.seq, kind), kind, row))

    def _count(self) -> None:
        queue, self.waiting = self.waiting + self.fresh, []
        for at, kind, row in queue:
            fate = self._fate(row)
            if fate == "stands":
                self._position(kind, row)
            elif fate == "waits":
                self.waiting.append((at, kind, row))
        self.waiting.sort(key=lambda entry: entry[0])

    def _position(self, kind: Kind, row: Mapping[str, Any]) -> None:
        d, decimals = self.definitions[row["instrument"]][0][1], self.genesis.asset_decimals
        if (d.inverse and row["price"] <= 0) or (row["fee_asset"] is not None and row["fee_asset"] not in decimals):
            return
        contracts = Fraction(row["qty"] * d.contract_size, 10 ** (d.qty_decimals + d.contract_decimals))
        price = Fraction(row["price"], 10**d.price_decimals)
        if d.inverse:
            value = round(contracts / price * 10 ** decimals[d.settlement])
            if round(Fraction(value)) >= 1 << 126:
                return
        else:
            value = int(contracts * price * 10 ** (d.price_decimals + d.qty_decimals + d.contract_decimals))
        empty = dict.fromkeys(("bought", "sold", "value_bought", "value_sold", "fees", "fills", "cost", "realised"), 0)
        position = self.positions.setdefault((row["account"], d.name), {**empty, "other_fees": {}})
        sign = 1 if kind is Kind.FILL else -1
        held = position["bought"] - position["sold"]
        side = "bought" if row["side"] == 1 else "sold"
        position[side] += sign * row["qty"]
        position[f"value_{side}"] += sign * value
        position["fills"] += sign
        if row["fee_asset"] in (None, d.settlement):
            position["fees"] += sign * row["fee"]
        else:
            fees = position["other_fees"]
            fees[row["fee_asset"]] = fees.get(row["fee_asset"], 0) + sign * row["fee"]
        _trade(position, held, sign * row["side"], row["qty"], value, d.inverse)

    # -- rights ---------------------------------------------------------------------------------------------

    def _rights(self, batch: Batch) -> None:
        me, node = batch.lane, self.genesis.by_id[batch.lane.node].name
        past = self.lanes[batch.key]
        covered, claimed = (dict(past[-1]["covered"]), dict(past[-1]["claimed"])) if past else ({}, {})
        for dep in batch.header.deps:
            lane = parse_lane(dep.lane)
            if lane.node == me.node and lane.epoch < me.epoch:
                _grow(covered, {dep.lane: dep.seq})
                for entry in self._upto(dep.lane, dep.seq):
                    _grow(covered, entry["covered"])
                    _grow(claimed, entry["claimed"])
            elif lane.node != me.node and self.immediate:
                _grow(claimed, {dep.lane: dep.seq})
        before = [*past, *(entry for lane_key, seq in covered.items() for entry in self._upto(lane_key, seq))]
        used = self.used[node] | {name for entry in before for name in entry["ids"]}
        entry = {"seq": batch.seq, "lane": batch.key, "covered": covered, "claimed": claimed}
        entry |= self._effects(batch, node, used)
        free = self._worth(node, [*before, entry], claimed)
        short = any(change < 0 and free[cell] < 0 for cell, change in entry["net"].items())
        if entry["fault"] or short or self._divided(node, entry):
            self.void.append((batch.key, batch.seq))
            return
        past.append(entry)
        self._commit(batch.key, node, entry)

    def _upto(self, lane: bytes, seq: int) -> list[dict[str, Any]]:
        return [entry for entry in self.lanes[lane] if entry["seq"] <= seq]

    def _worth(self, node: str, entries: Sequence[dict[str, Any]], claimed: Mapping[bytes, int]) -> dict[Cell, int]:
        total: dict[Cell, int] = defaultdict(int, self.base_rights(node))
        deposits = set()
        for entry in sorted(entries, key=lambda one: (one["lane"], one["seq"])):
            for cell, change in entry["net"].items():
                total[cell] += change
            for name, (cell, amount) in entry["deposits"].items():
                if name in deposits:
                    total[cell] -= amount
                deposits.add(name)
        for lane, seq in claimed.items():
            for entry in self._upto(lane, seq):
                for (to, cell), amount in entry["granted"].items():
                    total[cell] += amount if to == node else 0
        return total

    def base_rights(self, node: str) -> dict[Cell, int]:
        """What the node held at the last height: what it holds now without what this height did."""
        held: dict[Cell, int] = defaultdict(int, self.rights[node])
        for entries in self.lanes.values():
            for entry in entries:
                for (to, cell), amount in entry["moved"].items():
                    held[cell] -= amount if to == node else 0
        return held

    def _effects(self, batch: Batch, node: str, used: set[Any]) -> dict[str, Any]:
        net: dict[Cell, int] = defaultdict(int)
        granted: dict[tuple[str, Cell], int] = defaultdict(int)
        deposits: dict[Any, tuple[Cell, int]] = {}
        ids: set[Any] = set()
        facts: list[tuple[Kind, Any, dict[str, Any]]] = []
        reserves = {name: list(left) for name, left in self.reserves[batch.key].items()}
        fault = False
        for kind in RIGHTS:
            for row in rows(batch, kind):
                name = (kind, str(row["id"]), *([row["account"], row["asset"]] if kind is Kind.DEPOSIT else []))
                if name in used or name in ids or not self._may(kind, row, node):
                    continue
                ids.add(name)
                facts.append((kind, name, row))
                if kind in (Kind.VOID, Kind.POST):
                    state = reserves.get(str(row["reserve"]))
                    if state is None and kind is Kind.VOID and self._drained(node, str(row["reserve"])):
                        continue
                    amount = 0 if kind is Kind.VOID else row["amount"]
                    if state is None or amount > state[1]:
                        fault = True
                        continue
                    row["cell"], row["taken"] = state[0], state[1] if kind is Kind.VOID else amount
                    state[1] -= row["taken"]
                    net[state[0]] += row["taken"] if kind is Kind.VOID else 0
                    continue
                cell = (row["account"], row["asset"])
                net[cell] += row["amount"] if kind is Kind.DEPOSIT else -row["amount"]
                if kind is Kind.DEPOSIT:
                    deposits[name] = (cell, row["amount"])
                if kind is Kind.GRANT:
                    granted[self.genesis.nodes[row["node"]].name, cell] += row["amount"]
                if kind is Kind.RESERVE:
                    reserves[str(row["id"])] = [cell, row["amount"]]
        moved: dict[tuple[str, Cell], int] = defaultdict(int, granted)
        for kind, name, row in facts:
            if kind is Kind.VOID:
                moved[node, row.get("cell")] += row.get("taken", 0)
            elif kind is not Kind.POST and (kind not in SHARED or name not in self.own_used[node]):
                moved[node, (row["account"], row["asset"])] += row["amount"] * (1 if kind is Kind.DEPOSIT else -1)
        return {
            "net": net,
            "granted": granted,
            "moved": moved,
            "deposits": deposits,
            "ids": ids,
            "facts": facts,
            "reserves": reserves,
            "fault": fault,
        }

    def _drained(self, node: str, name: str) -> bool:
        """Whether the node settled a reserve of that name which has nothing left: to void it frees nothing."""
        lanes = [lane for lane in self.open_at_base if self.genesis.by_id[parse_lane(lane).node].name == node]
        settled = (Kind.RESERVE, name) in self.used[node]
        return settled and not any(name in self.open_at_base[lane] for lane in lanes)

    def _may(self, kind: Kind, row: Mapping[str, Any], node: str) -> bool:
        if "account" not in row:
            return True
        if row["asset"] not in self.genesis.asset_decimals or not self.genesis.may_record(node, row["account"]):
            return False
        if kind is Kind.DEPOSIT:
            return self.genesis.custodian(row["account"], row["asset"]) == node
        if kind is Kind.GRANT:
            return int(row["node"]) < len(self.genesis.nodes) and self.genesis.nodes[row["node"]].name != node
        return True

    def _divided(self, node: str, entry: Mapping[str, Any]) -> bool:
        return any(
            amount < 0 and to == node and self.rights[node][cell] + amount < 0
            for (to, cell), amount in entry["moved"].items()
        )

    def _commit(self, lane: bytes, node: str, entry: Mapping[str, Any]) -> None:
        for (to, cell), amount in entry["moved"].items():
            self.rights[to][cell] += amount
        self.reserves[lane] = entry["reserves"]
        for kind, name, row in entry["facts"]:
            if kind is Kind.POST:
                self._land(node, (row["credit"], row["cell"][1]), row["taken"])
            if kind not in SHARED or name in self.own_used[node]:
                continue
            cell, first = (row["account"], row["asset"]), name not in self.shared
            self.shared.setdefault(name, True)
            if kind is Kind.DEPOSIT:
                self.deposited[cell] += row["amount"]
            elif not first:
                self.gains.append((node, cell, row["amount"]))
            elif kind is Kind.WITHDRAWAL:
                self.withdrawn[cell] += row["amount"]
            else:
                self._land(node, (row["credit"], row["asset"]), row["amount"])
        self.own_used[node] |= entry["ids"]

    def _land(self, node: str, cell: Cell, amount: int) -> None:
        home = node if self.genesis.may_record(node, cell[0]) else self.genesis.custodian(*cell)
        self.gains.append((home, cell, amount))


def _trade(position: dict[str, Any], held: int, side: int, qty: int, value: int, inverse: bool) -> None:
    """Average cost: what is closed takes its share of the cost, and of a trade that turns the position round, rounded down."""
    if held * side >= 0:
        position["cost"] += value
        return
    closing = min(qty, abs(held))
    out = int((Fraction(position["cost"] * closing, abs(held))).__floor__())
    came = int((Fraction(value * closing, qty)).__floor__())
    gain = (came - out) * (1 if held > 0 else -1)
    position["realised"] += -gain if inverse else gain
    position["cost"] += value - came - out


def _grow(reach: dict[bytes, int], more: Mapping[bytes, int]) -> None:
    for lane, seq in more.items():
        reach[lane] = max(seq, reach.get(lane, 0))
