"""What a user may write for ``type: aggregate``."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema, field_validator, model_validator

from connector.config.units import Duration, Secret
from connector.errors import ConfigError
from connector.filters import Pattern, parse_pattern
from connector.templates import compile_template

SQLITE = "sqlite:///"
PATTERNS_MAX = 100
_NAME = r"[a-z_][a-z0-9_]{0,40}"
_MODEL = ConfigDict(
    extra="forbid",
    frozen=True,
    hide_input_in_errors=True,
    use_attribute_docstrings=True,
    arbitrary_types_allowed=True,
)
RESERVED = frozenset({"group_id", "items"})
"""Columns that the sink itself adds to the table."""


class Kind(enum.StrEnum):
    """What a measure says of the items of a group."""

    COUNT = "count"
    SUM = "sum"
    MIN = "min"
    MAX = "max"
    AVERAGE = "average"
    DISTINCT = "distinct"


class Missing(enum.StrEnum):
    """What becomes of an item that lacks the attribute that a measure is taken of."""

    REJECT = "reject"
    SKIP = "skip"
    ZERO = "zero"


class ItemPatterns(NamedTuple):
    """Patterns on an item of which one must match, as they were written and parsed."""

    text: str
    """As JSON with sorted names: equal patterns are equal texts."""
    parsed: tuple[Pattern, ...]


def _parse_patterns(raw: Any) -> ItemPatterns:
    listed = raw if isinstance(raw, list) else [raw]
    if not 0 < len(listed) <= PATTERNS_MAX:
        raise ValueError(f"must be a pattern, or a list of 1 to {PATTERNS_MAX} patterns")
    try:
        parsed = tuple(parse_pattern(one) for one in listed)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return ItemPatterns(json.dumps(raw, sort_keys=True, default=str), parsed)


_PATTERN_SCHEMA: dict[str, Any] = {"type": "object", "minProperties": 1}
Where = Annotated[
    ItemPatterns,
    PlainValidator(_parse_patterns),
    WithJsonSchema(
        {
            "anyOf": [
                _PATTERN_SCHEMA,
                {"type": "array", "items": _PATTERN_SCHEMA, "minItems": 1, "maxItems": PATTERNS_MAX},
            ]
        }
    ),
]


class MeasureConfig(BaseModel):
    """One number that is kept of each group's items."""

    model_config = _MODEL

    kind: Kind
    """``count`` items, take the ``sum``, ``min``, ``max`` or ``average`` of a number, or count ``distinct`` values."""
    of: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """Of what. A number's attribute, like ``total`` or ``payment.amount``; for ``distinct`` a template, like
    ``{customer}``; ``count`` takes none."""
    where: Where | None = None
    """Which items count here: a pattern on the item, or a list of which one must match; unset: all of the group."""
    missing: Missing = Missing.REJECT
    """What becomes of an item without the attribute: its change is a dead letter, the item does not count here
    (``skip``), or counts as 0 (``zero``). A value that is there but is no number is always a dead letter."""

    @model_validator(mode="after")
    def _check_whole(self) -> MeasureConfig:
        if self.kind is Kind.COUNT:
            if self.of is not None or "missing" in self.model_fields_set:
                raise ValueError("'count' counts items: it takes neither 'of' nor 'missing'")
            return self
        if self.of is None:
            raise ValueError(f"'of' must say of what the {self.kind.value} is taken")
        if self.kind is Kind.DISTINCT:
            if self.missing is Missing.ZERO:
                raise ValueError("'distinct' counts values: one that is missing is skipped or rejected")
            if not _template(self.of).attributes:
                raise ValueError("for 'distinct', 'of' is a template that names an attribute, like {customer}")
        elif any(brace in self.of for brace in "{}") or not all(self.of.split(".")):
            raise ValueError("'of' names a number's attribute, without braces: total, or payment.amount")
        return self

    def columns(self, name: str) -> tuple[str, ...]:
        """The columns of the table in which the measure is kept."""
        return (name, f"{name}_sum", f"{name}_count") if self.kind is Kind.AVERAGE else (name,)


def _template(text: str) -> Any:
    try:
        return compile_template(text)
    except ConfigError as error:
        raise ValueError(error.message) from None


Column = Annotated[str, Field(pattern=rf"^{_NAME}$")]


class AggregateSinkConfig(BaseModel):
    """Counts, sums, extremes, averages and distinct counts of the items as they are now, one row a group."""

    model_config = _MODEL

    url: Secret
    """``sqlite:///totals.db`` (relative), ``sqlite:////var/lib/totals.db`` (absolute) or ``postgresql://…``."""
    table: Annotated[str, Field(pattern=rf"^({_NAME}\.)?{_NAME}$", examples=["orders_by_status", "reports.orders"])]
    """The table to read: one row a group. In PostgreSQL its name may begin with a schema's. Tables of the same name
    with ``_items``, ``_values`` and ``_definition`` behind it are the sink's own."""
    group_by: Annotated[dict[str, str], Field(max_length=16)] = {}
    """The columns that make a group, each with a template of the item, like ``status: "{status}"``; without any
    there is one row for all items."""
    measures: Annotated[dict[Column, MeasureConfig], Field(min_length=1, max_length=64)]
    """The columns that hold numbers, each with what it says of the group's items."""
    create: bool = True
    """Whether tables that are missing are made. They begin empty: have the source read from the start, or by a
    snapshot, to fill them."""
    tombstones: Annotated[Duration, Field(ge=60)] = 7 * 86_400.0
    """How long a removed item's version is remembered, so that no older change brings it back: longer than a replay
    may reach back."""
    timeout: Annotated[Duration, Field(ge=0.1, le=600)] = 30.0
    """How long connecting, a lock, or the writing of one batch may take before the database counts as down."""
    synchronous: Literal["full", "normal"] = "full"
    """SQLite only. ``normal`` does not wait for the disk: a power cut may lose the last batches though their positions
    were saved."""

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: Secret) -> Secret:
        # The messages never repeat the URL: it may hold a password.
        text = url.get_secret_value()
        if text.startswith(SQLITE):
            if text == SQLITE or "?" in text or "\0" in text:
                raise ValueError("after sqlite:/// comes the path of a file, and no '?' options")
            return url
        if urlsplit(text).scheme not in ("postgresql", "postgres"):
            raise ValueError("the URL must begin with sqlite:/// or postgresql://")
        try:
            conninfo_to_dict(text)
        except ProgrammingError:
            raise ValueError("the URL cannot be read; percent-encode what is special in user and password") from None
        return url

    @field_validator("group_by")
    @classmethod
    def _check_templates(cls, group_by: dict[str, str]) -> dict[str, str]:
        for column, text in group_by.items():
            if not re.fullmatch(_NAME, column):
                raise ValueError(f"{column!r} is no column's name: lower case letters, digits and _, at most 41")
            _template(text)
        return group_by

    @model_validator(mode="after")
    def _check_whole(self) -> AggregateSinkConfig:
        if self.sqlite_path is None and "synchronous" in self.model_fields_set:
            raise ValueError("'synchronous' belongs to SQLite; PostgreSQL has synchronous_commit")
        if self.sqlite_path is not None and "." in self.table:
            raise ValueError("a table in SQLite has no schema before its name")
        seen = set(RESERVED)
        for column in self._columns():
            if column in seen:
                raise ValueError(f"the column {column!r} would be there twice")
            seen.add(column)
        return self

    def _columns(self) -> Iterator[str]:
        yield from self.group_by
        for name, measure in self.measures.items():
            yield from measure.columns(name)

    @property
    def sqlite_path(self) -> str | None:
        """The file, where the URL names one."""
        text = self.url.get_secret_value()
        return text.removeprefix(SQLITE) if text.startswith(SQLITE) else None
