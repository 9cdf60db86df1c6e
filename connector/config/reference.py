"""The reference of options as Markdown, made from the JSON Schema: what it says is what the loader does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from connector.config.schema import REFERENCE_NAME, Schema
from connector.config.specs import DEAD_LETTER_KIND, SINK_KIND, SOURCE_KIND
from connector.config.units import DURATION_PATTERN, SIZE_PATTERN

_TITLES = {
    SOURCE_KIND.name: "Source",
    SINK_KIND.name: "Sink",
    DEAD_LETTER_KIND.name: "Dead letters",
}
_DEFINITIONS = "#/$defs/"


def write_reference(schema: Schema) -> str:
    """Tables of every option: one for the file, one for each plug-in."""
    definitions: Schema = schema["$defs"]
    sections = ["### The file", _table(_rows(schema, "", definitions))]
    for kind, title in _TITLES.items():
        for one in definitions[kind]["oneOf"]:
            plugin = definitions[one["$ref"].removeprefix(_DEFINITIONS)]
            name = plugin["properties"]["type"]["const"]
            meaning = plugin.get("description", "").split("\n\n")[0].replace("\n", " ")
            sections += [f"### {title} `{name}`", meaning, _table(_rows(plugin, "", definitions))]
    return "\n\n".join(section for section in sections if section) + "\n"


_Row = tuple[str, str, str, str]


def _table(rows: Iterator[_Row]) -> str:
    lines = ["| option | type | default | meaning |", "|---|---|---|---|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def _rows(owner: Schema, prefix: str, definitions: Schema) -> Iterator[_Row]:
    required = owner.get("required", [])
    for name, option in owner.get("properties", {}).items():
        path = f"{prefix}{name}"
        below = _mapping(option, definitions)
        if below is not None and below.get("properties"):
            yield from _rows(below, f"{path}.", definitions)
            continue
        if below is not None and "patternProperties" in below:
            (item,) = below["patternProperties"].values()
            yield from _rows(_resolved(item, definitions), f"{path}.<name>.", definitions)
            continue
        default = "**required**" if name in required else _default(option)
        yield f"`{path}`", _type(option, definitions), default, _escape(_meaning(option, definitions))


def _resolved(option: Schema, definitions: Schema) -> Schema:
    reference = option.get("$ref")
    found: Schema = definitions[reference.removeprefix(_DEFINITIONS)] if reference else option
    return found


def _mapping(option: Schema, definitions: Schema) -> Schema | None:
    """What the option holds, where that is a mapping (or nothing) whose options are known."""
    members = [one for one in option.get("anyOf", [option]) if one.get("type") != "null"]
    found = _resolved(members[0], definitions) if len(members) == 1 else {}
    return found if found.get("type") == "object" else None


def _default(option: Schema) -> str:
    if option.get("const") is not None:
        return ""
    default = option.get("default")
    if default is None or default in ({}, []):
        return "–"
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def _meaning(option: Schema, definitions: Schema) -> str:
    return str(option.get("description") or _resolved(option, definitions).get("description", "")).replace("\n", " ")


def _type(option: Schema, definitions: Schema) -> str:
    names: list[str] = []
    for name in _type_names(option, definitions):
        if name not in names:
            names.append(name)
    return " or ".join(names)


def _type_names(option: Schema, definitions: Schema) -> Iterator[str]:
    reference = option.get("$ref", "").removeprefix(_DEFINITIONS)
    if reference in _TITLES:
        yield f"see {_TITLES[reference]}"
    elif reference == REFERENCE_NAME or option.get("type") == "null" or option == {"const": 0}:
        return
    elif option.get("pattern") in _UNITS:
        yield _UNITS[option["pattern"]]
    elif reference:
        yield from _type_names(definitions[reference], definitions)
    elif members := option.get("anyOf") or option.get("oneOf"):
        is_size = any(one.get("pattern") == SIZE_PATTERN for one in members)
        for one in members:
            if is_size and one.get("type") == "integer":
                continue  # bytes as a bare number: the same thing
            yield from _type_names(one, definitions)
    elif "const" in option:
        yield f"`{option['const']}`"
    elif "enum" in option:
        yield from (f"`{one}`" for one in option["enum"])
    elif option.get("type") == "array":
        yield f"list of {_type(option.get('items', {}), definitions) or 'anything'}"
    else:
        yield _PLAIN.get(option.get("type", ""), "anything") + _range(option)


_UNITS = {DURATION_PATTERN: "duration", SIZE_PATTERN: "size"}
_PLAIN = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "object": "mapping",
}


def _range(option: dict[str, Any]) -> str:
    low, high = option.get("minimum"), option.get("maximum")
    if low is not None and high is not None:
        return f", {low} to {high}"
    if low is not None:
        return f", at least {low}"
    return f", at most {high}" if high is not None else ""


def _escape(text: str) -> str:
    return text.replace("|", "\\|")
