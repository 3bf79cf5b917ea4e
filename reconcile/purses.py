"""Balances and reserves while a height's matches are settled: what is taken, where it lands, what is missing.

It begins with what facts that move rights have left (credits landed, refunds given) and ends as balances and reserves again. Every
amount that is taken somewhere is put somewhere, so what an asset holds in all never changes here.
"""

from __future__ import annotations

from collections.abc import Mapping

from crdtledger.ledger.factkeys import key_of
from crdtledger.ledger.facts import Kind
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.settled import Key, SettledState
from crdtledger.ledger.settledparts import Reserved, SettledBalance, SettledOrder

Pair = tuple[str, str]
_EMPTY = SettledBalance()


class _Purse:
    """One (account, asset)."""

    __slots__ = ("balance", "margin", "reserved", "rights", "shortfall")

    def __init__(self, balance: SettledBalance) -> None:
        self.balance = balance
        self.rights = dict(balance.rights)
        self.reserved, self.margin, self.shortfall = balance.reserved, balance.margin, balance.shortfall

    def settled(self) -> SettledBalance:
        return SettledBalance(
            deposited=self.balance.deposited,
            withdrawn=self.balance.withdrawn,
            reserved=self.reserved,
            margin=self.margin,
            shortfall=self.shortfall,
            rights=tuple(sorted((member, amount) for member, amount in self.rights.items() if amount)),
        )


class Purses:
    """``balances``: those that the height has changed already. ``reserves``: all that are open, by lane; not written to."""

    def __init__(
        self,
        genesis: Genesis,
        state: SettledState,
        balances: Mapping[Pair, SettledBalance],
        reserves: Mapping[bytes, Mapping[Key, Reserved]],
    ) -> None:
        self._genesis, self._state, self._balances, self._reserves = genesis, state, balances, reserves
        self._members = {member.name: index for index, member in enumerate(genesis.nodes)}
        self._purses: dict[Pair, _Purse] = {}
        self._left: dict[tuple[bytes, Key], Reserved] = {}
        self._keys: dict[str, Key] = {}

    def _purse(self, account: str, asset: str) -> _Purse:
        at = (account, asset)
        purse = self._purses.get(at)
        if purse is None:
            balance = self._balances.get(at) or self._state.collateral.get(at, _EMPTY)
            purse = self._purses[at] = _Purse(balance)
        return purse

    def _reserve(self, lane: bytes, reserve: str) -> tuple[tuple[bytes, Key], Reserved | None]:
        key = self._keys.get(reserve)
        if key is None:
            key = self._keys[reserve] = key_of(Kind.RESERVE, reserve)
        at = (lane, key)
        return at, self._left.get(at) or self._reserves.get(lane, {}).get(key)

    def left(self, order: SettledOrder, asset: str) -> int:
        """What is left in the reserve that an order names, if it is its account's and in this asset."""
        _, held = self._reserve(order.lane, order.terms.reserve)
        fits = held is not None and (held.account, held.asset) == (order.terms.account, asset)
        return held.remaining if fits and held is not None else 0

    def take(self, order: SettledOrder, amount: int) -> None:
        """Take out of an order's reserve; no more than is left."""
        at, held = self._reserve(order.lane, order.terms.reserve)
        if not amount:
            return
        assert held is not None
        assert amount <= held.remaining
        remaining = held.remaining - amount
        self._left[at] = Reserved(held.account, held.asset, remaining, held.id, held.expires_us)
        self._purse(held.account, held.asset).reserved -= amount

    def land(self, account: str, asset: str, node: str | None, amount: int) -> None:
        """Put an amount among the rights of a node, or of the account's custodian."""
        if amount:
            member = self._members[self._genesis.custodian(account, asset) if node is None else node]
            rights = self._purse(account, asset).rights
            rights[member] = rights.get(member, 0) + amount

    def margin(self, account: str, asset: str, change: int) -> None:
        """Put behind a position, or take away from it."""
        self._purse(account, asset).margin += change

    def owe(self, account: str, asset: str, missing: int) -> None:
        """Name what could not be taken."""
        self._purse(account, asset).shortfall += missing

    def balances(self) -> dict[Pair, SettledBalance]:
        """Every balance that changed here."""
        return {at: purse.settled() for at, purse in self._purses.items()}

    def reserves(self) -> dict[bytes, Mapping[Key, Reserved]]:
        """All open reserves now."""
        out = dict(self._reserves)
        for (lane, key), held in self._left.items():
            held_of = dict(out[lane])
            held_of[key] = held
            out[lane] = held_of
        for lane in {lane for lane, _ in self._left}:
            out[lane] = {key: held for key, held in out[lane].items() if held.remaining}
        return out

    def touched(self) -> set[tuple[bytes, Key]]:
        """The reserves that were taken from."""
        return set(self._left)
