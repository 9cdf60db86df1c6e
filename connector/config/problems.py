"""All that is wrong with a configuration, at once; and pydantic's errors told in the words and places of the file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from connector.config.secrets import Filled, hide
from connector.config.specs import PluginKind, did_you_mean
from connector.config.yaml import Document, Path
from connector.errors import ConfigError, MillraceError

ERRORS_MAX = 100
"""More are counted, not told."""


class ConfigErrors(MillraceError):
    """Everything that is wrong with the configuration, in the order of the file. ``errors`` is never empty."""

    def __init__(self, errors: Sequence[ConfigError], *, more: int = 0) -> None:
        assert errors
        self.errors = sorted(errors, key=lambda error: (error.file or "", error.line or math.inf, error.column or 0))
        more += len(self.errors[ERRORS_MAX:])
        if more:
            last = self.errors[:ERRORS_MAX][-1]
            self.errors = [*self.errors[:ERRORS_MAX], ConfigError(f"… and {more} more errors", file=last.file)]
        super().__init__("\n".join(str(error) for error in self.errors))


def translate(
    error: ValidationError, root: type[BaseModel], document: Document, filled: Filled
) -> tuple[list[ConfigError], int]:
    """Pydantic's errors as ConfigErrors with places, and how many more there are.

    Consequences of what is known to be wrong are left out.
    """
    told: dict[Path, list[str]] = {}
    at_key: set[Path] = set()
    found = _in_order(error, document)
    for one, path in found[:ERRORS_MAX]:
        spot = find_spot(root, document.value, path)
        is_key = bool(one["loc"]) and one["loc"][-1] == "[key]"
        message = _KEY_MESSAGE if is_key else _our_message(one["type"], one.get("ctx", {}), path, spot)
        if message is None:
            message = one["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
            if spot.is_secret and isinstance(written := _value_at(document.value, path), str):
                message = hide(message, written, parts=True)
            message = filled.redact(message, path)
        if is_key or one["type"] == "extra_forbidden":
            at_key.add(path)
        if message not in told.setdefault(path, []):
            told[path].append(message)
    errors = [document.error(", or ".join(messages), path, key=path in at_key) for path, messages in told.items()]
    return errors, len(found[ERRORS_MAX:])


def _in_order(error: ValidationError, document: Document) -> list[tuple[ErrorDetails, Path]]:
    """Pydantic's errors in the order of the file, with what was written at fault."""
    found = [
        (one, path)
        for one in error.errors(include_url=False, include_input=False)
        if not document.is_consequence(path := written_path(one["loc"], one["type"], document.value))
    ]
    found.sort(key=lambda one: (place.line, place.column) if (place := document.place(one[1])) else (0, 0))
    return found


@dataclass(frozen=True, slots=True)
class Spot:
    """What the models say of a path: the field, and the options that its parent has."""

    field: FieldInfo | None
    siblings: tuple[str, ...]

    @property
    def is_secret(self) -> bool:
        """Whether the field holds a secret."""
        return self.field is not None and any(one is SecretStr for one in _unfold(self.field.annotation))


def find_spot(root: type[BaseModel], raw: Any, path: Path) -> Spot:
    """Look a path up in the models. ``raw`` is the configuration as written: it says which plug-ins are meant."""
    here: list[Any] = [root]
    field: FieldInfo | None = None
    siblings: tuple[str, ...] = ()
    for part in path:
        models = [one for one in here if isinstance(one, type) and issubclass(one, BaseModel)]
        fields = {known.alias or name: known for model in models for name, known in model.model_fields.items()}
        siblings = tuple(fields)
        field = fields.get(str(part))
        raw = _child(raw, part)
        if field is not None:
            kind = next((mark for mark in field.metadata if isinstance(mark, PluginKind)), None)
            here = list(_unfold(field.annotation)) if kind is None else _plugin_models(kind, raw)
        else:
            here = [one for known in here for one in _items(known, raw)]
    return Spot(field, siblings)


def _plugin_models(kind: PluginKind, raw: Any) -> list[Any]:
    plugin = kind.installed().get(raw.get("type", "")) if isinstance(raw, dict) else None
    try:
        return [kind.common] if plugin is None else [kind.common, plugin.load().config_model]
    except ConfigError:
        return [kind.common]


def _unfold(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _unfold(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for one in get_args(annotation):
            yield from _unfold(one)
    else:
        yield annotation


def _items(annotation: Any, raw: Any) -> Iterator[Any]:
    """What a list or a mapping holds; ``raw`` is the item as written."""
    if get_origin(annotation) is not None and (arguments := get_args(annotation)):
        item = arguments[1] if get_origin(annotation) is dict and len(arguments) > 1 else arguments[0]
        kind = next((mark for mark in getattr(item, "__metadata__", ()) if isinstance(mark, PluginKind)), None)
        yield from _unfold(item) if kind is None else _plugin_models(kind, raw)


def _child(raw: Any, part: str | int) -> Any:
    if isinstance(raw, dict):
        return raw.get(part)
    if isinstance(raw, list) and isinstance(part, int) and part < len(raw):
        return raw[part]
    return None


def _value_at(raw: Any, path: Path) -> Any:
    for part in path:
        raw = _child(raw, part)
    return raw


def written_path(loc: Path, code: str, raw: Any) -> Path:
    """Pydantic's location less the names of union members and validators, which nobody wrote."""
    path: Path = ()
    for position, part in enumerate(loc):
        if (isinstance(raw, dict) and part in raw) or (isinstance(raw, list) and isinstance(part, int)):
            path, raw = (*path, part), _child(raw, part)
        elif code == "missing" and position == len(loc) - 1:
            path = (*path, part)
    return path


_KEY_MESSAGE = (
    "is no name: a name has lower-case letters, digits, - and _, begins with a letter, and is at most 63 long"
)

_MESSAGES = {
    "string_type": "must be a text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "none_required": "must be left out",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
}


def _our_message(code: str, context: dict[str, Any], path: Path, spot: Spot) -> str | None:
    """A message of ours, which holds no value of the configuration, for the kinds of errors that we know."""
    if code == "missing":
        meaning = f": {spot.field.description}" if spot.field is not None and spot.field.description else ""
        return f"is required{meaning}"
    if code == "extra_forbidden":
        known = ", ".join(spot.siblings)
        return f"unknown option{did_you_mean(str(path[-1]), spot.siblings)}" + (f" (known: {known})" if known else "")
    try:
        return _MESSAGES[code].format(**context)
    except KeyError:  # a kind of error that we do not know, or a plug-in's own of the same name
        return None
