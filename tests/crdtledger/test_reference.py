"""Values are exact, roundings are half-even, and the quick way gives what the slow way gives."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crdtledger.errors import BadInput
from crdtledger.ledger.facts import MAX_AMOUNT, Instrument
from crdtledger.ledger.genesis import Asset, Genesis
from crdtledger.ledger.reference import (
    MAX_VALUE,
    check_instrument,
    divide_half_even,
    fold_values,
    instrument_digest,
    instrument_fault,
    value_decimals,
    value_factor,
)
from crdtledger.ledger.wide import to_ints
from tests.crdtledger.worlds import INVERSE, SPOT, genesis

decimals = st.integers(0, 18)
sizes = st.one_of(st.integers(1, 1000), st.integers(1, MAX_AMOUNT), st.just(MAX_AMOUNT))
quantities = st.one_of(st.integers(1, 10**6), st.integers(1, MAX_AMOUNT), st.just(MAX_AMOUNT))
prices = st.one_of(
    st.integers(1, 10**6), st.integers(-MAX_AMOUNT, MAX_AMOUNT), st.sampled_from([-MAX_AMOUNT, 0, 1, MAX_AMOUNT])
)


def instrument(inverse: bool, price: int, qty: int, contract: int, size: int) -> Instrument:
    return Instrument(
        name="X",
        type="perp",
        base="X",
        quote="Y",
        settlement="S",
        price_decimals=price,
        qty_decimals=qty,
        inverse=inverse,
        contract_size=size,
        contract_decimals=contract,
    )


def cluster(asset: int) -> Genesis:
    return genesis(1, assets=(Asset("S", asset),))


def exact(definition: Instrument, asset: int, qty: int, price: int) -> Fraction:
    """The value in minor units, as the textbook has it."""
    contracts = Fraction(qty, 10**definition.qty_decimals) * Fraction(
        definition.contract_size, 10**definition.contract_decimals
    )
    at = Fraction(price, 10**definition.price_decimals)
    if definition.inverse:
        minor: int = 10**asset
        return contracts / at * minor
    scale: int = 10 ** (definition.price_decimals + definition.qty_decimals + definition.contract_decimals)
    return contracts * at * scale


@example(True, 0, 18, 18, 0, 1, [(1, -1), (5, 0)])  # a divisor beyond 64 bits, and no price that counts
@example(True, 18, 0, 0, 18, MAX_AMOUNT, [(MAX_AMOUNT, 1)])
@example(True, 0, 0, 0, 1, MAX_AMOUNT, [(1 << 61, 1)])  # between the greatest value and twice that
@example(True, 0, 1, 0, 0, 1, [(5, 3 << 59), (6, 1)])  # a divided price beyond 64 bits, under a small quantity
@example(True, 0, 0, 0, 0, 1, [(1, 2), (3, 2), (5, 2)])  # ties
@given(
    st.booleans(),
    *[decimals] * 4,
    sizes,
    st.lists(st.tuples(quantities, prices), min_size=1, max_size=8),
)
def test_every_value_is_the_textbook_value(
    inverse: bool, price: int, qty: int, contract: int, asset: int, size: int, fills: list[tuple[int, int]]
) -> None:
    definition, founded = instrument(inverse, price, qty, contract, size), cluster(asset)
    q, p = (np.array(column, np.int64) for column in zip(*fills, strict=True))
    values, valid = fold_values(definition, q, p, founded)
    factor = value_factor(definition)
    for one_qty, one_price, value, ok in zip(q.tolist(), p.tolist(), to_ints(values), valid.tolist(), strict=True):
        if inverse and one_price <= 0:
            assert not ok
            continue
        expected = round(exact(definition, asset, one_qty, one_price))  # Fraction rounds half to even
        assert ok == (not inverse or expected < MAX_VALUE)
        if ok:
            assert value * factor == expected
    assert value_decimals(definition, founded) == (asset if inverse else price + qty + contract)


@given(st.integers(0, 10**9), st.integers(1, 10**6))
def test_division_rounds_half_to_even_as_decimal_does(numerator: int, denominator: int) -> None:
    with localcontext(prec=60):
        expected = (Decimal(numerator) / Decimal(denominator)).quantize(Decimal(1), ROUND_HALF_EVEN)
    assert divide_half_even(numerator, denominator) == int(expected)


@given(st.integers(0, 10**6), st.integers(1, 10**3))
def test_a_tie_goes_to_the_even_neighbour(half: int, step: int) -> None:
    assert divide_half_even((2 * half + 1) * step, 2 * step) == half + half % 2


@given(
    decimals,
    decimals,
    decimals,
    decimals,
    st.integers(1, 100),
    st.lists(st.tuples(st.integers(1, 500), st.integers(1, 500)), min_size=1),
)
def test_the_quick_inverse_equals_the_slow_one_row_by_row(
    price: int, qty: int, contract: int, asset: int, size: int, fills: list[tuple[int, int]]
) -> None:
    definition, founded = instrument(True, price, qty, contract, size), cluster(asset)
    small = np.array(fills, np.int64)
    # One giant beside them pushes the whole column onto the slow way.
    mixed = np.concatenate((small, [[MAX_AMOUNT, MAX_AMOUNT]]))
    quick, quick_ok = fold_values(definition, small[:, 0], small[:, 1], founded)
    slow, slow_ok = fold_values(definition, mixed[:, 0], mixed[:, 1], founded)
    assert quick_ok.tolist() == slow_ok[:-1].tolist()
    assert to_ints(quick) == to_ints(slow)[:-1]


@pytest.mark.parametrize("field", ["price_decimals", "qty_decimals", "contract_decimals", "contract_size"])
def test_a_definition_with_numbers_out_of_range_cannot_stand(field: str) -> None:
    for number in (-1, 19 if field != "contract_size" else MAX_AMOUNT + 1):
        fault = instrument_fault(msgspec.structs.replace(INVERSE, **{field: number}))
        assert fault is not None
        assert fault.startswith(field)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": ""}, "name"),
        ({"name": "a b"}, "name"),
        ({"base": "x" * 65}, "base"),
        ({"settlement": "\n"}, "settlement"),
        ({"inverse": True}, "spot"),
        ({"contract_size": 2}, "spot"),
        ({"expiry_us": 5}, "expiry_us"),
        ({"type": "future"}, "expiry_us"),
        ({"type": "future", "expiry_us": -1}, "expiry_us"),
        ({"type": "option", "expiry_us": 1}, "strike"),
        ({"type": "option", "expiry_us": 1, "strike": 1}, "strike"),
        ({"type": "option", "expiry_us": 1, "strike": MAX_AMOUNT + 1, "option": "call"}, "strike"),
        ({"strike": 1}, "strike"),
    ],
)
def test_a_definition_that_contradicts_itself_cannot_stand(change: dict[str, object], says: str) -> None:
    fault = instrument_fault(msgspec.structs.replace(SPOT, **change))
    assert fault is not None
    assert fault.startswith(says) or says in fault


def test_a_settlement_asset_of_another_cluster_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match="'DOGE' is no asset of this cluster"):
        check_instrument(msgspec.structs.replace(INVERSE, settlement="DOGE"), genesis())


def test_the_digest_names_every_word_of_a_definition() -> None:
    other = msgspec.structs.replace(SPOT, qty_decimals=7)
    assert instrument_digest(SPOT) == instrument_digest(msgspec.structs.replace(SPOT))
    assert instrument_digest(SPOT) != instrument_digest(other)
