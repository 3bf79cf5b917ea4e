"""The property-test kit: for the CRDTs of others, and for whoever builds on this ledger. Install it with the extra ``testing``.

* Laws (docs/how-to/test-your-crdt.md): ``Crdt`` describes yours, ``check_laws`` looks for a story in which it is none;
  ``document_crdt`` describes a pycrdt document.
* Clusters (docs/how-to/test-your-ledger.md): ``ClusterMachine`` is subclassed with facts and invariants of one's own, ``Watched`` is
  what the pytest fixture ``cluster`` gives.
* ``strategies``: facts, batches, lanes, geneses, markets, schedules of faults. ``Market``: prices and fills from a seed.

Names are loaded when they are first used: Hypothesis and pytest load this package whenever they run.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from crdtledger.testing import strategies
    from crdtledger.testing.crdt import Change, Crdt, LawBroken
    from crdtledger.testing.laws import check_law, check_laws, default_settings, laws_of
    from crdtledger.testing.machine import ClusterMachine, budget
    from crdtledger.testing.market import Market
    from crdtledger.testing.pycrdtlaws import document_crdt
    from crdtledger.testing.story import steps_of, story_of
    from crdtledger.testing.strategies import Schedule
    from crdtledger.testing.watched import Watched

__all__ = [
    "Change",
    "ClusterMachine",
    "Crdt",
    "LawBroken",
    "Market",
    "Schedule",
    "Watched",
    "budget",
    "check_law",
    "check_laws",
    "default_settings",
    "document_crdt",
    "laws_of",
    "steps_of",
    "story_of",
    "strategies",
]

_HOME: Final = {
    "Change": "crdt",
    "ClusterMachine": "machine",
    "Crdt": "crdt",
    "LawBroken": "crdt",
    "Market": "market",
    "Schedule": "strategies",
    "Watched": "watched",
    "budget": "machine",
    "check_law": "laws",
    "check_laws": "laws",
    "default_settings": "laws",
    "document_crdt": "pycrdtlaws",
    "laws_of": "laws",
    "steps_of": "story",
    "story_of": "story",
}


def __getattr__(name: str) -> object:
    if name == "strategies":
        return importlib.import_module("crdtledger.testing.strategies")
    if name in _HOME:
        return getattr(importlib.import_module(f"crdtledger.testing.{_HOME[name]}"), name)
    raise AttributeError(f"module 'crdtledger.testing' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
