"""Matching told slowly, on top of ``settlement_model``: fractions instead of scaled integers, one dict per order, no clever sums.

It covers instruments that match as orders meet; auctions have their own tests.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import ceil
from typing import Any

from crdtledger.ledger.batch import Batch, ForkEvidence
from crdtledger.ledger.facts import Instrument, Kind
from reconcile.checkpoint import LaneCut
from tests.crdtledger.worlds import rows
from tests.reconcile.settlement_model import Cell, Ledger, order

KINDS = (Kind.ORDER, Kind.CANCEL, Kind.MATCH, Kind.ACCEPT, Kind.SHARE, Kind.REVEAL)
Name = tuple[str, str]


class TradingLedger(Ledger):
    """The plain ledger, and its orders."""

    def __init__(self, genesis: Any) -> None:
        super().__init__(genesis)
        self.names = [node.name for node in genesis.nodes]
        self.orders: dict[Name, dict[str, Any]] = {}
        self.waiting_matches: dict[Name, dict[str, Any]] = {}
        self.seen: set[Any] = set()
        self.carried: dict[Cell, dict[str, Any]] = {}
        self.prices: dict[str, int] = {}
        self.shortfall: dict[Cell, int] = defaultdict(int)
        self.margin: dict[Cell, int] = defaultdict(int)

    def trade(
        self, previous: bytes, cut: Sequence[LaneCut], batches: Sequence[Batch], evidence: Sequence[ForkEvidence]
    ) -> None:
        """What facts about orders come to, once everything else of the height is known."""
        self.flow: dict[Cell, Fraction] = defaultdict(Fraction)
        self.before = {at: held["qty"] for at, held in self.carried.items()}
        self.free: dict[Cell, list[Any]] = {}
        self.drawing: dict[Cell, list[dict[str, Any]]] = defaultdict(list)
        self.new_prices: dict[str, int] = {}
        for batch in order(previous, cut, batches):
            node = self.genesis.by_id[batch.lane.node].name
            for kind in KINDS:
                for row in rows(batch, kind):
                    if kind is Kind.ORDER and not self.genesis.may_record(node, row["account"]):
                        continue
                    if (kind, node, str(row["id"])) not in self.seen:
                        self.seen.add((kind, node, str(row["id"])))
                        getattr(self, f"_{kind.name.lower()}")(node, batch.key, row)
        self._close({proof.lane for proof in evidence})
        for name in self.new_prices:
            self._mark(name)
        for (account, name), (amount, node) in self.free.items():
            asset = self._defined(name).settlement
            self.margin[account, asset] -= amount
            self.rights[node][account, asset] += amount
        self.carried = {at: held for at, held in self.carried.items() if held["qty"]}
        self.prices |= self.new_prices
        needed = {name for match in self.waiting_matches.values() for name in (match["maker"], match["taker"])}
        self.orders = {n: one for n, one in self.orders.items() if any(one["open"].values()) or n in needed}

    def _defined(self, name: str) -> Instrument:
        return self.definitions[name][0][1]

    # -- facts ----------------------------------------------------------------------------------------------

    def _order(self, node: str, lane: bytes, row: Mapping[str, Any]) -> None:
        rivals = self.definitions.get(row["instrument"], [])
        if not rivals or rivals[0][0] != row["digest"]:
            return
        meant = rivals[0][1]
        if meant.type == "spot" and meant.base not in self.genesis.asset_decimals:
            return
        if row["hidden"] is not None and meant.mode != "auction":
            return
        if row["amends"] is not None:
            self._cancel(node, lane, {"order": row["amends"]})
        fresh = {"lane": lane, "open": {node: row["qty"]}, "closed": False, "home": node, "filled": 0}
        fresh |= {"worth": Fraction(), "fee": Fraction(), "opened": Fraction(), "paid": 0, "charged": 0, "held": 0}
        self.orders[node, str(row["id"])] = {**row, **fresh}

    def _cancel(self, node: str, lane: bytes, row: Mapping[str, Any]) -> None:
        one = self.orders.get((node, str(row["order"])))
        if one is not None:
            one["closed"] = True
            one["open"][node] = 0

    def _reveal(self, node: str, lane: bytes, row: Mapping[str, Any]) -> None:
        """Only auctions have any use for it."""

    def _give(self, one: dict[str, Any], node: str, qty: int) -> None:
        if not (one["closed"] and node == one["home"]):
            one["open"][node] = one["open"].get(node, 0) + qty

    def _share(self, node: str, lane: bytes, row: Mapping[str, Any]) -> None:
        one = self.orders.get((self._member(row["home"]), str(row["order"])))
        if one is not None and self._member(row["node"]):
            qty = min(row["qty"], one["open"].get(node, 0))
            one["open"][node] = one["open"].get(node, 0) - qty
            self._give(one, self._member(row["node"]), qty)

    def _member(self, index: int) -> str:
        return self.names[index] if index < len(self.names) else ""

    def _match(self, node: str, lane: bytes, row: Mapping[str, Any]) -> None:
        maker_name, taker_name = (self._member(row["home"]), str(row["maker"])), (node, str(row["taker"]))
        maker, taker = self.orders.get(maker_name), self.orders.get(taker_name)
        if maker is None or taker is None or (row["survival"] and maker_name[0] == node):
            return
        same = maker["instrument"] == taker["instrument"] and maker["side"] == -taker["side"]
        reaches = taker["price"] >= row["price"] if taker["side"] > 0 else taker["price"] <= row["price"]
        if not same or not reaches or row["price"] != maker["price"] or maker["account"] == taker["account"]:
            return
        if self._defined(maker["instrument"]).mode != "continuous":
            return
        qty = min(row["qty"], taker["open"].get(node, 0))
        if row["survival"]:
            if qty:
                taker["open"][node] -= qty
                match = {"maker": maker_name, "taker": taker_name, "held": qty, "price": row["price"], "lane": lane}
                self.waiting_matches[node, str(row["id"])] = match
            return
        qty = min(qty, maker["open"].get(node, 0))
        stands = self._exchange(maker, taker, qty, row["price"])
        if stands:
            maker["open"][node] -= stands
            taker["open"][node] -= stands

    def _accept(self, node: str, lane: bytes, row: Mapping[str, Any]) -> None:
        name = (self._member(row["home"]), str(row["match"]))
        if name in self.waiting_matches and self.waiting_matches[name]["maker"][0] == node:
            self._answer(name, row["qty"])

    def _answer(self, name: Name, accepted: int) -> None:
        match = self.waiting_matches.pop(name)
        maker, taker = self.orders[match["maker"]], self.orders[match["taker"]]
        qty = min(accepted, match["held"], maker["open"].get(maker["home"], 0))
        stands = self._exchange(maker, taker, qty, match["price"])
        if stands:
            maker["open"][maker["home"]] -= stands
        self._give(taker, taker["home"], match["held"] - stands)

    def _close(self, closed: set[bytes]) -> None:
        for name, match in list(self.waiting_matches.items()):
            if match["lane"] in closed or self.orders[match["taker"]]["lane"] in closed:
                self._answer(name, 0)
            elif self.orders[match["maker"]]["lane"] in closed:
                self._answer(name, match["held"])
        for one in self.orders.values():
            if one["lane"] in closed:
                one["open"], one["closed"] = {}, True

    # -- money ----------------------------------------------------------------------------------------------

    def _value(self, d: Instrument, qty: int, price: int) -> Fraction:
        """In minor units of the settlement asset. Inverse ones are rounded up at six more decimals."""
        contracts = Fraction(qty * d.contract_size, 10 ** (d.qty_decimals + d.contract_decimals))
        level, unit = Fraction(price, 10**d.price_decimals), 10 ** self.genesis.asset_decimals[d.settlement]
        if d.inverse:
            return Fraction(ceil(contracts / level * unit * 10**6), 10**6)
        return contracts * level * unit

    def _reserve(self, one: Mapping[str, Any], asset: str) -> list[Any] | None:
        held = self.reserves.get(one["lane"], {}).get(str(one["reserve"]))
        return held if held is not None and held[0] == (one["account"], asset) else None

    def _opens(self, one: Mapping[str, Any], qty: int) -> int:
        carried = self.carried.get((one["account"], one["instrument"]), {"qty": 0})["qty"]
        return max(0, qty - abs(carried)) if carried * one["side"] < 0 else qty

    def _costs(self, one: Mapping[str, Any], qty: int, price: int, ppm: int) -> dict[str, Any]:
        """What an order comes to with so much more: its sums, and what it then owes of each sort."""
        d = self._defined(one["instrument"])
        margined = d.type in ("perp", "future") or (d.type == "option" and one["side"] < 0)
        opens = self._opens(one, qty) if margined else 0
        basis = max(d.strike or 0, price) if d.type == "option" else price
        out: dict[str, Any] = {
            "filled": one["filled"] + qty,
            "worth": one["worth"] + self._value(d, qty, price),
            "fee": one["fee"] + self._value(d, qty, price) * ppm / 10**6,
            "opened": one["opened"] + self._value(d, opens, basis),
        }
        fee = ceil(out["fee"]) if isinstance(self.genesis.policies.beneficiary, str) else 0
        margin = ceil(out["opened"] * d.margin_ppm / 10**6)
        if d.type == "spot" and one["side"] < 0:
            unit = 10 ** self.genesis.asset_decimals[d.base]
            owed = (ceil(Fraction(out["filled"] * unit, 10**d.qty_decimals)), 0, None)
        elif margined:
            owed = (0, margin, None if d.type == "option" else fee)
        else:
            owed = (ceil(out["worth"]), 0, fee)
        out["now"] = tuple(
            0 if due is None else due - had
            for due, had in zip(owed, (one["paid"], one["held"], one["charged"]), strict=True)
        )
        out["due_fee"] = fee - one["charged"]
        return out

    def _exchange(self, maker: dict[str, Any], taker: dict[str, Any], qty: int, price: int) -> int:
        d = self._defined(maker["instrument"])
        for one, ppm in ((maker, d.maker_fee_ppm), (taker, d.taker_fee_ppm)):
            if one["reduce_only"]:
                at = self.positions.get((one["account"], one["instrument"]), {"bought": 0, "sold": 0})
                qty = min(qty, max(0, (at["sold"] - at["bought"]) * one["side"]))
            asset = d.base if d.type == "spot" and one["side"] < 0 else d.settlement
            held = self._reserve(one, asset)
            left = held[1] if held else 0
            if sum(self._costs(one, qty, price, ppm)["now"]) > left:
                low, high = 0, qty
                while high - low > 1:
                    half = (low + high) // 2
                    fits = sum(self._costs(one, half, price, ppm)["now"]) <= left
                    low, high = (half, high) if fits else (low, half)
                qty = low
        if not qty:
            return 0
        costs = {}
        for one, ppm in ((maker, d.maker_fee_ppm), (taker, d.taker_fee_ppm)):
            cost = costs[one["side"]] = self._costs(one, qty, price, ppm)
            for held in [self._reserve(one, d.base if d.type == "spot" and one["side"] < 0 else d.settlement)]:
                if held:
                    held[1] -= sum(cost["now"])
            one |= {key: cost[key] for key in ("filled", "worth", "fee", "opened")}
            one["paid"] += cost["now"][0]
            one["held"] += cost["now"][1]
            one["charged"] += cost["now"][2]
        buyer, seller = (maker, taker) if maker["side"] > 0 else (taker, maker)
        fees = {1: costs[1]["now"][2], -1: costs[-1]["now"][2]}
        if d.type in ("spot", "option"):
            paid = costs[1]["now"][0]
            fees[-1] = min(costs[-1]["due_fee"], paid)
            seller["charged"] += fees[-1]
            self.rights[seller["home"]][seller["account"], d.settlement] += paid - fees[-1]
        if d.type == "spot":
            self.rights[buyer["home"]][buyer["account"], d.base] += costs[-1]["now"][0]
        beneficiary = self.genesis.policies.beneficiary
        if sum(fees.values()):
            cell = (str(beneficiary), d.settlement)
            self.rights[self.genesis.custodian(*cell)][cell] += sum(fees.values())
        for one in (buyer, seller):
            if d.type != "spot":
                self._carry(one, d, qty, price, costs[one["side"]]["now"][1])
            fill = {"instrument": d.name, "account": one["account"], "side": one["side"], "qty": qty, "price": price}
            self._position(Kind.FILL, {**fill, "fee": fees[one["side"]], "fee_asset": None})
        return qty

    def _carry(self, one: dict[str, Any], d: Instrument, qty: int, price: int, margin: int) -> None:
        at = (one["account"], d.name)
        held = self.carried.setdefault(at, {"qty": 0, "margin": 0})
        closes = qty - self._opens(one, qty)
        if closes:
            freed = held["margin"] if closes == abs(held["qty"]) else held["margin"] * closes // abs(held["qty"])
            held["margin"] -= freed
            self.free[at] = [self.free.get(at, [0])[0] + freed, one["home"]]
        held["qty"] += one["side"] * qty
        held["margin"] += margin
        self.margin[one["account"], d.settlement] += margin
        if d.type != "option":
            self.flow[at] += one["side"] * self._value(d, qty, price)
            self.new_prices[d.name] = price
            if not any(one is other for other in self.drawing[at]):
                self.drawing[at].append(one)

    def _mark(self, name: str) -> None:
        d, new = self._defined(name), self.new_prices[name]
        old = self.prices.get(name, new)

        def worth(qty: int, price: int) -> Fraction:
            return self._value(d, abs(qty), price) * (1 if qty > 0 else -1)

        gains = {}
        for account, _ in [at for at in self.carried if at[1] == name]:
            at = (account, name)
            gain = worth(self.carried[at]["qty"], new) - worth(self.before.get(at, 0), old) - self.flow[at]
            gains[account] = -gain if d.inverse else gain
        won = {account: gain for account, gain in sorted(gains.items()) if gain > 0}
        if not won:
            return
        collected = 0
        for account, gain in sorted(gains.items()):
            if gain < 0:
                collected += self._lose(account, d, ceil(-gain))
        exact = {account: collected * gain / sum(won.values()) for account, gain in won.items()}
        parts = {account: int(part) for account, part in exact.items()}
        for account in sorted(exact, key=lambda a: (parts[a] - exact[a], a))[: collected - sum(parts.values())]:
            parts[account] += 1
        for account, part in parts.items():
            held = self.carried[account, name]
            self.margin[account, d.settlement] += part
            if held["qty"]:
                held["margin"] += part
            else:
                self.free[account, name][0] += part

    def _lose(self, account: str, d: Instrument, due: int) -> int:
        at, asset, taken = (account, d.name), d.settlement, 0
        held = self.carried[at]
        free = min(due, self.free.get(at, [0])[0])
        if free:
            self.free[at][0] -= free
        behind = min(due - free, held["margin"])
        held["margin"] -= behind
        self.margin[account, asset] -= free + behind
        taken = free + behind
        for one in self.drawing[at]:
            reserve = self._reserve(one, asset)
            if reserve is not None:
                part = min(due - taken, reserve[1])
                reserve[1] -= part
                taken += part
        self.shortfall[account, asset] += due - taken
        return taken
