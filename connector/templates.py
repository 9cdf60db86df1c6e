"""Templates that name a place by an item: ``order:{sk}``, ``{pk}|{sk}``, ``{address.lines.0}``, ``{$event_name}``.

A template is parsed once, at start, and rendered for every change. Its names are attribute names and nothing else: it
can reach no Python object, call nothing, format nothing. ``{0.__class__}`` asks for the attribute ``0`` and finds none.

Inside braces ``.`` leads into a map (by name) or a list (by number), and a backslash takes the meaning from what
follows it: ``{a\\.b}`` is the attribute ``a.b``, ``{\\$x}`` the attribute ``$x``. Outside, ``{{`` and ``}}`` are
braces.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, NoReturn

from connector.change import Change, EventName
from connector.errors import ConfigError, TemplateError

RESULT_BYTES_MAX = 8 * 1024
TEXT_CHARS_MAX = 4 * 1024
NAMES_MAX = 64
DEPTH_MAX = 32
"""DynamoDB nests items this deep at most."""
_DIGITS_MAX = 1024
"""Longer numbers are no part of any name; without a limit ``1e999999999`` would be written out."""

_OF_THE_CHANGE: Mapping[str, Callable[[Change], str]] = {
    "$event_name": lambda change: change.event_name.value,
    "$shard": lambda change: change.shard,
    "$event_id": lambda change: change.event_id,
    "$version": lambda change: str(change.version),
    "$timestamp_ms": lambda change: str(change.timestamp_ms),
}

Escape = Callable[[str], str]


class _Step(NamedTuple):
    """One step into a nested value: the name in a map, the place in a list where the name is a number."""

    name: str
    place: int | None


class Template:
    """A parsed template. Make it with ``compile_template``; it never changes and may be shared."""

    __slots__ = ("_escape", "_names", "_of_the_change", "_parts", "_paths", "_result_bytes_max", "attributes", "text")

    def __init__(self, text: str, parts: Sequence[_Part], escape: Escape | None, result_bytes_max: int) -> None:
        self.text = text
        """The template as it was written."""
        self._parts = [part if isinstance(part, str) else "" for part in parts]
        names: list[tuple[int, str]] = []
        paths: list[tuple[int, str, tuple[_Step, ...]]] = []
        of_the_change: list[tuple[int, Callable[[Change], str]]] = []
        for place, part in enumerate(parts):
            if isinstance(part, str):
                continue
            if part.of_the_change is not None:
                of_the_change.append((place, part.of_the_change))
            elif part.steps:
                paths.append((place, part.name, part.steps))
            else:
                names.append((place, part.name))
        self._names = tuple(names)
        self._paths = tuple(paths)
        self._of_the_change = tuple(of_the_change)
        self._escape = escape
        self._result_bytes_max = result_bytes_max
        self.attributes = frozenset([name for _, name in names] + [name for _, name, _ in paths])
        """The item's top-level attributes that the template uses. Names of the change (``$…``) are not among them."""

    def __repr__(self) -> str:
        return f"Template({self.text!r})"

    def render(self, values: Mapping[str, Any], change: Change | None = None) -> str:
        """The template filled with an item's values (as ``ImageFormat.values`` gives them) and the change's own.

        ``change`` may be left out only where the template uses no ``$…`` name. Raises TemplateError:
        ``attribute_missing``, ``attribute_has_no_text`` (None, maps, lists, sets, what is not a finite number),
        ``result_empty``, ``result_too_long`` (in UTF-8 bytes), ``result_not_unicode`` (half a surrogate pair).
        """
        parts = self._parts.copy()
        escape = self._escape
        for place, name in self._names:
            value = values.get(name)
            text = value if type(value) is str else self._text_of(value, name, name in values)
            parts[place] = text if escape is None else escape(text)
        for place, name, steps in self._paths:
            text = self._text_at(values, name, steps)
            parts[place] = text if escape is None else escape(text)
        for place, read in self._of_the_change:
            assert change is not None, f"{self!r} needs the change"
            text = read(change)
            parts[place] = text if escape is None else escape(text)
        result = "".join(parts)
        if not result:
            self._fail("result_empty", "the result is empty")
        if not result.isascii():
            self._check_unicode(result)
        elif len(result) > self._result_bytes_max:
            self._too_long()
        return result

    def _text_at(self, values: Mapping[str, Any], name: str, steps: tuple[_Step, ...]) -> str:
        path = name
        found = name in values
        value = values.get(name)
        for step in steps:
            path = f"{path}.{step.name}"
            if isinstance(value, dict):
                found = step.name in value
                value = value.get(step.name)
            elif isinstance(value, list) and step.place is not None and step.place < len(value):
                value = value[step.place]
            else:
                found, value = False, None
            if not found:
                break
        return self._text_of(value, path, found)

    def _text_of(self, value: Any, path: str, found: bool) -> str:
        if not found:
            self._fail("attribute_missing", f"the item has no {path!r}")
        if isinstance(value, str):
            return str(value)
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int):
            if value.bit_length() > 3 * _DIGITS_MAX:
                self._too_long()
            return str(value)
        if isinstance(value, float):
            value = Decimal(repr(value))
        if isinstance(value, Decimal) and value.is_finite():
            if abs(value.adjusted()) > _DIGITS_MAX or len(value.as_tuple().digits) > _DIGITS_MAX:
                self._too_long()
            return plain(value)
        if isinstance(value, bytes):
            return base64.urlsafe_b64encode(value).rstrip(b"=").decode("ascii")
        kind = {dict: "a map", list: "a list", frozenset: "a set", set: "a set", type(None): "null"}.get(type(value))
        self._fail("attribute_has_no_text", f"{path!r} is {kind or 'no finite number'}, which has no text")

    def _check_unicode(self, result: str) -> None:
        try:
            size = len(result.encode())
        except UnicodeEncodeError:
            self._fail("result_not_unicode", "the result holds half a surrogate pair")
        if size > self._result_bytes_max:
            self._too_long()

    def _too_long(self) -> NoReturn:
        self._fail("result_too_long", f"the result is longer than {self._result_bytes_max} bytes")

    def _fail(self, code: str, message: str) -> NoReturn:
        raise TemplateError(code, f"template {self.text!r}: {message}")


def plain(number: Decimal) -> str:
    """A finite Decimal as the one text of its value: no exponent, no zeros at the end, no minus before nothing."""
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


class _Slot(NamedTuple):
    """What stood between braces."""

    name: str
    steps: tuple[_Step, ...]
    of_the_change: Callable[[Change], str] | None


_Part = str | _Slot


def compile_template(text: str, *, escape: Escape | None = None, result_bytes_max: int = RESULT_BYTES_MAX) -> Template:
    """Parse a template. ``escape`` is applied to every value (not to the literal text) when it is rendered.

    Raises ConfigError that says at which column (from 1) of the template it is wrong.
    """
    if not text:
        raise ConfigError("a template must not be empty")
    if len(text) > TEXT_CHARS_MAX:
        raise ConfigError(f"a template may have {TEXT_CHARS_MAX} characters; this one has {len(text)}")
    parts: list[_Part] = []
    literal: list[str] = []
    at = 0
    while at < len(text):
        character = text[at]
        if character in "{}" and text[at + 1 : at + 2] == character:
            literal.append(character)
            at += 2
        elif character == "{":
            if literal:
                parts.append("".join(literal))
                literal = []
            slot, at = _slot(text, at)
            parts.append(slot)
        elif character == "}":
            raise _wrong(text, at, "a '}' without its '{'; write '}}' for a brace")
        else:
            literal.append(character)
            at += 1
    if literal:
        parts.append("".join(literal))
    if sum(isinstance(part, _Slot) for part in parts) > NAMES_MAX:
        raise ConfigError(f"a template may name {NAMES_MAX} attributes at most")
    return Template(text, parts, escape, result_bytes_max)


def _slot(text: str, start: int) -> tuple[_Slot, int]:
    """Read ``{…}`` that begins at ``start``; answer it and the place after it."""
    names: list[str] = []
    name: list[str] = []
    bare_dollar = text[start + 1 : start + 2] == "$"
    at = start + 1
    while True:
        if at >= len(text):
            raise _wrong(text, start, "a '{' that is never closed; write '{{' for a brace")
        character = text[at]
        if character == "\\":
            escaped = text[at + 1 : at + 2]
            if not escaped or escaped not in ".\\${}":
                raise _wrong(text, at, "a backslash inside braces must stand before one of . \\ $ { }")
            name.append(escaped)
            at += 2
            continue
        if character == "{":
            raise _wrong(text, at, "a '{' inside braces; an attribute name holds one only as '\\{'")
        if character in ".}":
            names.append(_checked_name(text, at, "".join(name)))
            name = []
            if character == "}":
                break
        else:
            name.append(character)
        at += 1
    if len(names) > DEPTH_MAX:
        raise _wrong(text, start, f"a path of more than {DEPTH_MAX} names")
    of_the_change = None
    if bare_dollar:
        of_the_change = _OF_THE_CHANGE.get(names[0]) if len(names) == 1 else None
        if of_the_change is None:
            known = ", ".join(_OF_THE_CHANGE)
            message = f"{'.'.join(names)!r} is not known; there are {known} (an attribute of that name is '{{\\$…}}')"
            raise _wrong(text, start + 1, message)
    return _Slot(names[0], tuple(_Step(step, _index(step)) for step in names[1:]), of_the_change), at + 1


def _checked_name(text: str, end: int, name: str) -> str:
    if not name:
        raise _wrong(text, end, "a name is missing before this; write an attribute's name, like {pk}")
    if name != name.strip():
        raise _wrong(text, end, f"the name {name!r} begins or ends with a blank; write {{{name.strip()}}}")
    return name


def _index(step: str) -> int | None:
    return int(step) if step.isascii() and step.isdigit() and len(step) <= 9 else None


def _wrong(text: str, at: int, message: str) -> ConfigError:
    return ConfigError(f"template {text!r}, column {at + 1}: {message}")


class Places(NamedTuple):
    """Where a change's item is after it and was before it, by one template."""

    new: str | None
    """None for a REMOVE."""
    old: str | None
    """None for an INSERT, and where it is unknown: no old image and the key alone does not decide."""


def places(template: Template, change: Change) -> Places:
    """Where the change's item is and was. Decodes an image only where the key does not hold every attribute.

    ``$…`` names are this change's own on both sides. A MODIFY whose old image cannot fill the template has no old
    place: nothing can have been written there. Raises TemplateError as ``Template.render`` does, and
    ``image_missing`` where the stream did not carry the image that decides; DecodeError for an image that is none.
    """
    if template.attributes <= change.keys.keys():
        return _places_by_key(template, change)
    return places_many((template,), change)[0]


def places_many(templates: Sequence[Template], change: Change) -> list[Places]:
    """``places`` for several templates over one change: each image is decoded once at most."""
    event_name = change.event_name
    keys = change.keys
    new_values: dict[str, Any] | None = None
    old_values: dict[str, Any] | None = None
    found: list[Places] = []
    for template in templates:
        if template.attributes <= keys.keys():
            found.append(_places_by_key(template, change))
            continue
        new = old = None
        if event_name is not EventName.REMOVE:
            if new_values is None:
                new_values = _values(template, change, change.new_image, "new")
            new = template.render(new_values, change)
        if event_name is EventName.REMOVE or (event_name is EventName.MODIFY and change.old_image is not None):
            if old_values is None:
                old_values = _values(template, change, change.old_image, "old")
            try:
                old = template.render(old_values, change)
            except TemplateError:
                if event_name is EventName.REMOVE:
                    raise
                # The item had no place before this change, so nothing is there to be cleared.
        found.append(Places(new, old))
    return found


def _places_by_key(template: Template, change: Change) -> Places:
    place = template.render(change.keys, change)
    if change.event_name is EventName.MODIFY:
        return Places(place, place)
    return Places(None, place) if change.event_name is EventName.REMOVE else Places(place, None)


def _values(template: Template, change: Change, image: bytes | None, which: str) -> dict[str, Any]:
    if image is None:
        raise TemplateError(
            "image_missing",
            f"template {template.text!r} uses attributes beside the key, and the record carries no {which} image",
        )
    values = change.images.values(image)
    for name, value in change.keys.items():
        values.setdefault(name, value)
    return values
