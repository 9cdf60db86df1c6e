"""Strict YAML with a place for every key and value.

The text is read event by event (PyYAML's parser, none of its constructors): nothing in it can make an object, an alias
is refused where it stands and never followed, and reading goes on after an error, so that all of them are told at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from connector.config.scalars import ScalarTrap, resolve
from connector.errors import ConfigError

BYTES_MAX = 1024 * 1024
DEPTH_MAX = 64

Path = tuple[str | int, ...]
"""A place in a configuration as keys and indexes."""

_UNUSABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Place:
    """A line and a column of the text, both from 1."""

    line: int
    column: int


@dataclass(slots=True)
class Document:
    """A YAML text, read: its value, where everything stands, and what is wrong with it.

    Where something is wrong the value holds a stand-in, and ``faulty`` its path: whatever else is found wrong
    there, above or below is a consequence and not worth telling. ``complete`` is false where reading had to stop.
    """

    file: str
    value: Any = None
    values: dict[Path, Place] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)
    collections: set[Path] = field(default_factory=set)
    errors: list[ConfigError] = field(default_factory=list)
    faulty: set[Path] = field(default_factory=set)
    around_faulty: set[Path] = field(default_factory=set)
    complete: bool = True

    def place(self, path: Path, *, key: bool = False) -> Place | None:
        """Where ``path`` stands, or its nearest parent that is written down.

        A scalar is found at its value, a mapping or list at its key (its value begins a line later), and with ``key``
        everything at its key.
        """
        for length in range(len(path), -1, -1):
            known = path[:length]
            if known in self.keys and (key or length < len(path) or known in self.collections):
                return self.keys[known]
            if known in self.values:
                return self.values[known]
        return None

    def error(self, message: str, path: Path, *, key: bool = False) -> ConfigError:
        """A ConfigError that knows its place."""
        place = self.place(path, key=key)
        return ConfigError(
            message,
            path=path,
            file=self.file,
            line=place.line if place else None,
            column=place.column if place else None,
        )

    def is_consequence(self, path: Path) -> bool:
        """Whether something above, at or below ``path`` is known to be wrong already."""
        return path in self.around_faulty or any(path[:length] in self.faulty for length in range(len(path)))

    def mark_faulty(self, path: Path) -> None:
        """Remember that the value at ``path`` is a stand-in."""
        self.faulty.add(path)
        self.around_faulty.update(path[:length] for length in range(len(path) + 1))


def parse(raw: bytes, file: str) -> Document:
    """Read a YAML text. Never raises for what is in it: see ``Document.errors``."""
    document = Document(file)
    try:
        text = _decode(raw)
        _Reader(document, text).read()
    except _Stop as stop:
        document.complete = False
        place = stop.place
        document.errors.append(
            ConfigError(
                stop.message,
                path=stop.path,
                file=file,
                line=place.line if place else None,
                column=place.column if place else None,
            )
        )
    return document


class _Stop(Exception):
    """Reading cannot go on."""

    def __init__(self, message: str, place: Place | None = None, path: Path = ()) -> None:
        super().__init__(message)
        self.message = message
        self.place = place
        self.path = path


def _decode(raw: bytes) -> str:
    if len(raw) > BYTES_MAX:
        raise _Stop(f"the file is larger than {BYTES_MAX} bytes: that is no configuration")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        raise _Stop("the file is not UTF-8", Place(before.count(b"\n") + 1, 1)) from None


class _Reader:
    """Builds plain values from parser events, noting places and errors in the document."""

    def __init__(self, document: Document, text: str) -> None:
        self._document = document
        self._text = text
        self._events = self._checked_events()

    def read(self) -> None:
        next(self._events)  # the stream's start
        start = next(self._events)
        if isinstance(start, yaml.StreamEndEvent):
            raise _Stop("the file is empty: it needs at least 'pipelines:'", Place(1, 1))
        if isinstance(start, yaml.DocumentStartEvent) and (start.tags or start.version not in (None, (1, 2))):
            raise _Stop("the file is read as YAML 1.2: leave the % directives out", _place(start))
        self._document.value = self._node(next(self._events), (), 0)
        next(self._events)  # the document's end
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise _Stop("the file holds a second document (---): write one file for each", _place(after))

    def _checked_events(self) -> Iterator[yaml.Event]:
        try:
            yield from yaml.parse(self._text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = Place(mark.line + 1, mark.column + 1) if mark else None
            raise _Stop(self._explain(error, place), place) from None
        except yaml.reader.ReaderError as error:
            before = self._text[: error.position]
            place = Place(before.count("\n") + 1, len(before) - before.rfind("\n"))
            raise _Stop("a character that YAML does not allow: write it as an escape in double quotes", place) from None
        except (ValueError, OverflowError):  # PyYAML on "\UFFFFFFFF": no such character, and no mark either
            raise _Stop("an escape in double quotes names a character that does not exist") from None

    def _explain(self, error: yaml.MarkedYAMLError, place: Place | None) -> str:
        message = f"not YAML: {error.problem or error.context}"
        line = "".join(self._text.split("\n")[place.line - 1 : place.line]) if place else ""
        if "\\t" in message:
            message += " (indent with spaces, not tabs)"
        if "${" in line:
            message += ' (inside {…} and […] write "${NAME}" in quotes)'
        return message

    def _node(self, event: yaml.Event, path: Path, depth: int) -> Any:
        self._document.values[path] = _place(event)
        if isinstance(event, yaml.AliasEvent):
            self._wrong("an alias (*name) is not allowed: write the value out", event, path)
            return None
        assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
        if event.anchor is not None:
            self._note("an anchor (&name) is not allowed: aliases are not, so nothing can use it", event, path)
        if event.tag is not None:
            self._wrong("a tag (!name) is not allowed: plain values only", event, path)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path)
        if depth >= DEPTH_MAX:
            raise _Stop(f"nested deeper than {DEPTH_MAX} levels", _place(event), path)
        self._document.collections.add(path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path, depth)
        return self._mapping(path, depth)

    def _scalar(self, event: yaml.ScalarEvent, path: Path) -> Any:
        if _UNUSABLE.search(event.value):
            self._wrong("a NUL or half of a surrogate pair is no text", event, path)
            return ""
        if event.style is not None or event.tag is not None:
            return event.value
        try:
            return resolve(event.value)
        except ScalarTrap as trap:
            self._wrong(str(trap), event, path)
            return event.value

    def _sequence(self, path: Path, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, (*path, len(items)), depth + 1))
        return items

    def _mapping(self, path: Path, depth: int) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event, path, depth)
            if key is None or key in mapping:
                if key is not None:
                    first = self._document.keys[*path, key]
                    self._note(f"the key stands here already, in line {first.line}", event, (*path, key))
                self._skip(depth)
                continue
            self._document.keys[*path, key] = _place(event)
            mapping[key] = self._node(next(self._events), (*path, key), depth + 1)
        return mapping

    def _key(self, event: yaml.Event, path: Path, depth: int) -> str | None:
        """The key, or None where it is none. What is wrong with it is told with the mapping's path."""
        if not isinstance(event, yaml.ScalarEvent):
            if isinstance(event, yaml.AliasEvent):
                self._note("an alias (*name) is not allowed as a key", event, path)
            else:
                self._note("a key is a text, not a mapping or a list", event, path)
                self._skip_rest(event, depth)
            return None
        if event.tag is not None or event.anchor is not None:
            self._note("tags (!name) and anchors (&name) are not allowed", event, path)
            return None
        if _UNUSABLE.search(event.value):
            self._note("a NUL or half of a surrogate pair is no text", event, path)
            return None
        if event.style is not None:
            return str(event.value)
        if event.value == "<<":
            self._wrong("a merge key (<<) is not allowed: write the options out", event, path)
            return None
        try:
            value = resolve(event.value)
        except ScalarTrap as trap:
            self._note(f"as a key: {trap}", event, path)
            return None
        if not isinstance(value, str):
            self._note(f"the key {event.value!r} is not a text: write it in quotes", event, path)
            return None
        return value

    def _skip(self, depth: int) -> None:
        """Read over one value, keeping nothing of it."""
        self._skip_rest(next(self._events), depth)

    def _skip_rest(self, event: yaml.Event, depth: int) -> None:
        level = 0
        while True:
            if isinstance(event, yaml.CollectionStartEvent):
                level += 1
                if depth + level > DEPTH_MAX:
                    raise _Stop(f"nested deeper than {DEPTH_MAX} levels", _place(event))
            elif isinstance(event, yaml.CollectionEndEvent):
                level -= 1
            if level == 0:
                return
            event = next(self._events)

    def _note(self, message: str, event: yaml.Event, path: Path) -> None:
        place = _place(event)
        self._document.errors.append(
            ConfigError(message, path=path, file=self._document.file, line=place.line, column=place.column)
        )

    def _wrong(self, message: str, event: yaml.Event, path: Path) -> None:
        self._note(message, event, path)
        self._document.mark_faulty(path)


def _place(event: yaml.Event) -> Place:
    mark = event.start_mark
    assert mark is not None  # a text that is parsed has marks on all of its events
    return Place(mark.line + 1, mark.column + 1)
