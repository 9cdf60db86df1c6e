"""Exact numbers: sums that never round, and a text of a number that sorts as the number does."""

from __future__ import annotations

from decimal import Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow

MAGNITUDE_MAX = 1000
"""A number may have as many digits before the point, and as many behind it. DynamoDB's have 126 and 130."""
AVERAGE_DIGITS = 38
"""Significant digits of an average, which alone is rounded (its sum and its count are exact beside it)."""

# Room for MAGNITUDE_MAX digits on both sides of the point, and for more numbers than there are. What would not be
# exact all the same raises.
_EXACT = Context(prec=3 * MAGNITUDE_MAX, traps=[Inexact, InvalidOperation, Overflow, DivisionByZero])
_ROUNDED = Context(prec=AVERAGE_DIGITS, traps=[InvalidOperation, Overflow, DivisionByZero])

ZERO = Decimal(0)

_EXPONENT_SHIFT = 5000
_COMPLEMENT = str.maketrans("0123456789", "9876543210")
_AFTER_DIGITS = "~"
"""Sorts behind every digit: of two negative numbers the one with more digits is the smaller one."""


def add(one: Decimal, other: Decimal) -> Decimal:
    """The exact sum."""
    return _EXACT.add(one, other)


def subtract(one: Decimal, other: Decimal) -> Decimal:
    """The exact difference."""
    return _EXACT.subtract(one, other)


def average(total: Decimal, count: int) -> Decimal | None:
    """The quotient to AVERAGE_DIGITS digits; None where there is nothing to take an average of."""
    return _ROUNDED.divide(total, Decimal(count)) if count else None


def is_in_range(number: Decimal) -> bool:
    """Whether a finite number keeps to MAGNITUDE_MAX."""
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int), "a finite number"
    return exponent >= -MAGNITUDE_MAX and number.adjusted() < MAGNITUDE_MAX


def sortable(number: Decimal) -> str:
    """A text that sorts, byte by byte, as the number does among numbers. SQLite has no exact decimals to sort by."""
    if not number:
        return "1"
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int), "a finite number"
    magnitude = f"{number.adjusted() + _EXPONENT_SHIFT:04d}" + "".join(map(str, digits)).rstrip("0")
    return f"0{magnitude.translate(_COMPLEMENT)}{_AFTER_DIGITS}" if sign else f"2{magnitude}"


def from_sortable(text: str) -> Decimal:
    """The number that ``sortable`` wrote."""
    if text == "1":
        return ZERO
    magnitude = text[1:] if text[0] == "2" else text[1:-1].translate(_COMPLEMENT)
    digits = magnitude[4:]
    exponent = int(magnitude[:4]) - _EXPONENT_SHIFT - (len(digits) - 1)
    return Decimal((int(text[0] == "0"), tuple(map(int, digits)), exponent))
