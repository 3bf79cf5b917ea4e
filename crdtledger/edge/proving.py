"""Proof files from a certified height: what one account has, for somebody who has the genesis and no node."""

from __future__ import annotations

import msgspec

from crdtledger.edge.heightbook import SettledHeight
from crdtledger.ledger.genesis import Genesis
from reconcile.cells import MANIFEST, CellName
from reconcile.log import MerkleLog
from reconcile.proofs import prove_account
from reconcile.statecells import Touched, changed_cells
from reconcile.sumtree import SumNode, SumProof


def prove(
    genesis: Genesis, settled: SettledHeight, log: MerkleLog, certificate: bytes, account: str, liabilities: bool
) -> bytes:
    """The proof file of ``account`` at the height ``settled``, certified by ``certificate``. ``liabilities``: with sum trees' paths."""
    cells = _cells(genesis, settled, account)
    sums: dict[str, tuple[SumNode, SumProof | None]] = {}
    if liabilities:
        for asset, owed in settled.commitments.sums.items():
            balance = settled.state.collateral.get((account, asset))
            sums[asset] = (owed.root, owed.prove(account) if balance and balance.held else None)
    record = settled.checkpoint.record
    tree = settled.commitments.tree
    return prove_account(account, cells, tree, record, log, certificate, record.height, sums if liabilities else None)


def _cells(genesis: Genesis, settled: SettledHeight, account: str) -> dict[CellName, bytes]:
    """The account's cells but its manifest: those that a state without it lacks."""
    state = settled.state
    mine = Touched(
        labels=frozenset({account} & state.labels.keys()),
        positions=frozenset((account, instrument) for instrument in state.positions.under(account)),
        collateral=frozenset((account, asset) for asset in state.collateral.under(account)),
    )
    without = msgspec.structs.replace(state, labels={}, positions={}, collateral={})
    cells = changed_cells(without, state, mine, genesis)
    return {name: value for name, value in cells.items() if value is not None and name.kind != MANIFEST}
