"""Durations and sizes as people write them: ``200ms``, ``6h``, ``5MiB``; and secrets that never print themselves.

Sinks and sources use these types in their configuration models:
``timeout: Duration = 10.0`` is written ``timeout: 10s`` and read as 10.0 (seconds);
``bytes: Size = 5 * MIB`` is written ``bytes: 5MiB`` and read as 5242880.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo, WithJsonSchema
from pydantic.fields import FieldInfo

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE_UNITS = {"B": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3, "KiB": KIB, "MiB": MIB, "GiB": GIB}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(B|kB|MB|GB|KiB|MiB|GiB)")


def parse_duration(value: Any) -> Any:
    """``"1h30m"`` → 5400.0 seconds. Numbers pass (they are seconds already, from code); bare digits do not."""
    if isinstance(value, bool) or not isinstance(value, str):
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        raise ValueError("a duration is written as a number with a unit, like 200ms, 30s or 1h30m")
    parts = _DURATION.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        raise ValueError(f"{value!r} is not a duration: write a number with a unit, like 200ms, 30s or 1h30m")
    return sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts)


def _duration(value: Any, info: ValidationInfo) -> Any:
    """As ``parse_duration``; in a configuration file (not in code) a number without a unit is refused, but for 0."""
    written = isinstance(info.context, dict) and info.context.get("written", False)
    if written and value != 0 and isinstance(value, int | float):
        raise ValueError("a duration is written as a number with a unit, like 200ms, 30s or 1h30m")
    return parse_duration(value)


def parse_size(value: Any) -> Any:
    """``"5MiB"`` → 5242880. Whole numbers pass (they are bytes already)."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a size: write a number with a unit, like 512KiB or 5MiB")
    return int(float(match[1]) * _SIZE_UNITS[match[2]])


DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$"
DURATION_MAX_S = 10 * 365 * 86400

Duration = Annotated[
    float,
    BeforeValidator(_duration),
    Field(ge=0, le=DURATION_MAX_S),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "pattern": DURATION_PATTERN}, {"const": 0}],
            "description": "a duration",
            "examples": ["30s"],
        }
    ),
]
"""Seconds as a float; written with a unit."""

SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)? ?(B|kB|MB|GB|KiB|MiB|GiB)$"

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    Field(ge=1),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": SIZE_PATTERN},
                {"type": "integer", "minimum": 1},
            ],
            "description": "a size in bytes",
            "examples": ["5MiB"],
        }
    ),
]
"""Bytes as an int; written with a unit."""


def write_duration(seconds: float) -> str:
    """``5400.0`` → ``"90m"``: with the largest unit that holds it exactly; less than a microsecond is not written."""
    milliseconds = round(seconds * 1000, 3)
    if milliseconds == 0:
        return "0s"
    for unit, length in reversed(_DURATION_UNITS.items()):
        if (count := milliseconds / (length * 1000)).is_integer():
            return f"{count:.0f}{unit}"
    return f"{milliseconds:.3f}ms"


def write_size(count: int) -> str:
    """``5242880`` → ``"5MiB"``: with the largest unit that holds it exactly."""
    for unit, length in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if count >= length and count % length == 0:
            return f"{count // length}{unit}"
    return f"{count}B"


def write_value(field: FieldInfo, value: Any) -> Any:
    """An option's value as it is written in a file: durations and sizes with their units, anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    validators = {getattr(mark, "func", None) for mark in (*field.metadata, *_marks(field.annotation))}
    if _duration in validators:
        return write_duration(value)
    return write_size(int(value)) if parse_size in validators else value


def _marks(annotation: Any) -> Iterator[Any]:
    """What ``Annotated`` says anywhere inside an annotation, such as of the Duration in ``Duration | None``."""
    yield from getattr(annotation, "__metadata__", ())
    for argument in get_args(annotation):
        yield from _marks(argument)


Secret = SecretStr
"""A value that is never printed; ``.get_secret_value()`` where it is used."""
