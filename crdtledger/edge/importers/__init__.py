"""Importers: other people's trade files, as columns.

``importer(format, spec)`` gives the machine for one of ``FORMATS``; ``import_file`` drives one over a file.
The machines are pure (bytes in, ``Trades`` out) and know nothing of the ledger; ``source`` is the only module that opens files,
and ``wholly`` reads one to its end before any of its trades is handed on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from crdtledger.edge.importers.accounts import account_name, assign_accounts
from crdtledger.edge.importers.binance_aggtrades import BinanceAggTrades
from crdtledger.edge.importers.binance_stream import BinanceStream
from crdtledger.edge.importers.ccxt import Ccxt
from crdtledger.edge.importers.mapped_csv import MappedCsv, parse_mapping
from crdtledger.edge.importers.source import find_damage, import_file
from crdtledger.edge.importers.tardis import Tardis
from crdtledger.edge.importers.trades import (
    Importer,
    ImportSpec,
    Position,
    Refusal,
    Summary,
    Trades,
    concatenate,
)
from crdtledger.edge.importers.wholly import WholeFile
from crdtledger.errors import BadInput

FORMATS: Final[Mapping[str, Callable[[ImportSpec], Importer]]] = {
    "binance-stream": BinanceStream,
    "binance-aggtrades": BinanceAggTrades,
    "ccxt": Ccxt,
    "tardis": Tardis,
    "csv": MappedCsv,
}


def importer(name: str, spec: ImportSpec) -> Importer:
    """The importer for a format by its name. Raises ``BadInput`` for an unknown one, or a mapping that does not hold."""
    factory = FORMATS.get(name)
    if factory is None:
        raise BadInput(what=f"format {name!r}", where="import", why=f"known are {', '.join(FORMATS)}")
    return factory(spec)


__all__ = [
    "FORMATS",
    "ImportSpec",
    "Importer",
    "Position",
    "Refusal",
    "Summary",
    "Trades",
    "WholeFile",
    "account_name",
    "assign_accounts",
    "concatenate",
    "find_damage",
    "import_file",
    "importer",
    "parse_mapping",
]
