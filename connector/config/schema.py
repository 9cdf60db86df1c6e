"""The JSON Schema (draft 2020-12) of configuration files, with the options of every installed plug-in.

It is what an editor needs: names, types, defaults and meanings. It is looser than the loader in one way: where a value
may come from outside (``${NAME}``) its text cannot be checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from connector import plugins
from connector.config.models import Config
from connector.config.specs import DEAD_LETTER_KIND, PLACEHOLDER, SINK_KIND, SOURCE_KIND, PluginKind
from connector.config.units import DURATION_PATTERN, SIZE_PATTERN, write_duration, write_size
from connector.errors import ConfigError
from connector.plugins import Plugin

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
REFERENCE = {"type": "string", "pattern": r"\$\{", "description": "filled in from outside: ${NAME} or ${file:path}"}
REFERENCE_NAME = "FilledIn"


def build_schema() -> tuple[Schema, list[ConfigError]]:
    """The schema, and why plug-ins are missing from it (one that cannot be imported is left out)."""
    broken: list[ConfigError] = []
    schema = Config.model_json_schema(ref_template="#/$defs/{model}")
    definitions: Schema = schema.pop("$defs")
    for kind in (SOURCE_KIND, SINK_KIND, DEAD_LETTER_KIND):
        definitions[kind.name] = {"oneOf": _plugin_schemas(kind, definitions, broken)}
    schema = {
        "$schema": DIALECT,
        "title": "Millrace configuration",
        **{key: value for key, value in schema.items() if key != "title"},
        "$defs": dict(sorted(definitions.items())),
    }
    schema = _rewrite(schema)
    schema["$defs"][REFERENCE_NAME] = REFERENCE
    _allow_references(schema)
    return schema, broken


def _plugin_schemas(kind: PluginKind, definitions: Schema, broken: list[ConfigError]) -> list[Schema]:
    references = []
    for name, plugin in kind.installed().items():
        model = _options_model(plugin, broken)
        if model is None:
            continue
        prefix = f"{kind.name}.{name}"
        own = model.model_json_schema(ref_template=f"#/$defs/{prefix}.{{model}}")
        definitions.update({f"{prefix}.{key}": value for key, value in own.pop("$defs", {}).items()})
        common = kind.common.model_json_schema()
        properties = {**common["properties"], **own.get("properties", {})}
        properties["type"] = {"const": name, "description": own.get("description", "").split("\n")[0]}
        if "format" in common["properties"]:
            properties["format"] = {**properties["format"], "enum": list(plugins.codecs())}
        required = [*common["required"], *own.get("required", [])]
        if kind is DEAD_LETTER_KIND:
            required = [one for one in required if one not in getattr(plugin.load(), "from_source", ())]
        definitions[prefix] = {
            **own,
            "title": f"{_SINGULAR[kind.name]} {name}",
            "properties": properties,
            "required": required,
            "additionalProperties": own.get("additionalProperties", False),
        }
        references.append({"$ref": f"#/$defs/{prefix}"})
    return references


_SINGULAR = {"sources": "source", "sinks": "sink", "dead_letters": "dead letters"}


def _options_model(plugin: Plugin, broken: list[ConfigError]) -> type[BaseModel] | None:
    try:
        model: type[BaseModel] = plugin.load().config_model
    except ConfigError as error:
        broken.append(error)
        return None
    return model


def _rewrite(node: Any) -> Any:
    """Put plug-ins in their places, and write defaults as people do."""
    if isinstance(node, list):
        return [_rewrite(item) for item in node]
    if not isinstance(node, dict):
        return node
    if PLACEHOLDER in node:
        rest = {key: value for key, value in node.items() if key != PLACEHOLDER}
        return {"$ref": f"#/$defs/{node[PLACEHOLDER]}", **rest}
    rewritten = {key: _rewrite(value) for key, value in node.items()}
    if "patternProperties" in rewritten:
        rewritten.setdefault("additionalProperties", False)
    if isinstance(properties := rewritten.get("properties"), dict):
        rewritten["properties"] = {name: _write_default(one) for name, one in properties.items()}
    return rewritten


def _write_default(option: Schema) -> Schema:
    """``30.0`` as ``30s``, where the option is a duration, and ``67108864`` as ``64MiB``, where it is a size."""
    default = option.get("default")
    if isinstance(default, bool) or not isinstance(default, int | float):
        return option
    writers: Mapping[str, Callable[[Any], str]] = {DURATION_PATTERN: write_duration, SIZE_PATTERN: write_size}
    for pattern, write in writers.items():
        if pattern in _patterns(option):
            return {**option, "default": write(default)}
    return option


def _patterns(option: Any) -> set[str]:
    """Every ``pattern`` in a schema."""
    if isinstance(option, list):
        return {pattern for item in option for pattern in _patterns(item)}
    if not isinstance(option, dict):
        return set()
    below = {pattern for value in option.values() for pattern in _patterns(value)}
    return below | {option["pattern"]} if isinstance(option.get("pattern"), str) else below


_ABOUT = ("title", "description", "default", "examples")
_SCALARS = ("string", "integer", "number", "boolean", "null")
_FREE = {"type", "minLength", "maxLength", "format", "writeOnly"}


def _allow_references(schema: Schema) -> None:
    """Allow ``${NAME}`` for every option whose own schema would refuse such a text."""
    definitions: Schema = schema["$defs"]
    for owner in (schema, *definitions.values()):
        for name, option in owner.get("properties", {}).items():
            owner["properties"][name] = _or_reference(option, definitions)


def _or_reference(option: Schema, definitions: Schema) -> Schema:
    if _takes_any_text(option) or not _is_scalar(option, definitions):
        return option
    about = {key: value for key, value in option.items() if key in _ABOUT}
    core = {key: value for key, value in option.items() if key not in _ABOUT}
    members = core["anyOf"] if set(core) == {"anyOf"} else [core]
    return {**about, "anyOf": [*members, {"$ref": f"#/$defs/{REFERENCE_NAME}"}]}


def _takes_any_text(option: Schema) -> bool:
    members = option.get("anyOf", [option])
    return any(one.get("type") == "string" and set(one) - set(_ABOUT) <= _FREE for one in members)


def _is_scalar(option: Schema, definitions: Schema) -> bool:
    """Whether the option is a value (in all of its forms) and not a mapping, a list, or a plug-in's ``type``."""
    if "anyOf" in option:
        return all(_is_scalar(one, definitions) for one in option["anyOf"])
    if reference := option.get("$ref"):
        return _is_scalar(definitions.get(reference.removeprefix("#/$defs/"), {}), definitions)
    return (
        "enum" in option
        or option == {"const": 0}
        or option.get("type") in ("string", "integer", "number", "boolean", "null")
    )
