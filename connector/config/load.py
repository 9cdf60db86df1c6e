"""From a file to a checked configuration, or to everything that is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from connector.config.checks import check, check_together
from connector.config.models import Admin, Config, Log
from connector.config.problems import ConfigErrors, translate, written_path
from connector.config.scalars import ScalarTrap, resolve
from connector.config.secrets import Filled, fill, redacted
from connector.config.yaml import BYTES_MAX, Document, Path, parse
from connector.errors import ConfigError

__all__ = ["ConfigErrors", "load", "load_all", "load_text", "process_options"]


def load(path: FilePath | str, *, env: Mapping[str, str] | None = None) -> Config:
    """The configuration of one file. Raises ConfigErrors with all that is wrong with it, in the order of its lines.

    ``env`` stands in for the process's environment.
    """
    file = FilePath(path)
    try:
        with file.open("rb") as opened:
            raw = opened.read(BYTES_MAX + 1)
    except OSError as error:
        raise ConfigErrors([ConfigError(f"cannot be read: {error.strerror}", file=str(path))]) from error
    return load_text(raw, file=str(path), folder=file.parent, env=env)


def load_all(paths: Iterable[FilePath | str], *, env: Mapping[str, str] | None = None) -> dict[str, Config]:
    """Several files by path, for one process: each is checked, and all of them against each other.

    Raises ConfigErrors with the errors of all files.
    """
    configs: dict[str, Config] = {}
    errors: list[ConfigError] = []
    for path in paths:
        try:
            configs[str(path)] = load(path, env=env)
        except ConfigErrors as found:
            errors += found.errors
    errors += check_together(configs)
    if errors:
        raise ConfigErrors(errors)
    return configs


def process_options(configs: Iterable[Config]) -> tuple[Admin, Log]:
    """The admin server's and the log's options of one process: those of the file that writes them, else the defaults.

    ``load_all`` has refused files that say different things.
    """
    listed = list(configs)
    admin = next((config.admin for config in listed if "admin" in config.model_fields_set), Admin())
    log = next((config.log for config in listed if "log" in config.model_fields_set), Log())
    return admin, log


def load_text(raw: bytes, *, file: str, folder: FilePath = FilePath(), env: Mapping[str, str] | None = None) -> Config:
    """As ``load``, of a text that is in memory already; ``file`` names it in errors."""
    document = parse(raw, file)
    if not document.complete:
        raise ConfigErrors(document.errors)
    filled = fill(document, os.environ if env is None else env, folder)
    try:
        config = _validate(document, filled)
    except ValidationError as error:
        found, more = translate(error, Config, document, filled)
        raise ConfigErrors([*document.errors, *found], more=more) from None
    if document.errors:
        raise ConfigErrors(document.errors)
    wrong = [redacted(document.error(error.message, error.path), filled) for error in check(config)]
    if wrong:
        raise ConfigErrors(wrong)
    return config


def _validate(document: Document, filled: Filled) -> Config:
    """Validate; where a number or a boolean was wanted and the text came from outside, read the text as one."""
    context = {"written": True}
    try:
        return Config.model_validate(document.value, context=context)
    except ValidationError as error:
        reread = [_reread(document, place) for place in _wanted_otherwise(error, document, filled)]
        if not any(reread):
            raise
        return Config.model_validate(document.value, context=context)


_WANTS_OTHER = {"int_type", "float_type", "bool_type"}


def _wanted_otherwise(error: ValidationError, document: Document, filled: Filled) -> list[Path]:
    places = {
        written_path(one["loc"], one["type"], document.value)
        for one in error.errors(include_url=False, include_input=False)
        if one["type"] in _WANTS_OTHER
    }
    return [place for place in filled.values if place in places]


def _reread(document: Document, path: Path) -> bool:
    parent: Any = document.value
    for part in path[:-1]:
        parent = parent[part]
    try:
        value = resolve(parent[path[-1]])
    except ScalarTrap:
        return False
    if value is None or isinstance(value, str):
        return False
    parent[path[-1]] = value
    return True
