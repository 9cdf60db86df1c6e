"""Values from outside the file (``${ENV}``, ``${ENV:-default}``, ``${file:path}``), and keeping them out of sight.

Filled in after the YAML was parsed and only in text values, so that nothing in a variable can change the file's
structure. ``$${`` stands for a literal ``${``. What was filled in is remembered, so that no error prints it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path as FilePath
from typing import Any
from urllib.parse import unquote

from pydantic import BaseModel, SecretStr

from connector.config.units import write_value
from connector.config.yaml import Document, Path
from connector.errors import ConfigError

FILE_BYTES_MAX = 64 * 1024
SHOWN_PART_MAX = 5
"""A longer part of a filled-in value that turns up in an error's message is masked there."""
MASK = "***"

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)\}|\$\{")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_USERINFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/?#\s'\"]*@")


@dataclass(slots=True)
class Filled:
    """Which values hold something from outside the file, and what."""

    values: dict[Path, list[str]] = field(default_factory=dict)
    """The texts that were filled in, by the place of the scalar that holds them."""

    def redact(self, message: str, path: Path) -> str:
        """The message without anything that came from outside: whole values anywhere, parts of them at ``path``."""
        for place, texts in self.values.items():
            here = place[: len(path)] == path or path[: len(place)] == place
            for text in texts:
                message = hide(message, text, parts=here)
        return mask_urls(message)


def fill(document: Document, env: Mapping[str, str], folder: FilePath) -> Filled:
    """Fill in every reference of the document's text values, in place. Errors go to the document's.

    Relative ``${file:…}`` paths start at ``folder``, the configuration's own.
    """
    filled = Filled()

    def walk(value: Any, path: Path) -> Any:
        if isinstance(value, dict):
            return {key: walk(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [walk(item, (*path, index)) for index, item in enumerate(value)]
        if isinstance(value, str) and "${" in value:
            return fill_text(value, path)
        return value

    def fill_text(text: str, path: Path) -> str:
        def one(match: re.Match[str]) -> str:
            if match[0] == "$${":
                return "${"
            try:
                value = _look_up(match[1], env, folder)
            except _Unfilled as error:
                document.errors.append(document.error(str(error), path))
                document.mark_faulty(path)
                return ""
            filled.values.setdefault(path, []).append(value)
            return value

        whole = _REFERENCE.sub(one, text)
        if path in filled.values:
            filled.values[path].append(whole)
        return whole

    document.value = walk(document.value, ())
    return filled


class _Unfilled(Exception):
    """A reference that cannot be filled in; the message says why and holds no value."""


def _look_up(name: str | None, env: Mapping[str, str], folder: FilePath) -> str:
    if name is None:
        raise _Unfilled(
            "'${' without its '}': write ${NAME}, ${NAME:-default} or ${file:path}, or $${ for a literal ${"
        )
    if name.startswith("file:"):
        return _read_file(name.removeprefix("file:"), folder)
    match = _VARIABLE.fullmatch(name)
    if match is None:
        raise _Unfilled("not a reference: write ${NAME}, ${NAME:-default} or ${file:path}, or $${ for a literal ${")
    variable, default = match[1], match[2]
    value = env.get(variable)
    if default is not None:
        return value or default
    if value is None:
        raise _Unfilled(f"the environment variable {variable} is not set: set it, or write ${{{variable}:-default}}")
    return value


def _read_file(name: str, folder: FilePath) -> str:
    try:
        with (folder / name).open("rb") as file:
            raw = file.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise _Unfilled(f"the file {name!r} cannot be read: {reason}") from None
    if len(raw) > FILE_BYTES_MAX:
        raise _Unfilled(f"the file {name!r} is larger than {FILE_BYTES_MAX} bytes: that is no secret")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise _Unfilled(f"the file {name!r} is not UTF-8") from None
    return text.removesuffix("\n").removesuffix("\r")


def hide(message: str, value: str, *, parts: bool) -> str:
    """The message without ``value``; with ``parts`` also without any longer piece of it.

    Outside its own place a value of one to three letters is left alone: masking it would only spoil sentences.
    """
    if not value or (not parts and len(value) < 4):
        return message
    for form in {value, repr(value)[1:-1], unquote(value)}:
        message = message.replace(form, MASK)
    return _hide_parts(message, value.split("://", 1)[-1]) if parts else message


def _hide_parts(message: str, value: str) -> str:
    while True:
        match = SequenceMatcher(None, message, value, autojunk=False).find_longest_match()
        if match.size <= SHOWN_PART_MAX:
            return message
        message = message[: match.a] + MASK + message[match.a + match.size :]


def mask_urls(text: str) -> str:
    """The text with the user and password of every URL in it masked."""
    return _USERINFO.sub(rf"\1{MASK}@", text)


def shown(value: Any) -> Any:
    """A configuration (or any part of one) as plain data to print: secrets and the userinfo of URLs masked."""
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, BaseModel):
        return {
            name: shown(write_value(field, getattr(value, name))) for name, field in type(value).model_fields.items()
        }
    if isinstance(value, dict):
        return {key: shown(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return f"({type(value).__name__.lower()})"  # something compiled, which nobody could read
    if isinstance(value, list | tuple | set | frozenset):
        return [shown(item) for item in value]
    if isinstance(value, str):
        return mask_urls(value)
    if hasattr(value, "for_show"):
        return shown(value.for_show())
    return value if isinstance(value, int | float | bool | None) else mask_urls(str(value))


def secrets_in(value: Any) -> Iterator[str]:
    """Every secret of a configuration, in clear, for taking them out of a text."""
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from secrets_in(getattr(value, name))
    elif isinstance(value, dict):
        for item in value.values():
            yield from secrets_in(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from secrets_in(item)
    elif hasattr(value, "for_show"):
        yield from secrets_in(value.for_show())


def redacted(error: ConfigError, filled: Filled) -> ConfigError:
    """The same error with a message that can be printed."""
    return ConfigError(
        filled.redact(error.message, error.path),
        path=error.path,
        file=error.file,
        line=error.line,
        column=error.column,
    )
