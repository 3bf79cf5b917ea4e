"""Tells Hypothesis how to draw this project's types: its entry point, run by ``import hypothesis``.

    st.from_type(Genesis)      # with nothing of the kit imported

Whoever imports Hypothesis pays for this module alone: the strategies, and numpy below them, are loaded when one of our types is asked for,
and somebody who asks for it has loaded its module already. Hypothesis keeps such a list for numpy and pandas: (module, what resolves its
types once it is loaded). That list is not public; where it is missing, the types are registered in the open, at their price.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final

MODULES: Final = (
    "crdtledger.ledger.genesis",
    "crdtledger.ledger.facts",
    "crdtledger.ledger.batch",
    "crdtledger.ledger.inprocess",
    "crdtledger.testing.market",
    "crdtledger.testing.strategies.schedules",
)


def register() -> None:
    """What the entry point names."""
    from hypothesis.strategies._internal import types

    lazily = getattr(types, "_global_extra_lookup", None)
    if isinstance(lazily, dict):
        lazily.update(dict.fromkeys(MODULES, resolve))
    else:
        _register_all()


def resolve(thing: Any) -> Any:
    """The strategy for ``thing``, if it is a type of ours that has one; else None."""
    if getattr(thing, "__module__", None) not in MODULES:
        return None
    return strategies_by_type().get(thing)


def strategies_by_type() -> dict[Any, Any]:
    """Type -> the strategy for it."""
    from hypothesis import strategies as st

    kit = importlib.import_module("crdtledger.testing.strategies")
    genesis = importlib.import_module("crdtledger.ledger.genesis")
    kinds = importlib.import_module("crdtledger.ledger.facts")
    found: dict[Any, Any] = {kind: kit.facts(only=[kind]) for kind in kinds.KIND_OF}
    drawn = kit.geneses()
    parts: dict[Any, Callable[[Any], Any]] = {
        genesis.Policies: lambda one: st.just(one.policies),
        genesis.Member: lambda one: st.sampled_from(one.nodes),
        genesis.Asset: lambda one: st.sampled_from(one.assets),
    }
    found |= {part: drawn.flatmap(of) for part, of in parts.items()}
    found[genesis.Genesis] = drawn
    found[importlib.import_module("crdtledger.ledger.batch").Batch] = kit.batches()
    found[importlib.import_module("crdtledger.ledger.inprocess").Ledger] = kit.ledgers().flatmap(st.sampled_from)
    found[importlib.import_module("crdtledger.testing.market").Market] = kit.markets()
    found[kit.Schedule] = kit.schedules()
    return found


def _register_all() -> None:
    from hypothesis import strategies as st

    for thing, strategy in strategies_by_type().items():
        st.register_type_strategy(thing, strategy)
