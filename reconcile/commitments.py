"""What a height commits to: the state tree over every cell of the settled state, and a sum tree of liabilities per asset.

Both advance by the cells and amounts that a settlement changed, never by what is held; both share what did not change, so the
commitments of several heights stand side by side. ``rebuild`` makes them from the state alone, and gives the same roots.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.settled import SettledState

from .salts import Salts
from .settlement import Settlement
from .statecells import cells_of, liabilities_of
from .statetree import StateTree
from .sumtree import SumTree, liabilities_digest


class Commitments(NamedTuple):
    """The trees of one height. ``sums``: one for every asset of the genesis, by name."""

    tree: StateTree
    sums: Mapping[str, SumTree]

    @classmethod
    def empty(cls, genesis: Genesis, salts: Salts) -> Commitments:
        """What stands before the first height: nothing."""
        return cls(StateTree(salts), {asset: SumTree(asset, salts) for asset in genesis.asset_decimals})

    @classmethod
    def rebuild(cls, genesis: Genesis, salts: Salts, state: SettledState) -> Commitments:
        """The commitments to ``state``. Costs every cell."""
        owed = liabilities_of(state, genesis)
        sums = {asset: SumTree(asset, salts, owed.get(asset, {})) for asset in genesis.asset_decimals}
        return cls(StateTree(salts, cells_of(state, genesis)), sums)

    def advance(self, settlement: Settlement) -> Commitments:
        """The commitments of the next height."""
        sums = {asset: tree.update(settlement.liabilities.get(asset, {})) for asset, tree in self.sums.items()}
        return Commitments(self.tree.update(settlement.cells), sums)

    @property
    def state_root(self) -> bytes:
        """32 bytes that stand for the whole settled state."""
        return self.tree.root

    @property
    def liabilities(self) -> bytes:
        """32 bytes that stand for what is owed, of all assets."""
        return liabilities_digest({asset: tree.root for asset, tree in self.sums.items()})
