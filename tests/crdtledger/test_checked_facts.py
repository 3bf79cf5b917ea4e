"""A fill that holds at a glance would have held field by field; the others are refused, or not, as ever. And each kind of fact is read from
its JSON as any kind of fact is."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crdtledger.errors import LedgerError
from crdtledger.ledger import drafting, text
from crdtledger.ledger.drafting import check_fact
from crdtledger.ledger.facts import MAX_AMOUNT, MAX_NUMBER, MAX_TEXT, Fact, Fill

FILL = Fill(venue="v", trade_id=7, instrument="I", account="A", side="buy", qty=1, price=1)
TEXTS: tuple[Any, ...] = ("", "a", "7", "x" * MAX_TEXT, "x" * (MAX_TEXT + 1), "é", "\n", "\x7f", "\ud800", 3, None)
NUMBERS: tuple[Any, ...] = (
    0,
    1,
    -1,
    MAX_AMOUNT,
    MAX_AMOUNT + 1,
    -MAX_AMOUNT,
    -MAX_AMOUNT - 1,
    MAX_NUMBER,
    MAX_NUMBER + 1,
    True,
    "1",
    1.0,
)
ODD: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("venue", "instrument", "account", "id_space", "leg", "fee_asset"), TEXTS),
    **dict.fromkeys(("qty", "price", "fee", "ts_us"), (*NUMBERS, np.int64(1))),
    "trade_id": (*TEXTS, *NUMBERS),
    "side": ("sell", "", "SELL", 1),
}


def told(fact: Fact) -> str:
    """What is wrong with it, or nothing."""
    try:
        check_fact(fact)
    except LedgerError as error:
        return f"{type(error).__name__}: {error}"
    return ""


@given(st.lists(st.sampled_from([(field, value) for field, values in ODD.items() for value in values]), max_size=2))
@settings(max_examples=500)
@example([])
def test_a_fill_is_checked_at_a_glance_as_it_is_field_by_field(changes: list[tuple[str, Any]]) -> None:
    fill = msgspec.structs.replace(FILL, **dict(changes))
    with patch.object(drafting, "_is_plain", lambda fill: False):
        slowly = told(fill)
    assert told(fill) == slowly
    assert changes or drafting._is_plain(fill)


@pytest.mark.parametrize("field", [*ODD, "unknown"])
def test_a_fact_of_known_kind_is_read_as_one_of_any_kind(field: str) -> None:
    plain = msgspec.structs.asdict(FILL) | {"kind": "fill"}
    for value in ODD.get(field, [1]):
        answers = []
        for wanted in (Fact, text._TYPES["fill"]):
            try:
                answers.append(msgspec.convert(plain | {field: value}, type=wanted))
            except msgspec.ValidationError as error:
                answers.append(str(error))
        assert answers[0] == answers[1]
