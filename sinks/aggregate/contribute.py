"""Changes → what each key adds from now on: its group, and a value for each measure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from hashlib import blake2b
from typing import Any, NamedTuple

from connector.change import Change, EventName
from connector.errors import DecodeError, MillraceError, TemplateError
from connector.filters import compile_where
from connector.sink import APPLIED, Outcome, Rejected
from connector.templates import Template, compile_template
from sinks.aggregate.config import AggregateSinkConfig, Kind, MeasureConfig, Missing
from sinks.aggregate.decimals import MAGNITUDE_MAX, ZERO, is_in_range
from sinks.aggregate.store import Item, ItemRow, Measure, Schema, Value

DIGEST_BYTES = 16
GROUP_BYTES_MAX = 2_000
"""Of all columns of a group together: an entry of PostgreSQL's B-tree holds some 2,700 bytes."""
_BITS_MAX = 4 * MAGNITUDE_MAX
"""A whole number with more is out of range in any case, and slow to turn into a Decimal."""

Read = Callable[[Mapping[str, Any], Change], Value]


class BadItem(MillraceError):
    """An item that cannot be aggregated. ``code`` is a stable word for metrics and dead letters."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Contribution(NamedTuple):
    """What a key adds once a change is applied."""

    row: ItemRow
    names: tuple[str, ...]
    """The texts of its group's columns; none for a removed item."""


class Plan:
    """What to read of an item. Made once."""

    def __init__(self, config: AggregateSinkConfig, *, pipeline: str, route: str) -> None:
        self._groups = [(name, compile_template(text)) for name, text in config.group_by.items()]
        self._measures = [
            (compile_where(measure.where.parsed) if measure.where else None, _reader(name, measure))
            for name, measure in config.measures.items()
        ]
        self._asks_where = any(where is not None for where, _ in self._measures)
        self._nothing: tuple[Value, ...] = (None,) * len(self._measures)
        self.schema = Schema(
            config.table,
            tuple(config.group_by),
            tuple(Measure(name, measure.kind) for name, measure in config.measures.items()),
            _definition(config, pipeline, route),
        )

    def contributions(
        self, batch: Sequence[Change], now_ms: int
    ) -> tuple[list[Contribution], list[int], list[Outcome]]:
        """The contributions, the place of each in the batch, and the outcome of each change once they are kept."""
        found: list[Contribution] = []
        places: list[int] = []
        outcomes: list[Outcome] = [APPLIED] * len(batch)
        for at, change in enumerate(batch):
            try:
                contribution = self._contribution(change, now_ms)
            except (BadItem, DecodeError, TemplateError) as error:
                outcomes[at] = Rejected(error.code, error.message)
            except UnicodeError:
                outcomes[at] = Rejected("not_unicode", "the change holds half a surrogate pair")
            else:
                found.append(contribution)
                places.append(at)
        return found, places, outcomes

    def _contribution(self, change: Change, now_ms: int) -> Contribution:
        item_id = blake2b(change.key.encode(), digest_size=DIGEST_BYTES).digest()
        if change.event_name is EventName.REMOVE:
            return Contribution(ItemRow(item_id, change.key, now_ms, Item(change.version, None, self._nothing)), ())
        image = change.new_image
        if image is None:
            raise BadItem("image_missing", "the record carries no new image")
        values = change.images.values(image)
        for name, value in change.keys.items():
            values.setdefault(name, value)
        matchable = change.images.matchable(image) if self._asks_where else None
        names = self._names(values, change)
        added = tuple(
            read(values, change) if where is None or where(matchable) else None for where, read in self._measures
        )
        return Contribution(
            ItemRow(item_id, change.key, None, Item(change.version, self._group_id(names), added)), names
        )

    def _names(self, values: Mapping[str, Any], change: Change) -> tuple[str, ...]:
        names = tuple(template.render(values, change) for _, template in self._groups)
        if sum(len(name.encode()) for name in names) > GROUP_BYTES_MAX:
            raise BadItem("group_too_long", f"the group's columns have more than {GROUP_BYTES_MAX} bytes together")
        if any("\0" in name for name in names):
            raise BadItem("nul_in_group", "PostgreSQL's text holds no U+0000")
        return names

    def _group_id(self, names: tuple[str, ...]) -> bytes:
        # By column name, so that writing the columns in another order makes no other groups.
        named = dict(zip((name for name, _ in self._groups), names, strict=True))
        return blake2b(json.dumps(named, sort_keys=True).encode(), digest_size=DIGEST_BYTES).digest()


def _reader(name: str, measure: MeasureConfig) -> Read:
    if measure.kind is Kind.COUNT:
        return lambda values, change: 1
    assert measure.of is not None, "checked by the configuration"
    if measure.kind is Kind.DISTINCT:
        return _text_reader(compile_template(measure.of), measure.missing)
    return _number_reader(name, measure.of, measure.missing)


def _text_reader(template: Template, missing: Missing) -> Read:
    def read(values: Mapping[str, Any], change: Change) -> Value:
        try:
            text = template.render(values, change)
        except TemplateError as error:
            if error.code == "attribute_missing" and missing is Missing.SKIP:
                return None
            raise
        return blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()

    return read


def _number_reader(name: str, path: str, missing: Missing) -> Read:
    steps = path.split(".")

    def read(values: Mapping[str, Any], change: Change) -> Value:
        value: Any = values
        for step in steps:
            if isinstance(value, Mapping):
                value = value.get(step)
            elif isinstance(value, list) and step.isascii() and step.isdigit() and int(step[:9]) < len(value):
                value = value[int(step[:9])]
            else:
                value = None
        if value is None:  # null says as little of a number as no attribute does
            if missing is Missing.REJECT:
                raise BadItem("attribute_missing", f"measure {name!r}: the item has no {path!r}")
            return ZERO if missing is Missing.ZERO else None
        return _number(value, name, path)

    return read


def _number(value: Any, name: str, path: str) -> Decimal:
    number: Decimal | None = None
    if isinstance(value, Decimal):
        number = value
    elif isinstance(value, int) and not isinstance(value, bool):
        if value.bit_length() > _BITS_MAX:
            raise _out_of_range(name, path)
        number = Decimal(value)
    elif isinstance(value, float):
        number = Decimal(repr(value))
    if number is None or not number.is_finite():
        raise BadItem("not_a_number", f"measure {name!r}: {path!r} is not a number")
    if not is_in_range(number):
        raise _out_of_range(name, path)
    return number


def _out_of_range(name: str, path: str) -> BadItem:
    return BadItem(
        "number_out_of_range",
        f"measure {name!r}: {path!r} has more than {MAGNITUDE_MAX} digits before the point or behind it",
    )


def _definition(config: AggregateSinkConfig, pipeline: str, route: str) -> str:
    measures = {
        name: {
            "kind": measure.kind.value,
            "of": measure.of,
            "where": measure.where.text if measure.where else None,
            "missing": measure.missing.value,
        }
        for name, measure in config.measures.items()
    }
    whole = {"pipeline": pipeline, "route": route, "group_by": dict(config.group_by), "measures": measures}
    return json.dumps(whole, sort_keys=True)
