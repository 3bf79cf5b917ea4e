"""Decimal text becomes minor units exactly, or is refused with the reason; times likewise."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, localcontext

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crdtledger.edge.importers.timestamps import NoTimeError, text_to_us, to_us
from crdtledger.ledger.decimals import LIMIT, InexactError, MinorUnits, to_minor

PLAIN = st.from_regex(r"[+-]?[0-9]{0,25}(\.[0-9]{0,25})?([eE][+-]?[0-9]{1,2})?", fullmatch=True)


def by_decimal(text: str, decimals: int, signed: bool) -> int | None:
    """What Decimal arithmetic says: the amount, or None if it is not exact, not allowed or out of range."""
    if not any(c.isdigit() for c in text.lower().partition("e")[0]) or (text[0] in "+-" and not signed):
        return None
    with localcontext() as context:
        context.prec = 400
        scaled = Decimal(text).scaleb(decimals)
        return int(scaled) if scaled == scaled.to_integral_value() and abs(scaled) <= LIMIT else None


@given(PLAIN, st.integers(0, 18), st.booleans())
@example("1e-7", 7, False)
@example("61800.30000000", 1, False)
@example("4611686018427387904", 0, False)
@example("4611686018427387905", 0, False)
@example("-0", 2, True)
@example(".5", 1, False)
@example("5.", 0, False)
def test_minor_units_equal_decimal_arithmetic(text: str, decimals: int, signed: bool) -> None:
    try:
        amount: int | None = to_minor(text, decimals, signed=signed)
    except InexactError:
        amount = None
    assert amount == by_decimal(text, decimals, signed)


@given(st.text(max_size=30), st.integers(0, 18))
def test_no_text_raises_anything_but_its_refusal(text: str, decimals: int) -> None:
    with contextlib.suppress(InexactError):
        assert to_minor(text, decimals, signed=True) == by_decimal(text, decimals, True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("1.23456", "needs 5 decimals, instrument has 3"),
        ("1e-9", "needs 9 decimals, instrument has 3"),
        ("-1", "a sign is not allowed here"),
        ("1e99999", "out of range"),
        ("9" * 60, "out of range"),
        ("1" * 200, "a number of 200 characters; at most 128 are read"),
        *(
            (text, "not a decimal number")
            for text in ("NaN", "inf", "0x1F", "1_000", "1,5", " 1", "1 ", "١", "²", ".", "e5")
        ),
    ],
)
def test_the_reason_says_what_is_wrong_with_a_number(text: str, reason: str) -> None:
    with pytest.raises(InexactError) as raised:
        to_minor(text, 3)
    assert str(raised.value) == reason


@given(st.lists(st.sampled_from(["1.5", "2", "x", "0.25", "1.50"]), max_size=20))
def test_remembered_numbers_are_the_numbers(texts: list[str]) -> None:
    units = MinorUnits(2)
    for text in texts:
        if text == "x":
            with pytest.raises(InexactError):
                units[text]
        else:
            assert units[text] == to_minor(text, 2)


@given(st.integers(10**14, 10**17 - 1))
def test_the_unit_of_a_timestamp_shows_in_its_magnitude(us: int) -> None:
    assert to_us(us) == us
    assert to_us(us // 1000) == us // 1000 * 1000
    assert text_to_us(str(us * 1000), "auto") == us == text_to_us(str(us), "us")
    assert text_to_us(str(us // 10**6), "auto") == us // 10**6 * 10**6
    assert text_to_us(f"{us // 1000}.{us % 1000:03d}", "auto") == us


@given(
    st.datetimes(datetime(1973, 1, 1), datetime(9000, 1, 1)),
    st.integers(-14 * 60, 14 * 60),
    st.sampled_from("T "),
)
def test_iso_times_equal_the_calendar(moment: datetime, offset: int, between: str) -> None:
    moment = moment.replace(tzinfo=timezone(timedelta(minutes=offset)), year=min(moment.year, 5000))
    us = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert text_to_us(moment.isoformat(sep=between), "iso") == us


@pytest.mark.parametrize(
    "text",
    ["", "now", "2024-02-30T00:00:00Z", "2024-01-01", "1969-12-31T00:00:00Z", "-5", "1e12", "2024-01-01T25:00:00"],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(NoTimeError):
        text_to_us(text, "auto")


@given(st.integers())
def test_numbers_outside_any_unit_are_refused(value: int) -> None:
    if not 10**11 <= value < 10**17:
        with pytest.raises(NoTimeError):
            to_us(value)
