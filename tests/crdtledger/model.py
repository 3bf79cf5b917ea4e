"""The ledger told slowly: dicts, Python integers and loops, straight from the documented rules.

It shares no fold with the ledger: it reads the facts of opened batches through ``worlds.rows`` and goes through all of them
again for every question. Winner rule: of several statements of one id the first in (clock along the lane, lane, seq, row).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from crdtledger.ledger.batch import Batch, parse_lane
from crdtledger.ledger.facts import Instrument, Kind
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.reference import instrument_digest
from tests.crdtledger.worlds import rows

Cell = tuple[str, str]
RIGHTS = (Kind.DEPOSIT, Kind.VOID, Kind.GRANT, Kind.RESERVE, Kind.POST, Kind.TRANSFER, Kind.WITHDRAWAL)


def places(batches: Sequence[Batch]) -> dict[bytes, tuple[int, bytes, int]]:
    """Batch hash -> its place in the provisional canonical order."""
    clocks: dict[bytes, int] = {}
    out = {}
    for batch in sorted(batches, key=lambda b: (b.key, b.seq)):
        clocks[batch.key] = max(batch.header.clock, clocks.get(batch.key, 0) + 1)
        out[batch.hash] = (clocks[batch.key], batch.key, batch.seq)
    return out


def positions(genesis: Genesis, batches: Sequence[Batch]) -> dict[Cell, dict[str, Any]]:
    """(account, instrument) -> bought, sold, value_bought, value_sold, fees, other_fees, fills."""
    place = places(batches)
    definitions: dict[str, list[tuple[Any, bytes, Instrument]]] = defaultdict(list)
    for batch in batches:
        for definition in batch.body.definitions:
            if definition.settlement in genesis.asset_decimals:
                entry = (place[batch.hash], instrument_digest(definition), definition)
                definitions[definition.name].append(entry)
    standing = {name: min(entries, key=lambda e: e[:2]) for name, entries in definitions.items()}
    out: dict[Cell, dict[str, Any]] = {}
    for kind, sign in ((Kind.FILL, 1), (Kind.BUST, -1)):
        statements: dict[Any, list[Any]] = defaultdict(list)
        for batch in batches:
            node = genesis.by_id[batch.lane.node].name
            for number, row in enumerate(rows(batch, kind)):
                if genesis.may_record(node, row["account"]):
                    key = (row["venue"], row["id_space"], row["instrument"], row["leg"], str(row["id"]))
                    statements[key].append((place[batch.hash], number, row))
        for told in statements.values():
            row = min(told, key=lambda s: s[:2])[2]
            stands = standing.get(row["instrument"])
            if stands is not None and stands[1] == row["digest"]:
                _count(genesis, out, stands[2], row, sign)
    return {cell: p for cell, p in out.items() if any(v for k, v in p.items() if k != "other_fees") or p["other_fees"]}


def _count(genesis: Genesis, out: dict[Cell, dict[str, Any]], d: Instrument, row: Mapping[str, Any], sign: int) -> None:
    if d.inverse and row["price"] <= 0:
        return
    if row["fee_asset"] is not None and row["fee_asset"] not in genesis.asset_decimals:
        return
    contracts = Fraction(row["qty"] * d.contract_size, 10 ** (d.qty_decimals + d.contract_decimals))
    price = Fraction(row["price"], 10**d.price_decimals)
    if d.inverse:
        value = round(contracts / price * 10 ** genesis.asset_decimals[d.settlement])
    else:
        value = int(contracts * price * 10 ** (d.price_decimals + d.qty_decimals + d.contract_decimals))
    empty = dict.fromkeys(("bought", "sold", "value_bought", "value_sold", "fees", "fills"), 0)
    position = out.setdefault((row["account"], d.name), {**empty, "other_fees": {}})
    side = "bought" if row["side"] == 1 else "sold"
    position[side] += sign * row["qty"]
    position[f"value_{side}"] += sign * value
    position["fills"] += sign
    if row["fee_asset"] in (None, d.settlement):
        position["fees"] += sign * row["fee"]
    else:
        fees = position["other_fees"]
        fees[row["fee_asset"]] = fees.get(row["fee_asset"], 0) + sign * row["fee"]
        position["other_fees"] = {asset: amount for asset, amount in fees.items() if amount}


class _Past:
    """A lane after some of its batches: one entry per batch that counted."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def upto(self, seq: int) -> list[dict[str, Any]]:
        return [entry for entry in self.entries if entry["seq"] <= seq]


class Collateral:
    """Rights and collateral of ``batches``, which come in any order that respects lanes and deps."""

    def __init__(self, genesis: Genesis, batches: Sequence[Batch]) -> None:
        self.genesis = genesis
        self.immediate = genesis.policies.grant_finality == "immediate"
        self.place = places(batches)
        self.lanes: dict[bytes, _Past] = defaultdict(_Past)
        self.void: set[bytes] = set()
        self.counted: list[tuple[Batch, dict[str, Any]]] = []
        for batch in batches:
            self._judge(batch)

    # -- one batch ------------------------------------------------------------------------------------------

    def _judge(self, batch: Batch) -> None:
        me = batch.lane
        node = self.genesis.by_id[me.node].name
        past = self.lanes[batch.key]
        last = past.entries[-1] if past.entries else {"covered": {}, "claimed": {}}
        covered, claimed = dict(last["covered"]), dict(last["claimed"])
        for dep in batch.header.deps:
            lane = parse_lane(dep.lane)
            if lane.node == me.node and lane.epoch < me.epoch:
                grow(covered, {dep.lane: dep.seq})
                for entry in self.lanes[dep.lane].upto(dep.seq):
                    grow(covered, entry["covered"])
                    grow(claimed, entry["claimed"])
            elif lane.node != me.node and self.immediate:
                grow(claimed, {dep.lane: dep.seq})
        before = [(batch.key, entry) for entry in past.entries]
        for lane_key, seq in covered.items():
            before += [(lane_key, entry) for entry in self.lanes[lane_key].upto(seq)]
        entry = {"seq": batch.seq, "covered": covered, "claimed": claimed, "lane": batch.key}
        entry |= self._effects(batch, node, {i for _, e in before for i in e["ids"]}, past)
        free = self._worth([*before, (batch.key, entry)], claimed, node)
        if entry["fault"] or any(change < 0 and free[cell] < 0 for cell, change in entry["net"].items()):
            self.void.add(batch.hash)
            return
        past.entries.append(entry)
        self.counted.append((batch, entry))

    def _worth(
        self, entries: Sequence[tuple[bytes, dict[str, Any]]], claimed: Mapping[bytes, int], node: str
    ) -> dict[Cell, int]:
        total: dict[Cell, int] = defaultdict(int)
        deposits: dict[Any, tuple[bytes, Cell, int]] = {}
        for lane, entry in sorted(entries, key=lambda pair: (pair[0], pair[1]["seq"])):
            for cell, change in entry["net"].items():
                total[cell] += change
            for key, (cell, amount) in entry["deposits"].items():
                if key in deposits:
                    total[cell] -= amount
                else:
                    deposits[key] = (lane, cell, amount)
        for lane, seq in claimed.items():
            for entry in self.lanes[lane].upto(seq):
                for (to, cell), amount in entry["granted"].items():
                    if to == node:
                        total[cell] += amount
        return total

    def _effects(self, batch: Batch, node: str, used: set[Any], past: _Past) -> dict[str, Any]:
        net: dict[Cell, int] = defaultdict(int)
        granted: dict[tuple[str, Cell], int] = defaultdict(int)
        deposits: dict[Any, tuple[Cell, int]] = {}
        ids: set[Any] = set()
        facts: list[tuple[Kind, int, dict[str, Any]]] = []
        reserves: dict[str, list[Any]] = {}
        for earlier in past.entries:
            reserves |= {name: list(state) for name, state in earlier["reserves"].items()}
        fault = False
        for kind in RIGHTS:
            for number, row in enumerate(rows(batch, kind)):
                name = (kind, str(row["id"]), *([row["account"], row["asset"]] if kind is Kind.DEPOSIT else []))
                if name in used or name in ids or not self._may(kind, row, node):
                    continue
                ids.add(name)
                facts.append((kind, number, row))
                if kind in (Kind.VOID, Kind.POST):
                    state = reserves.get(str(row["reserve"]))
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
        return {
            "net": net,
            "granted": granted,
            "deposits": deposits,
            "ids": ids,
            "facts": facts,
            "reserves": reserves,
            "fault": fault,
        }

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

    # -- the view -------------------------------------------------------------------------------------------

    def spendable(self, lane: bytes) -> dict[Cell, int]:
        """What the lane's counted batches leave it, without grants that it has not named."""
        entries = self.lanes[lane].entries
        if not entries:
            return {}
        last = entries[-1]
        before = [(lane, entry) for entry in entries]
        for other, seq in last["covered"].items():
            before += [(other, entry) for entry in self.lanes[other].upto(seq)]
        return dict(self._worth(before, last["claimed"], self.genesis.by_id[parse_lane(lane).node].name))

    def balances(self) -> dict[Cell, dict[str, Any]]:
        """(account, asset) -> the figures of the collateral view, cells without any left out."""
        parts = ("deposited", "withdrawn", "reserved", "in_transit", "incoming", "refundable")
        out: dict[Cell, dict[str, Any]] = defaultdict(lambda: {**dict.fromkeys(parts, 0), "rights": defaultdict(int)})
        shared: dict[Any, list[Any]] = defaultdict(list)
        for batch, entry in self.counted:
            node = self.genesis.by_id[batch.lane.node].name
            for kind, number, row in entry["facts"]:
                if kind in (Kind.DEPOSIT, Kind.WITHDRAWAL, Kind.TRANSFER):
                    extra = (row["account"], row["asset"]) if kind is Kind.DEPOSIT else ()
                    statement = (batch.key, batch.seq, number, self.place[batch.hash], node, row)
                    shared[kind, str(row["id"]), *extra].append(statement)
                elif kind is Kind.VOID:
                    out[row["cell"]]["rights"][node] += row["taken"]
                    out[row["cell"]]["reserved"] -= row["taken"]
                elif kind is Kind.POST:
                    out[row["cell"]]["reserved"] -= row["taken"]
                    out[row["cell"]]["in_transit"] += row["taken"]
                    out[row["credit"], row["cell"][1]]["incoming"] += row["taken"]
                else:
                    balance = out[row["account"], row["asset"]]
                    balance["rights"][node] -= row["amount"]
                    if kind is Kind.GRANT:
                        balance["rights"][self.genesis.nodes[row["node"]].name] += row["amount"]
                    else:
                        balance["reserved"] += row["amount"]
        for (kind, *_), statements in shared.items():
            by_node: dict[str, Any] = {}
            for statement in sorted(statements, key=lambda s: s[:3]):
                by_node.setdefault(statement[4], statement)
            winner = min(by_node.values(), key=lambda s: (s[3], s[2]))
            for node, statement in by_node.items():
                row = statement[5]
                balance, amount = out[row["account"], row["asset"]], row["amount"]
                balance["rights"][node] += amount if kind is Kind.DEPOSIT else -amount
                if kind is Kind.DEPOSIT:
                    balance["deposited"] += amount
                elif statement is winner:
                    balance["withdrawn" if kind is Kind.WITHDRAWAL else "in_transit"] += amount
                else:
                    balance["refundable"] += amount
            if kind is Kind.TRANSFER:
                out[winner[5]["credit"], winner[5]["asset"]]["incoming"] += winner[5]["amount"]
        for balance in out.values():
            balance["rights"] = {node: amount for node, amount in balance["rights"].items() if amount}
        return {cell: dict(balance) for cell, balance in out.items() if any(balance.values())}


def grow(reach: dict[bytes, int], more: Mapping[bytes, int]) -> None:
    for lane, seq in more.items():
        reach[lane] = max(seq, reach.get(lane, 0))
