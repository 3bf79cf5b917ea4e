"""A row that is alone in its table is read as plain integers: it is judged, named and bound as the same row is among others."""

from __future__ import annotations

import itertools
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtledger.errors import InvalidBatch
from crdtledger.ledger import catalog
from crdtledger.ledger.body import Body, Cursor, WireBody, decode, encode
from crdtledger.ledger.catalog import Catalog
from crdtledger.ledger.factkeys import fact_keys, key_of, reference_keys
from crdtledger.ledger.facts import MAX_AMOUNT, NO_STRING, REFERENCES, TABLES, Kind
from crdtledger.ledger.reference import INSTRUMENT_DIGEST_BYTES
from crdtledger.ledger.settled import SettledState
from tests.crdtledger.worlds import genesis

STRINGS = ["A", "BTC", "7", "", "f" * 64]
INSTRUMENTS = [(0, bytes(INSTRUMENT_DIGEST_BYTES)), (1, bytes(INSTRUMENT_DIGEST_BYTES))]
SCOPES = [(0, 1, 3, 0), (1, 0, 3, 1)]
PLAUSIBLE = {
    "side": [1, -1],
    "flags": [0, 1, 2, 3, 4, 7],
    "hidden": [4, NO_STRING],
    "nonce": [4],
    "fee_asset": [1, NO_STRING],
}
POINTS = {"scope": [0, 1], "instrument": [0, 1], "tif": [0], "amends": [0]}
WRONG = [0, 2, 5, 7, 128, NO_STRING, MAX_AMOUNT, MAX_AMOUNT + 1, (1 << 64) - 1, -1, -128]
Table = npt.NDArray[np.void]


@st.composite
def tables(draw: st.DrawFn, most: int) -> tuple[Kind, Table]:
    """A table whose rows are right, or wrong in a column."""
    kind = draw(st.sampled_from(sorted(TABLES)))
    table = np.zeros(draw(st.integers(1, most)), TABLES[kind])
    names = table.dtype.names or ()
    for name in names:
        for row in range(len(table)):
            table[name][row] = draw(st.sampled_from((PLAUSIBLE | POINTS).get(name, [1, 4, 1, 0])))
    for name in draw(st.lists(st.sampled_from(names), max_size=1)):
        wrong = draw(st.sampled_from(WRONG)) & (1 << 64) - 1
        table[name][draw(st.integers(0, len(table) - 1))] = np.array(wrong, np.uint64).astype(table.dtype[name])
    return kind, table


def read(kind: Kind, table: Table) -> Body | str:
    """The body with this table, or why there is none."""
    packed = [(int(kind), memoryview(table.tobytes()))]
    wire = WireBody(STRINGS, SCOPES, INSTRUMENTS, packed, [], [], [Cursor("s", 0, 0)])
    try:
        return decode(encode(wire))
    except InvalidBatch as error:
        return str(error)


@pytest.mark.parametrize("kind", sorted(TABLES))
def test_it_is_refused_for_what_two_of_it_are_refused_for(kind: Kind) -> None:
    """Every value in every column of a row that is right otherwise, whether its ids are numbers or texts."""
    told = set()
    for flags, name, value in itertools.product((0, 1, 3), TABLES[kind].names or (), WRONG):
        table = np.zeros(1, TABLES[kind])
        for column in table.dtype.names or ():
            table[column] = flags if column == "flags" else (PLAUSIBLE | POINTS).get(column, [1])[0]
        table[name] = np.array(value & (1 << 64) - 1, np.uint64).astype(table.dtype[name])
        answers = [read(kind, np.repeat(table, count)) for count in (1, 2)]
        refusals = [answer if isinstance(answer, str) else "" for answer in answers]
        assert refusals[0] == refusals[1]
        told.add(refusals[0])
    assert "" in told
    assert len(told) > 1


@given(tables(1))
@settings(max_examples=500)
def test_it_has_the_identity_that_it_has_among_others(drawn: tuple[Kind, Table]) -> None:
    one, two = (read(drawn[0], np.repeat(drawn[1], count)) for count in (1, 2))
    if isinstance(one, str) or isinstance(two, str):
        return
    (kind,) = one.tables
    asked = [lambda body, column=column: reference_keys(body, kind, column) for column in REFERENCES.get(kind, {})]
    for keys in [*asked, *([lambda body: fact_keys(body, kind)] if kind is not Kind.MARK else [])]:
        alone, among = keys(one), keys(two)
        assert [half.dtype for half in alone] == [half.dtype for half in among]
        assert [half.tolist() * 2 for half in alone] == [half.tolist() for half in among]


@pytest.mark.parametrize("id", [0, 7, (1 << 64) - 1, "7", "x"])
def test_the_identity_of_one_id_is_that_of_its_row(id: int | str) -> None:
    table = np.zeros(2, TABLES[Kind.CANCEL])
    number = int(id) if str(id).isdigit() else 0
    table["id"], table["flags"] = number, number == 0 and id != 0
    body = Body((str(id),), (), (), {Kind.CANCEL: table}, (), (), (), ())
    assert key_of(Kind.CANCEL, id) == tuple(half.item(1) for half in fact_keys(body, Kind.CANCEL))


@given(tables(3))
@settings(max_examples=500)
def test_few_rows_are_bound_as_many_are(drawn: tuple[Kind, Table]) -> None:
    body = read(*drawn)
    if isinstance(body, str):
        return
    bound = []
    for few in (catalog.FEW, 0):
        fresh = Catalog(genesis(2), SettledState.empty(genesis(2)))
        with patch.object(catalog, "FEW", few):
            binding = fresh.bind(body)
        accounts = [fresh.account_names[number] if number >= 0 else None for number in binding.accounts.tolist()]
        bound.append((accounts, [column.tolist() for column in binding[1:]], [column.dtype for column in binding]))
    assert bound[0] == bound[1]
