"""A body's names are what they are by themselves, whichever other bodies share its dictionary."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.ledger import catalog
from crdtledger.ledger.body import Body
from crdtledger.ledger.catalog import UNKNOWN_ASSET, Catalog
from crdtledger.ledger.facts import NO_STRING, TABLES, Kind
from crdtledger.ledger.settled import SettledState
from tests.crdtledger.worlds import genesis

FOUNDED = genesis(2)
ASSETS = [asset.name for asset in FOUNDED.assets]
dictionaries = st.sampled_from([("v", "A", ASSETS[0]), ("v", "A", "B", ASSETS[0], "nothing"), ("A", "v"), ("A",)])


@st.composite
def bodies(draw: st.DrawFn) -> Body:
    """Fills of accounts, fees in assets, by a dictionary that others have too."""
    strings = draw(dictionaries)
    table = np.zeros(draw(st.integers(1, 4)), TABLES[Kind.FILL])
    places = st.integers(0, len(strings) - 1)
    for row in range(len(table)):
        table["account"][row] = draw(places)
        table["fee_asset"][row] = draw(st.one_of(st.just(NO_STRING), places))
    return Body(strings, (), (), {Kind.FILL: table}, (), (), (), ())


@given(st.lists(bodies(), max_size=12), st.sampled_from([1, 6, catalog.TEXTS_BOUND]), st.sampled_from([0, catalog.FEW]))
def test_names_are_bound_as_if_every_dictionary_were_its_own(told: list[Body], bound: int, few: int) -> None:
    names = Catalog(FOUNDED, SettledState.empty(FOUNDED))
    with patch.object(catalog, "TEXTS_BOUND", bound), patch.object(catalog, "FEW", few):
        bindings = [names.bind(body) for body in told]
    used = dict[str, None]()
    for body, binding in zip(told, bindings, strict=True):
        for index in dict.fromkeys(body.tables[Kind.FILL]["account"].tolist()):
            used[body.strings[index]] = None
            assert names.account_names[binding.accounts[index]] == body.strings[index]
        named = {*body.tables[Kind.FILL]["fee_asset"].tolist()}
        for index, text in enumerate(body.strings):
            known = ASSETS.index(text) if index in named and text in ASSETS else UNKNOWN_ASSET
            assert binding.assets[index] == known
    assert sorted(names.account_names) == sorted(used)


def test_batches_with_one_dictionary_share_what_it_means() -> None:
    table = np.zeros(catalog.FEW + 1, TABLES[Kind.FILL])
    table["fee_asset"] = NO_STRING
    names = Catalog(FOUNDED, SettledState.empty(FOUNDED))
    first, second = (names.bind(Body(("A", "v"), (), (), {Kind.FILL: table}, (), (), (), ())) for _ in range(2))
    assert first.accounts is second.accounts
    assert np.shares_memory(first.assets, second.assets)
