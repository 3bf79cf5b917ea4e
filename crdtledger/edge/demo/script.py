"""The script: which collateral moves which node makes in which act. Pure: the same seed gives the same script.

Everything starts at the custodian (the first node): deposits for a handful of accounts and for the *vault*, and a first
share of the rights for every other node. Then every node spends at once. The moves of the cut are larger than those
before, so that rights run out somewhere and refusals are seen. Two scenes in it are always the same:

* both sides of the cut try to take the same ``HEIST`` out of the vault, which holds enough for one of them;
* both sides are handed the same withdrawal, under the same id, and both have the rights for it: it must count once.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from crdtledger.edge.importers import account_name
from crdtledger.errors import decimal_text

ASSET_DECIMALS: Final = 8
UNIT: Final = 10**ASSET_DECIMALS
VAULT: Final = "VAULT"
VAULT_HOLDS: Final = 1_000_000 * UNIT
HEIST: Final = 600_000 * UNIT
TWICE: Final = 1_000 * UNIT
FUNDS: Final = {"USDT": 100_000 * UNIT, "BTC": 4 * UNIT}
SPENDERS: Final = 6
"""Accounts that spend, besides the vault."""
GIVEN_AWAY_PERCENT: Final = 48
"""What the custodian hands to all the other nodes together before the story starts."""
MOVES: Final = {"trade": 26, "cut": 30, "after": 10}
SIZES: Final = {"trade": (5, 25), "cut": (10, 90), "after": (1, 6)}
"""Least and most of one move, in thousandths of what a cell was founded with."""

MoveKind = Literal["deposit", "withdrawal", "transfer", "grant", "reserve", "post", "void"]


class Move(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One collateral fact. ``amount`` in minor units (0 in a void), ``other``: who is credited, or the node that is granted
    rights; ``reserve``: the reserve that is posted or voided."""

    kind: MoveKind
    id: str
    account: str
    asset: str
    amount: int = 0
    other: str = ""
    reserve: str = ""

    def json(self) -> dict[str, Any]:
        """The fact as a client hands it in."""
        fact: dict[str, Any] = {"kind": self.kind, "id": self.id}
        if self.kind in ("post", "void"):
            fact["reserve"] = self.reserve
        else:
            fact |= {"account": self.account, "asset": self.asset}
        if self.kind == "post":
            fact["asset"] = self.asset
        if self.kind != "void":
            fact["amount"] = decimal_text(self.amount, ASSET_DECIMALS)
        if self.kind in ("transfer", "post"):
            fact["credit"] = self.other
        if self.kind == "grant":
            fact["node"] = self.other
        return fact


class Script(msgspec.Struct, frozen=True):
    """``opening`` is recorded by the custodian in order; ``acts``: act -> node -> its moves in order."""

    seed: int
    accounts: tuple[str, ...]
    opening: tuple[Move, ...]
    acts: dict[str, dict[str, tuple[Move, ...]]]


def write(seed: int, nodes: Sequence[str], left: Sequence[str]) -> Script:
    """The script for a cluster of ``nodes`` that will be cut into ``left`` (with the custodian) and the rest."""
    accounts = [account_name(number) for number in range(SPENDERS)]
    cells = [(account, asset) for account in accounts for asset in FUNDS]
    opening = [_opening_deposit(account, asset, FUNDS[asset]) for account, asset in cells]
    opening.append(_opening_deposit(VAULT, "USDT", VAULT_HOLDS))
    for node in nodes[1:]:
        for first in tuple(opening):
            if first.kind == "deposit":
                share = 36 if first.account == VAULT else GIVEN_AWAY_PERCENT
                amount = first.amount * share // 100 // (len(nodes) - 1)
                grant = f"open/{node}/{first.account}/{first.asset}"
                opening.append(
                    Move(
                        kind="grant",
                        id=grant,
                        account=first.account,
                        asset=first.asset,
                        amount=amount,
                        other=node,
                    )
                )
    acts = {
        act: {
            node: tuple(_moves(random.Random(f"{seed}/{act}/{node}"), act, node, node == nodes[0], cells))
            for node in nodes
        }
        for act in MOVES
    }
    right = [node for node in nodes if node not in left]
    for node in (left[0], right[0]):
        taking = _vault(f"heist/{node}", HEIST)
        acts["cut"][node] = (taking, _vault("twice", TWICE), *acts["cut"][node])
    return Script(seed, (*accounts, VAULT), tuple(opening), acts)


def _opening_deposit(account: str, asset: str, amount: int) -> Move:
    return Move(kind="deposit", id=f"open/{account}/{asset}", account=account, asset=asset, amount=amount)


def _vault(name: str, amount: int) -> Move:
    return Move(kind="withdrawal", id=name, account=VAULT, asset="USDT", amount=amount)


def _moves(draw: random.Random, act: str, node: str, custodian: bool, cells: Sequence[tuple[str, str]]) -> list[Move]:
    """One node's moves in one act. A reserve is followed by a post, by a void, by both, or by nothing."""
    out: list[Move] = []
    later: list[Move] = []
    for number in range(MOVES[act]):
        account, asset = draw.choice(cells)
        name = f"{act}/{node}/{number}"
        amount = FUNDS[asset] * draw.randint(*SIZES[act]) // 1000 + draw.randint(0, UNIT // 100)
        kind = draw.choices(("withdrawal", "reserve", "transfer", "deposit"), (35, 30, 20, 15 if custodian else 0))[0]
        other = draw.choice([name for name, _ in cells if name != account]) if kind == "transfer" else ""
        out.append(Move(kind=kind, id=name, account=account, asset=asset, amount=amount, other=other))  # type: ignore[arg-type]
        if kind == "reserve":
            fate = draw.choices(("post", "void", "both", "keep"), (3, 3, 2, 2))[0]
            credit = draw.choice([name for name, _ in cells if name != account])
            cell: dict[str, Any] = {"account": account, "asset": asset, "reserve": name}
            if fate in ("post", "both"):
                part = amount * draw.randint(30, 90) // 100
                later.append(Move(kind="post", id=f"{name}/post", amount=part, other=credit, **cell))
            if fate in ("void", "both"):
                later.append(Move(kind="void", id=f"{name}/void", **cell))
        while later and draw.random() < 0.45:
            out.append(later.pop(0))
    return out + later
