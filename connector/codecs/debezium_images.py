"""How Debezium's ``before`` and ``after`` are read: plain JSON, or JSON that a Connect schema explains."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from connector.change import EventName, Record
from connector.codecs.connect_schema import Convert, Schema, converter, field_of
from connector.codecs.json_reading import read_exact_object
from connector.documents import Numbers
from connector.errors import DecodeError, DocumentError

LEVELS_MAX = 64
"""How deep an image may be nested to become a document."""

UNAVAILABLE = "__debezium_unavailable_value"
"""What Debezium writes for a column that the database did not log (PostgreSQL's unchanged TOAST values)."""

EVENT_NAMES = {"c": EventName.INSERT, "r": EventName.INSERT, "u": EventName.MODIFY, "d": EventName.REMOVE}
"""By ``op``. A row that a snapshot reads (``r``) is new to whoever follows."""

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1


class DebeziumImages:
    """Images of one schema, or of none. Each method raises DecodeError for an image that is not one."""

    def __init__(self, schema: Schema | None) -> None:
        row = field_of(schema, "after") or field_of(schema, "before")
        self._to_plain = converter(row, binary=False)
        self._to_values = converter(row, binary=True)

    def matchable(self, image: bytes) -> dict[str, Any]:
        """The row as a plain object; numbers exact (int, Decimal), binary as base64."""
        return _converted(read_exact_object(image), self._to_plain)

    def values(self, image: bytes) -> dict[str, Any]:
        """The row as Python values: numbers exact, and bytes where a schema says so."""
        return _converted(read_exact_object(image), self._to_values)

    def document(self, image: bytes, numbers: Numbers) -> dict[str, Any]:
        """The row as a JSON-ready document.

        Raises DocumentError: ``number_not_exact`` where ``numbers`` is ``REJECT``; ``value_unavailable`` where the
        database did not log a column, since a document without it would silently lose what the target holds.
        """
        row = self.matchable(image)
        for name, value in row.items():
            row[name] = _document(value, numbers, 0)
        return row

    def envelope(self, record: Record, index: int) -> dict[str, Any]:
        """The payload, with ``eventName`` added, and with both images as ``matchable`` gives them."""
        whole = read_exact_object(record.value or b"")
        payload = whole.get("payload", whole)
        if type(payload) is not dict:
            raise DecodeError("wrong_shape", "the payload is not an object")
        for name in ("before", "after"):
            if payload.get(name) is not None and self._to_plain is not None:
                payload[name] = self._to_plain(payload[name])
        op = payload.get("op")
        return payload | {"eventName": str(EVENT_NAMES[op])} if op in EVENT_NAMES else payload


def _converted(row: dict[str, Any], convert: Convert | None) -> dict[str, Any]:
    return row if convert is None else convert(row)


def _document(value: Any, numbers: Numbers, level: int) -> Any:
    kind = type(value)
    if kind is str:
        if value == UNAVAILABLE:
            raise DocumentError("value_unavailable", "the database did not log a column's unchanged value")
        return value
    if kind is int or kind is Decimal:
        return _document_number(value, numbers)
    if kind is dict or kind is list:
        if level >= LEVELS_MAX:
            raise DecodeError("nested_too_deep", f"an image is nested deeper than {LEVELS_MAX} levels")
        if kind is dict:
            return {name: _document(inner, numbers, level + 1) for name, inner in value.items()}
        return [_document(inner, numbers, level + 1) for inner in value]
    return value


def _document_number(number: int | Decimal, numbers: Numbers) -> Any:
    if type(number) is int and _INT64_MIN <= number <= _INT64_MAX:
        return number
    exact = Decimal(number)
    try:
        double = float(exact)
    except OverflowError:
        double = float("inf")
    if Decimal(repr(double)) == exact:
        return double
    if numbers is Numbers.REJECT:
        raise DocumentError("number_not_exact", "a number has more digits than a 64-bit integer or a double can hold")
    return exact if numbers is Numbers.NUMBER else str(exact)


PLAIN_IMAGES = DebeziumImages(None)
"""The one that all changes without a schema share."""
