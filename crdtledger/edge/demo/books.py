"""The driver's own books: what the nodes acknowledged, added up independently of them. Pure.

Nothing here uses the ledger's folds: positions are plain Python integers and fractions over the trades that were handed
over, cells are sums over the moves that were answered with success. The verdict holds every node against these books.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Final, NamedTuple

from crdtledger.edge.demo.feeds import Consignment
from crdtledger.edge.demo.script import ASSET_DECIMALS, Move
from crdtledger.ledger.facts import Instrument

AMOUNTS: Final = ("bought", "sold", "value_bought", "value_sold", "fees")
FLOWS: Final = ("deposited", "withdrawn", "reserved", "in_transit", "incoming", "refundable")


class Trade(NamedTuple):
    """The terms of one trade as it was reported."""

    account: str
    side: int
    qty: int
    price: int
    fee: int


class Row(NamedTuple):
    """One position, exactly."""

    bought: Fraction
    sold: Fraction
    value_bought: Fraction
    value_sold: Fraction
    fees: Fraction
    fills: int


NOTHING: Final = Row(Fraction(0), Fraction(0), Fraction(0), Fraction(0), Fraction(0), 0)

TradeKey = tuple[str, str, int | str]
"""(venue, instrument, trade id)."""


class Books:
    """``acknowledge``, ``report`` as answers come in; ``positions`` and the cells once it is over."""

    def __init__(self) -> None:
        self.instruments: dict[str, Instrument] = {}
        self.accounts: set[str] = set()
        self.consignments: list[Consignment] = []
        self.moves: dict[str, tuple[Move, set[str]]] = {}
        self.reserves: dict[str, int] = {}
        self.cells: dict[tuple[str, str], dict[str, int]] = {}
        self.reported = 0

    def defined(self, instruments: list[Instrument], accounts: list[str]) -> None:
        """Reference data was acknowledged."""
        self.instruments |= {one.name: one for one in instruments}
        self.accounts.update(accounts)

    # -- collateral -----------------------------------------------------------------------------------------

    def cell(self, account: str, asset: str) -> dict[str, int]:
        """The sums of one (account, asset), in minor units."""
        return self.cells.setdefault((account, asset), dict.fromkeys(FLOWS, 0))

    def acknowledge(self, node: str, move: Move) -> None:
        """``node`` has recorded ``move``. The same id at a second node counts once, and what it took there is refundable."""
        known = self.moves.get(move.id)
        if known is not None:
            if node not in known[1]:
                known[1].add(node)
                self.cell(move.account, move.asset)["refundable"] += move.amount
            return
        self.moves[move.id] = (move, {node})
        cell = self.cell(move.account, move.asset)
        if move.kind == "deposit":
            cell["deposited"] += move.amount
        elif move.kind == "withdrawal":
            cell["withdrawn"] += move.amount
        elif move.kind == "transfer":
            cell["in_transit"] += move.amount
            self.cell(move.other, move.asset)["incoming"] += move.amount
        elif move.kind == "reserve":
            cell["reserved"] += move.amount
            self.reserves[move.id] = move.amount
        elif move.kind == "post":
            self.reserves[move.reserve] -= move.amount
            cell["reserved"] -= move.amount
            cell["in_transit"] += move.amount
            self.cell(move.other, move.asset)["incoming"] += move.amount
        elif move.kind == "void":
            cell["reserved"] -= self.reserves[move.reserve]
            self.reserves[move.reserve] = 0

    def settled(self) -> dict[tuple[str, str], dict[str, int]]:
        """What every cell must show once everything is settled: nothing is on its way any more. What was in transit has
        arrived where it was to be credited, and what a repeated order had taken is given back."""
        out = {}
        for name, cell in self.cells.items():
            held = cell["deposited"] - cell["withdrawn"] - cell["in_transit"] + cell["incoming"]
            flows = dict.fromkeys(FLOWS, 0) | {flow: cell[flow] for flow in ("deposited", "withdrawn", "reserved")}
            out[name] = flows | {"held": held, "free": held - cell["reserved"]}
        return out

    def overdrawn(self) -> list[tuple[str, str]]:
        """Cells of which more was spent than was ever put in."""
        return sorted(name for name, cell in self.settled().items() if cell["free"] < 0)

    # -- positions ------------------------------------------------------------------------------------------

    def report(self, consignment: Consignment) -> None:
        """A consignment was acknowledged."""
        self.consignments.append(consignment)
        self.reported += len(consignment.fills)

    def trades(self) -> tuple[dict[TradeKey, Trade], dict[TradeKey, list[Trade]]]:
        """Every distinct trade by its identity, and all the stories of those that were told in more than one way."""
        trades: dict[TradeKey, Trade] = {}
        contested: dict[TradeKey, list[Trade]] = {}
        for consignment in self.consignments:
            fills = consignment.fills
            ids = fills.text_ids if fills.text_ids is not None else fills.trade_id.tolist()
            fees = [0] * len(fills) if fills.fee is None else fills.fee.tolist()
            columns = (
                fills.account.tolist(),
                fills.side.tolist(),
                fills.qty.tolist(),
                fills.price.tolist(),
                fees,
            )
            for number, account, side, qty, price, fee in zip(ids, *columns, strict=True):
                key = (fills.venue, fills.instrument, number)
                trade = Trade(fills.accounts[account], side, qty, price, fee)
                first = trades.setdefault(key, trade)
                if first != trade and trade not in contested.setdefault(key, [first]):
                    contested[key].append(trade)
        return trades, contested

    def positions(
        self, trades: Mapping[TradeKey, Trade], contested: Mapping[TradeKey, Sequence[Trade]]
    ) -> dict[tuple[str, str], list[Row]]:
        """What every (account, instrument) may look like: one row, or one per story where a trade is contested."""
        rows: dict[tuple[str, str], list[int]] = {}
        for (_, instrument, _), trade in trades.items():
            _add(rows.setdefault((trade.account, instrument), [0] * 6), trade, self.instruments[instrument], 1)
        out = {cell: [self._row(cell[1], sums)] for cell, sums in rows.items()}
        for (_, name, _), stories in contested.items():
            cell = (stories[0].account, name)
            other = list(rows[cell])
            _add(other, stories[0], self.instruments[name], -1)
            _add(other, stories[1], self.instruments[name], 1)
            out[cell].append(self._row(name, other))
        return out

    def _row(self, name: str, sums: list[int]) -> Row:
        terms = self.instruments[name]
        size = 10**terms.qty_decimals
        value = 10 ** (terms.price_decimals + terms.qty_decimals + terms.contract_decimals)
        if terms.inverse:
            value = 10**ASSET_DECIMALS
        units = (size, size, value, value, 10**ASSET_DECIMALS)
        bought, sold, value_bought, value_sold, fees = (
            Fraction(amount, unit) for amount, unit in zip(sums, units, strict=False)
        )
        return Row(bought, sold, value_bought, value_sold, fees, sums[5])


def _add(sums: list[int], trade: Trade, terms: Instrument, sign: int) -> None:
    """Add one trade to [bought, sold, value bought, value sold, fees, fills]."""
    if terms.inverse:
        over = 10 ** (terms.price_decimals + ASSET_DECIMALS)
        under = 10 ** (terms.qty_decimals + terms.contract_decimals)
        value, rest = divmod(trade.qty * terms.contract_size * over, trade.price * under)
        value += 2 * rest + (value & 1) > trade.price * under  # half to even
    else:
        value = trade.qty * trade.price * terms.contract_size
    sold = trade.side < 0
    sums[sold] += sign * trade.qty
    sums[2 + sold] += sign * value
    sums[4] += sign * trade.fee
    sums[5] += sign
