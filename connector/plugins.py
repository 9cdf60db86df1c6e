"""Finding plug-ins: sources, codecs, sinks and dead-letter destinations, ours and third parties' alike.

They are found by entry points, by name only: nothing is imported until a configuration asks for it, so start-up stays
short, and a broken plug-in breaks only who uses it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from connector.errors import ConfigError

SOURCES = "millrace.sources"
CODECS = "millrace.codecs"
SINKS = "millrace.sinks"
DEAD_LETTERS = "millrace.dead_letters"


class PluginError(ConfigError):
    """A plug-in cannot be used: its import fails, two distributions claim its name, or it is not what it should be."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """One name of one group, not imported yet."""

    group: str
    name: str
    entry_points: tuple[metadata.EntryPoint, ...]

    @property
    def distribution(self) -> str:
        """The installed distribution that it comes from, with its version."""
        return " and ".join(sorted(_distribution(point) for point in self.entry_points))

    def load(self) -> type[Any]:
        """Import it and check that it has what its protocol asks for. Raises PluginError."""
        if len(self.entry_points) > 1:
            raise PluginError(f"{self._title} is provided by {self.distribution}: uninstall all but one")
        try:
            loaded = self.entry_points[0].load()
        except Exception as error:  # whatever a third party's module raises, its user is told whose it is
            raise PluginError(
                f"{self._title} of {self.distribution} cannot be imported: {type(error).__name__}: {error}"
            ) from error
        missing = _missing(self.group, self.name, loaded)
        if missing:
            raise PluginError(f"{self._title} of {self.distribution} is not usable: {'; '.join(missing)}")
        checked: type[Any] = loaded
        return checked

    @property
    def _title(self) -> str:
        return f"the {_SHAPES[self.group].noun} {self.name!r}"


def sources() -> Mapping[str, Plugin]:
    """The installed sources by ``type``."""
    return _find(SOURCES)


def codecs() -> Mapping[str, Plugin]:
    """The installed codecs by ``format``."""
    return _find(CODECS)


def sinks() -> Mapping[str, Plugin]:
    """The installed sinks by ``type``."""
    return _find(SINKS)


def dead_letters() -> Mapping[str, Plugin]:
    """The installed dead-letter destinations by ``type``."""
    return _find(DEAD_LETTERS)


@functools.cache
def _find(group: str) -> Mapping[str, Plugin]:
    found: dict[str, list[metadata.EntryPoint]] = {}
    for point in metadata.entry_points(group=group):
        found.setdefault(point.name, []).append(point)
    return MappingProxyType({name: Plugin(group, name, tuple(points)) for name, points in sorted(found.items())})


def _distribution(point: metadata.EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a loaded class must have, as far as it can be seen without making one."""

    noun: str
    coroutines: tuple[str, ...]
    methods: tuple[str, ...]
    attributes: Mapping[str, type]
    configured: bool
    reserved: frozenset[str] = frozenset()


_SHAPES = {
    SOURCES: _Shape(
        "source",
        ("open", "read", "pause", "resume", "ends", "close"),
        ("own_checkpoints",),
        {},
        configured=True,
        reserved=frozenset({"type", "format", "view", "key_attributes"}),
    ),
    CODECS: _Shape("format", (), ("decode",), {"name": str}, configured=False),
    SINKS: _Shape(
        "sink",
        ("open", "write", "close"),
        (),
        {"lanes_default": int, "batch_size_default": int},
        configured=True,
        reserved=frozenset({"type"}),
    ),
    DEAD_LETTERS: _Shape(
        "dead-letter destination",
        ("open", "append", "mark", "close"),
        ("letters",),
        {},
        configured=True,
        reserved=frozenset({"type"}),
    ),
}


def _is_given_type(model: type[BaseModel], name: str) -> bool:
    """A model may say its own ``type`` as a constant: it is never filled in."""
    return name == "type" and not model.model_fields[name].is_required()


def _missing(group: str, name: str, loaded: Any) -> list[str]:
    """What the class lacks, each in words."""
    if not inspect.isclass(loaded):
        return ["its entry point names no class"]
    shape = _SHAPES[group]
    problems = [
        f"it has no method {method}()" for method in shape.methods if not callable(getattr(loaded, method, None))
    ]
    problems += [
        f"it has no coroutine method {method}()"
        for method in shape.coroutines
        if not inspect.iscoroutinefunction(getattr(loaded, method, None))
    ]
    problems += [
        f"its {attribute} is not of type {kind.__name__}"
        for attribute, kind in shape.attributes.items()
        if not isinstance(getattr(loaded, attribute, None), kind)
    ]
    if shape.configured:
        model = getattr(loaded, "config_model", None)
        if not (inspect.isclass(model) and issubclass(model, BaseModel)):
            problems.append("its config_model is not a pydantic model")
        elif taken := {name for name in shape.reserved & set(model.model_fields) if not _is_given_type(model, name)}:
            problems.append(f"its config_model uses the reserved option names {', '.join(sorted(taken))}")
    own_name = getattr(loaded, "name", name)
    if group == CODECS and own_name != name:
        problems.append(f"its name is {own_name!r}, its entry point's {name!r}: they must be the same")
    return problems
