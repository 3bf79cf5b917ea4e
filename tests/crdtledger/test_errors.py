"""Errors say the same in whatever process they arrive."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Iterator

import pytest

from crdtledger import errors
from crdtledger.edge.process import NodeNotStarted

VALUES = {
    "str": "A",
    "str | None": "B",
    "int": 7,
    "Iterable[str]": ("C", "D"),
    "tuple[str, ...]": ("E",),
    "Mapping[str, int]": {"n2": 5},
}


def kinds(kind: type[errors.LedgerError]) -> Iterator[type[errors.LedgerError]]:
    for one in kind.__subclasses__():
        yield one
        yield from kinds(one)


@pytest.mark.parametrize("kind", [*kinds(errors.LedgerError)])
def test_an_error_that_crosses_processes_is_the_same(kind: type[errors.LedgerError]) -> None:
    named = [
        one for one in inspect.signature(kind.__init__).parameters.values() if one.name not in ("self", "attributes")
    ]
    values = [(one, VALUES[one.annotation]) for one in named]
    by_name = {one.name: value for one, value in values if one.kind is one.KEYWORD_ONLY}
    raised = kind(*(value for one, value in values if one.kind is not one.KEYWORD_ONLY), **by_name)
    arrived = pickle.loads(pickle.dumps(raised))
    assert type(arrived) is kind
    assert str(arrived) == str(raised)
    assert arrived.__dict__ == raised.__dict__
    assert arrived.describe() == raised.describe()


def test_those_of_other_modules_are_among_them() -> None:
    assert NodeNotStarted in kinds(errors.LedgerError)
