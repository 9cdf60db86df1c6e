"""A hostile record, and what must become of it on each kind of route."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

MARK = "hunter2-value"
"""Stands in every item: an attribute value that no log, metric or status may show."""

DOOR = ""
"""The route in the dead letter of a record that cannot be decoded."""
INVALIDATE = "invalidate"
IMAGE_ROUTES = frozenset({"search", "store", "audit", "embedded", "print"})
"""Routes that read an item; ``invalidate`` needs the key alone."""
ROUTES = IMAGE_ROUTES | {INVALIDATE}

START_S = 1_790_000_000


class Exact:
    """A number that equals nothing but itself in all of its digits (tests read JSON's numbers into this)."""

    def __init__(self, text: str) -> None:
        self.number = Decimal(text)

    def __eq__(self, other: object) -> bool:
        return self.number == (other.number if isinstance(other, Exact) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Exact({self.number})"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One record. ``refused`` holds the code of its dead letter by route; where it has none, it is applied."""

    name: str
    value: bytes | None
    pk: str = ""
    event_id: str = ""
    item: Mapping[str, Any] | None = None
    """The item as a document, where the change carries one."""
    refused: Mapping[str, str] = field(default_factory=dict)
    routes: frozenset[str] = ROUTES
    """The routes that it takes."""
    removes: bool = False
    key: bytes | None = None
    """The Kafka record's key."""

    @property
    def is_change(self) -> bool:
        """Whether it gets as far as the routes."""
        return self.value is not None and DOOR not in self.refused

    def reaches(self, route: str) -> bool:
        """Whether it is applied on this route."""
        return self.is_change and route in self.routes and route not in self.refused


def letters(cases: Sequence[Case], routes: frozenset[str]) -> dict[tuple[str, str], str]:
    """(route, name) → code of every dead letter that these cases must leave on these routes."""
    return {
        (route, case.name): code
        for case in cases
        for route, code in case.refused.items()
        if route == DOOR or route in routes & case.routes
    }


def items(cases: Sequence[Case], route: str) -> dict[str, Mapping[str, Any]]:
    """What a STATE sink holds at the end, by ``pk``."""
    held: dict[str, Mapping[str, Any]] = {}
    for case in cases:
        if not case.reaches(route):
            continue
        if case.removes:
            held.pop(case.pk, None)
        elif case.item is not None:
            held[case.pk] = case.item
    return held


def events(cases: Sequence[Case], route: str) -> dict[str, Mapping[str, Any] | None]:
    """What an EVENT sink holds at the end: the new item by event id."""
    return {case.event_id: case.item for case in cases if case.reaches(route)}


def write_lines(path: Path, cases: Sequence[Case]) -> dict[int, str]:
    """Write a file of JSON Lines; answers the name of the case at each position."""
    names: dict[int, str] = {}
    with path.open("wb") as file:
        for case in cases:
            if case.value is not None:
                names[file.tell()] = case.name
                file.write(case.value + b"\n")
    return names


def json_text(value: Any) -> bytes:
    """JSON as it goes over the wire; half surrogate pairs as escapes."""
    return json.dumps(value).encode()


def refused_where_images_are_read(code: str) -> dict[str, str]:
    """The key is sound and the item is not: whoever reads it refuses it."""
    return dict.fromkeys(IMAGE_ROUTES, code)


def among_good_ones(hostile: Sequence[Case], good: Iterator[Case]) -> list[Case]:
    """Each hostile record with a good one behind it, and one in front of all."""
    mixed = [next(good)]
    for case in hostile:
        mixed += [case, next(good)]
    return mixed
