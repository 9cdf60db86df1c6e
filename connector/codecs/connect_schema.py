"""Kafka Connect's schemas: which values of a JSON payload stand for something that JSON has no type for.

Two kinds of value need a schema to be read: ``bytes`` (base64 text), and decimals in Debezium's ``precise`` mode
(``org.apache.kafka.connect.data.Decimal``: base64 of a big-endian two's complement integer, its scale a parameter of
the schema; ``io.debezium.data.VariableScaleDecimal``: an object of scale and value). Source: the Javadoc of Connect's
``Decimal`` and Debezium's documentation of ``decimal.handling.mode``.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable
from decimal import Context, Decimal
from typing import Any

import msgspec

from connector.errors import DecodeError

DECIMAL = "org.apache.kafka.connect.data.Decimal"
VARIABLE_SCALE_DECIMAL = "io.debezium.data.VariableScaleDecimal"

LEVELS_MAX = 32
"""How deep a schema may be nested."""
SCALE_MAX = 400
UNSCALED_BYTES_MAX = 256
"""Bytes of a decimal's integer: some 600 digits."""

Convert = Callable[[Any], Any]
"""A payload's value as what it stands for. Raises DecodeError. Never called for null."""


class Schema(msgspec.Struct, gc=False):
    """The part of a Connect schema that matters here."""

    type: str = ""
    name: str | None = None
    field: str | None = None
    fields: list[Schema] = []
    items: Schema | None = None
    values: Schema | None = None
    parameters: dict[str, str] | None = None


_decode_schema: Callable[[bytes], Schema | None] = msgspec.json.Decoder(Schema | None).decode


def read_schema(raw: bytes) -> Schema | None:
    """A schema as the JSON converter writes it; None for ``null``. Raises msgspec's errors."""
    return _decode_schema(raw)


def field_of(schema: Schema | None, name: str) -> Schema | None:
    """The schema of a struct's field."""
    return next((field for field in schema.fields if field.field == name), None) if schema is not None else None


def converter(schema: Schema | None, *, binary: bool, level: int = 0) -> Convert | None:
    """How to convert values of this schema; None where there is nothing to convert.

    Decimals always are; ``bytes`` only where ``binary`` (otherwise they stay base64 text). Raises DecodeError.
    """
    if schema is None:
        return None
    if level > LEVELS_MAX:
        raise DecodeError("nested_too_deep", f"the schema is nested deeper than {LEVELS_MAX} levels")
    if schema.name == DECIMAL:
        return _decimal_converter(schema)
    if schema.name == VARIABLE_SCALE_DECIMAL:
        return _variable_scale_decimal
    if schema.type == "bytes":
        return _binary if binary else None
    if schema.type == "struct":
        fields = {
            field.field: convert
            for field in schema.fields
            if field.field is not None and (convert := converter(field, binary=binary, level=level + 1)) is not None
        }
        return _struct_converter(fields) if fields else None
    inner = converter(schema.items or schema.values, binary=binary, level=level + 1)
    if inner is None:
        return None
    return _array_converter(inner) if schema.type == "array" else _map_converter(inner)


def _binary(value: Any) -> bytes:
    if type(value) is not str:
        raise _misfit()
    try:
        return a2b_base64(value, strict_mode=True)
    except (Base64Error, ValueError):
        raise DecodeError("base64", "a binary is not base64") from None


def _decimal_converter(schema: Schema) -> Convert:
    scale_text = (schema.parameters or {}).get("scale", "")
    if not scale_text.removeprefix("-").isdecimal() or len(scale_text) > 4:
        raise DecodeError("wrong_shape", "the schema of a decimal has no scale")
    scale = int(scale_text)
    return lambda value: _decimal(value, scale)


def _variable_scale_decimal(value: Any) -> Decimal:
    if type(value) is not dict or type(value.get("scale")) is not int:
        raise _misfit()
    return _decimal(value.get("value"), value["scale"])


_EXACT = Context(prec=1000)


def _decimal(value: Any, scale: int) -> Decimal:
    unscaled = _binary(value)
    if len(unscaled) > UNSCALED_BYTES_MAX or not -SCALE_MAX <= scale <= SCALE_MAX:
        raise DecodeError("number_digits", f"a decimal has more than {UNSCALED_BYTES_MAX} bytes of digits")
    return Decimal(int.from_bytes(unscaled, "big", signed=True)).scaleb(-scale, _EXACT)


def _struct_converter(fields: dict[str, Convert]) -> Convert:
    def convert_struct(value: Any) -> Any:
        if type(value) is not dict:
            raise _misfit()
        for name, convert in fields.items():
            inner = value.get(name)
            if inner is not None:
                value[name] = convert(inner)
        return value

    return convert_struct


def _array_converter(convert: Convert) -> Convert:
    def convert_array(value: Any) -> Any:
        if type(value) is not list:
            raise _misfit()
        return [None if element is None else convert(element) for element in value]

    return convert_array


def _map_converter(convert: Convert) -> Convert:
    def convert_map(value: Any) -> Any:
        if type(value) is not dict:  # a map whose keys are no strings comes as a list of pairs: left as it is
            return value
        return {name: None if inner is None else convert(inner) for name, inner in value.items()}

    return convert_map


def _misfit() -> DecodeError:
    return DecodeError("wrong_shape", "a value does not fit its schema")
