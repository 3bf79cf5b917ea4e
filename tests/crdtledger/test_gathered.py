"""What is gathered of several bodies says of each row whose account it is, in which instrument."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.ledger.body import Body, Scope
from crdtledger.ledger.catalog import Binding
from crdtledger.ledger.facts import TABLES, Kind
from crdtledger.ledger.gathered import gather

ACCOUNTS = [np.array(numbers) for numbers in ([3, 1, 4], [5, 9, 2], [3, 1, 4], [7])]
"""Some bindings share one of these."""
drawn = st.tuples(
    st.integers(0, len(ACCOUNTS) - 1),
    st.lists(st.integers(0, 2), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.booleans()), min_size=1, max_size=5),
)


@given(st.lists(drawn, min_size=1, max_size=8))
def test_every_row_that_counts_points_at_its_account_and_instrument(
    told: list[tuple[int, list[int], list[tuple[int, int, bool]]]],
) -> None:
    bodies, bindings, expected = [], [], list[tuple[int, int] | None]()
    for which, scopes, rows in told:
        accounts, table = ACCOUNTS[which], np.zeros(len(rows), TABLES[Kind.FILL])
        for row, (account, scope, counts) in enumerate(rows):
            table["account"][row], table["scope"][row] = account % len(accounts), scope % len(scopes)
            cell = (scopes[scope % len(scopes)], int(accounts[account % len(accounts)]))
            expected.append(cell if counts else None)
        named = tuple(Scope("v", "", "", at) for at in range(len(scopes)))
        strings = tuple(f"A{at}" for at in range(len(accounts)))
        bodies.append(Body(strings, named, (), {Kind.FILL: table}, (), (), (), ()))
        bindings.append(Binding(accounts, accounts, np.array(scopes), np.array(scopes)))
    gathered = gather(Kind.FILL, bodies, bindings, np.array([cell is not None for cell in expected]))
    cells = [(page.instrument, int(account)) for page in gathered.pages for account in page.accounts]
    assert [cells[at] if at < len(cells) else None for at in gathered.places.tolist()] == expected
