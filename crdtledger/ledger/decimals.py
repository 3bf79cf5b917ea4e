"""Decimal text to integer minor units, exactly.

The rules:

1. Accepted: an optional sign (where signs are allowed), ASCII digits with an optional point, an optional exponent
   (``1e-7`` is how JSON writers print small numbers). At least one digit.
2. The result is the number times ``10 ** decimals`` and nothing else. Digits beyond ``decimals`` must be zeros;
   otherwise the text is refused and the reason says how many decimals it needs.
3. Refused: NaN, infinities, hexadecimal, underscores, digit grouping, digits of other scripts, blanks anywhere, the
   empty text, and magnitudes over ``LIMIT``.

No float is involved, and no ``decimal.Decimal``: its context can round silently. Equality with Decimal arithmetic is
a property test.
"""

from __future__ import annotations

import re
from typing import Final

LIMIT: Final = 1 << 62
"""Largest magnitude, in minor units. Two of them still add up inside a signed 64-bit integer."""

MAX_CHARACTERS: Final = 128
"""Longest text looked at. Real amounts have fewer than 40 characters; the bound keeps hostile ones cheap."""

_CACHED: Final = 1 << 16
_LIMIT_DIGITS: Final = len(str(LIMIT))
_TEN_TO: Final[tuple[int, ...]] = tuple(int("1" + "0" * n) for n in range(_LIMIT_DIGITS + 1))
_NUMBER: Final = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]{1,6}))?")


class InexactError(ValueError):
    """The text is not a number that the given decimals can hold exactly. The message is the reason."""


def to_minor(text: str, decimals: int, *, signed: bool = False) -> int:
    """The number in ``text`` as an integer count of ``10 ** -decimals``.

    ``signed``: whether a sign may stand in front. Raises ``InexactError`` with the reason, and nothing else.
    """
    whole, _, fraction = text.partition(".")
    if len(fraction) > decimals:
        fraction = fraction.rstrip("0")
    digits = whole + fraction
    # The common shape, without a sign and an exponent; everything else takes the careful way below.
    if digits.isdigit() and digits.isascii() and len(digits) <= 18 and len(fraction) <= decimals <= 18:
        amount = int(digits) * _TEN_TO[decimals - len(fraction)]
        if amount <= LIMIT:
            return amount
    return _to_minor_carefully(text, decimals, signed)


def _to_minor_carefully(text: str, decimals: int, signed: bool) -> int:
    if len(text) > MAX_CHARACTERS:
        raise InexactError(f"a number of {len(text)} characters; at most {MAX_CHARACTERS} are read")
    if not text:
        raise InexactError("empty")
    match = _NUMBER.fullmatch(text)
    sign, whole, fraction, exponent = match.groups("") if match else ("", "", "", "")
    if not whole + fraction:
        raise InexactError("not a decimal number")
    if sign and not signed:
        raise InexactError("a sign is not allowed here")
    digits = (whole + fraction).lstrip("0")
    power = int(exponent or "0") - len(fraction)
    significant = digits.rstrip("0")
    if not significant:
        return 0
    power += len(digits) - len(significant)
    if power + decimals < 0:
        raise InexactError(f"needs {-power} decimals, instrument has {decimals}")
    # Compared by length first: an exponent of six digits must not build a number of a million.
    if len(significant) + power + decimals > _LIMIT_DIGITS:
        raise InexactError("out of range")
    amount = int(significant) * _TEN_TO[power + decimals]
    if amount > LIMIT:
        raise InexactError("out of range")
    return -amount if sign == "-" else amount


class MinorUnits(dict[str, int]):
    """``to_minor`` for one number of decimals, remembering what it has seen: prices and sizes repeat.

    Look a text up with ``units[text]``; raises ``InexactError``. Refused texts are not remembered; the memory is
    emptied when it is full, so it stays bounded whatever the file.
    """

    def __init__(self, decimals: int, *, signed: bool = False) -> None:
        super().__init__()
        self.decimals = decimals
        self.signed = signed

    def __missing__(self, text: str) -> int:
        amount = to_minor(text, self.decimals, signed=self.signed)
        if len(self) >= _CACHED:
            self.clear()
        self[text] = amount
        return amount
