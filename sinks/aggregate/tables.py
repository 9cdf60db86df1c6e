"""The names of tables and columns, and whose the tables are."""

from __future__ import annotations

import json

from connector.errors import ConfigError
from sinks.aggregate.config import Kind
from sinks.aggregate.store import Measure, Schema


def quoted(name: str) -> str:
    """A name, which may begin with a schema's, as an SQL identifier: a column may be called ``order`` or ``user``."""
    return ".".join(f'"{part}"' for part in name.split("."))


def group_columns(measure: Measure) -> list[tuple[str, bool]]:
    """The columns in which a group's measure is kept, and of each whether it holds a 64-bit whole number."""
    name = measure.name
    if measure.kind is Kind.AVERAGE:
        return [(name, False), (f"{name}_sum", False), (f"{name}_count", True)]
    return [(name, measure.kind in (Kind.COUNT, Kind.DISTINCT))]


def item_column(measure: Measure) -> str:
    """The column that holds what an item adds to a measure; the prefix keeps it apart from ``key`` and the like."""
    return quoted(f"m_{measure.name}")


def check_definition(schema: Schema, held: str | None) -> None:
    """Compare what the table's numbers mean with what they would be taken to mean. Raises ConfigError."""
    if held == schema.definition:
        return
    if held is None:
        raise ConfigError(f"{schema.table}_definition is empty: the tables were not made by this sink", path=("table",))
    theirs, ours = json.loads(held), json.loads(schema.definition)
    owner = tuple(theirs.get(name) for name in ("pipeline", "route"))
    if owner != (ours["pipeline"], ours["route"]):
        raise ConfigError(
            f"the table {schema.table} belongs to pipeline {owner[0]!r}, route {owner[1]!r}; "
            "take another table, or drop this one and have it filled again",
            path=("table",),
        )
    raise ConfigError(
        f"the numbers in {schema.table} were made with other groups or measures, and cannot be read as these; "
        "take another table, or drop this one and have it filled again from the source's start or a snapshot",
        path=("table",),
    )
