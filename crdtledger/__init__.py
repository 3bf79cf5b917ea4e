"""A position and collateral ledger that keeps working when the network does not.

The public names of the ledger itself. Nodes, clients and the command line live in ``crdtledger.edge``; the message
engine and the simulator in ``gossip``. Start with ``Ledger``, or with the README.

Names are loaded when they are first used: the command line must be able to say ``--help`` without numpy and pycrdt.

PYTEST_DONT_REWRITE: pytest would warn that it cannot rewrite this package in a program that imports it and then calls ``pytest.main``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crdtledger import errors
    from crdtledger.ledger import facts
    from crdtledger.ledger.breaks import Break
    from crdtledger.ledger.collateral import Balance
    from crdtledger.ledger.drafting import FillColumns
    from crdtledger.ledger.genesis import Asset, Authority, Custodian, Genesis, Member, Policies
    from crdtledger.ledger.identity import Identity
    from crdtledger.ledger.inprocess import Ledger
    from crdtledger.ledger.positionrow import Position
    from crdtledger.ledger.recorder import Recorded
    from crdtledger.ledger.replica import Replica

__all__ = [
    "Asset",
    "Authority",
    "Balance",
    "Break",
    "Custodian",
    "FillColumns",
    "Genesis",
    "Identity",
    "Ledger",
    "Member",
    "Policies",
    "Position",
    "Recorded",
    "Replica",
    "errors",
    "facts",
]

_HOME = {
    "Asset": "ledger.genesis",
    "Authority": "ledger.genesis",
    "Balance": "ledger.collateral",
    "Break": "ledger.view",
    "Custodian": "ledger.genesis",
    "FillColumns": "ledger.drafting",
    "Genesis": "ledger.genesis",
    "Identity": "ledger.identity",
    "Ledger": "ledger.inprocess",
    "Member": "ledger.genesis",
    "Policies": "ledger.genesis",
    "Position": "ledger.positions",
    "Recorded": "ledger.recorder",
    "Replica": "ledger.replica",
}
_MODULES = {"errors": "errors", "facts": "ledger.facts"}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return importlib.import_module(f"crdtledger.{_MODULES[name]}")
    if name in _HOME:
        return getattr(importlib.import_module(f"crdtledger.{_HOME[name]}"), name)
    raise AttributeError(f"module 'crdtledger' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
