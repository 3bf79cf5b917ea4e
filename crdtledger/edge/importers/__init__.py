"""Importers: other people's trade files, as columns.

``importer(format, spec)`` gives the machine for a format of DESIGN.md section 9; ``import_file`` drives one over a file.
The machines are pure (bytes in, ``Trades`` out) and know nothing of the ledger; ``source`` is the only module that opens files.
"""

from __future__ import annotations

from crdtledger.edge.importers.accounts import account_name, assign_accounts
from crdtledger.edge.importers.binance_stream import BinanceStream
from crdtledger.edge.importers.trades import (
    Importer,
    ImportSpec,
    Position,
    Refusal,
    Summary,
    Trades,
    concatenate,
)

__all__ = [
    "BinanceStream",
    "ImportSpec",
    "Importer",
    "Position",
    "Refusal",
    "Summary",
    "Trades",
    "account_name",
    "assign_accounts",
    "concatenate",
]
