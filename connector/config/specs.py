"""Which plug-in a configuration chose, with its options already checked by the plug-in's own model."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, ValidationInfo, WithJsonSchema
from pydantic_core import InitErrorDetails, PydanticCustomError

from connector import plugins
from connector.errors import ConfigError
from connector.plugins import Plugin

View = Literal["KEYS_ONLY", "NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES"]
"""Which images a change log carries, in DynamoDB's words."""

PluginClass = type[Any]
"""A class that an entry point named; ``connector.plugins`` has checked its shape."""

PLACEHOLDER = "x-millrace-plugins"
"""Marks in a JSON Schema where the options of plug-ins of a kind belong (connector.config.schema)."""


@dataclass(frozen=True, slots=True)
class PluginSpec:
    """A chosen sink or dead-letter destination: ``plugin_class`` is made with ``options`` (nothing is made yet)."""

    type: str
    plugin_class: PluginClass
    options: BaseModel

    def for_show(self) -> dict[str, Any]:
        """What ``connector.config.secrets.shown`` prints of it."""
        return {"type": self.type, "options": self.options}

    def __repr__(self) -> str:
        return f"PluginSpec(type={self.type!r})"  # options may hold a URL with a password


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A chosen source, with what every source has beside its own options."""

    type: str
    plugin_class: PluginClass
    options: BaseModel
    format: str
    codec_class: PluginClass
    view: View | None
    key_attributes: tuple[str, ...]

    def for_show(self) -> dict[str, Any]:
        """What ``connector.config.secrets.shown`` prints of it."""
        return {
            "type": self.type,
            "format": self.format,
            "view": self.view,
            "key_attributes": self.key_attributes,
            "options": self.options,
        }

    def __repr__(self) -> str:
        return f"SourceSpec(type={self.type!r}, format={self.format!r}, view={self.view!r})"


class TypeOption(BaseModel):
    """The option that every plug-in has."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    type: str = Field(description="which plug-in: the name of an installed one")


class SourceOptions(BaseModel):
    """The options that every source has, beside its own."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    type: str = Field(description="which source: the name of an installed one")
    format: str = Field(description="how its records are decoded: the name of an installed codec")
    view: View | None = Field(
        default=None,
        description="which images its changes carry, if that is known: a route that needs another is then refused at "
        "start instead of failing change by change",
    )
    key_attributes: list[str] = Field(
        default=[],
        max_length=16,
        description="the names of the key's attributes, if they are known: a `where` on these alone needs no image",
    )


@dataclass(frozen=True, slots=True)
class PluginKind:
    """Marks a field whose options are a plug-in's: which registry, and which options all of that kind have."""

    name: Literal["sources", "sinks", "dead_letters"]
    common: type[BaseModel]

    def installed(self) -> Mapping[str, Plugin]:
        """The plug-ins that may be named here."""
        registry: Callable[[], Mapping[str, Plugin]] = getattr(plugins, self.name)
        return registry()


SOURCE_KIND = PluginKind("sources", SourceOptions)
SINK_KIND = PluginKind("sinks", TypeOption)
DEAD_LETTER_KIND = PluginKind("dead_letters", TypeOption)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'kafka'?"`` or nothing, where nothing is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


class Problems:
    """Collects what is wrong with one value, to raise all of it at once, with paths relative to the value."""

    def __init__(self) -> None:
        self._details: list[InitErrorDetails] = []

    def add(self, code: str, message: str, path: tuple[str | int, ...] = ()) -> None:
        """Note one problem. The value itself is never kept."""
        self._details.append(InitErrorDetails(type=PydanticCustomError(code, _literal(message)), loc=path, input=None))

    def add_all(self, error: ValidationError) -> None:
        """Note what another model found."""
        for one in error.errors(include_url=False, include_input=False):
            context = {name: str(value) for name, value in one.get("ctx", {}).items()}
            custom = PydanticCustomError(_literal(one["type"]), _literal(one["msg"]), context or None)
            self._details.append(InitErrorDetails(type=custom, loc=one["loc"], input=None))

    def raise_any(self) -> None:
        """Raise what was noted, if anything was. Pydantic puts it in its place in the whole configuration."""
        if self._details:
            raise ValidationError.from_exception_data("configuration", self._details)


def _literal(text: Any) -> Any:
    """Pydantic types its messages as literal strings; ours are computed."""
    return text


def _resolve_source(raw: Any, info: ValidationInfo) -> SourceSpec:
    problems = Problems()
    common, plugin_class, options = _resolve(raw, SOURCE_KIND, info, problems)
    format_name = raw["format"] if isinstance(raw, dict) and isinstance(raw.get("format"), str) else None
    codec_class = _load(format_name, plugins.codecs(), "format", problems) if format_name is not None else None
    problems.raise_any()
    assert isinstance(common, SourceOptions)
    assert plugin_class is not None
    assert options is not None
    assert codec_class is not None
    return SourceSpec(
        type=common.type,
        plugin_class=plugin_class,
        options=options,
        format=common.format,
        codec_class=codec_class,
        view=common.view,
        key_attributes=tuple(common.key_attributes),
    )


def _resolve_other(raw: Any, kind: PluginKind, info: ValidationInfo) -> PluginSpec:
    problems = Problems()
    common, plugin_class, options = _resolve(raw, kind, info, problems)
    problems.raise_any()
    assert isinstance(common, TypeOption)
    assert plugin_class is not None
    assert options is not None
    return PluginSpec(common.type, plugin_class, options)


def _resolve(
    raw: Any, kind: PluginKind, info: ValidationInfo, problems: Problems
) -> tuple[BaseModel | None, type[Any] | None, BaseModel | None]:
    """The common options, the class and its own options; each is None where ``problems`` says why."""
    if not isinstance(raw, dict):
        problems.add("mapping", "must be a mapping with at least 'type:'")
        return None, None, None
    common, plugin_class, options = None, None, None
    try:
        common = kind.common.model_validate({name: raw[name] for name in kind.common.model_fields if name in raw})
    except ValidationError as error:
        problems.add_all(error)
    if isinstance(name := raw.get("type"), str):
        plugin_class = _load(name, kind.installed(), "type", problems)
    if plugin_class is not None:
        own = {key: value for key, value in raw.items() if key not in kind.common.model_fields}
        options = _validate_options(plugin_class.config_model, own, info, problems)
    return common, plugin_class, options


def _load(name: str, installed: Mapping[str, Plugin], option: str, problems: Problems) -> type[Any] | None:
    plugin = installed.get(name)
    if plugin is None:
        known = ", ".join(installed) or "none"
        problems.add(
            "unknown_plugin", f"{name!r} is not installed{did_you_mean(name, installed)} (known: {known})", (option,)
        )
        return None
    try:
        return plugin.load()
    except ConfigError as error:
        problems.add("broken_plugin", error.message, (option,))
        return None


def _validate_options(
    model: type[BaseModel], own: dict[str, Any], info: ValidationInfo, problems: Problems
) -> BaseModel | None:
    """The plug-in's options. One that its model would silently ignore is an error all the same."""
    if model.model_config.get("extra", "ignore") == "ignore":
        known = {spelling for name, field in model.model_fields.items() for spelling in (name, field.alias)}
        for key in own.keys() - known:
            problems.add("extra_forbidden", "unknown option", (key,))
    try:
        return model.model_validate(own, context=info.context)
    except ValidationError as error:
        problems.add_all(error)
    except ConfigError as error:
        problems.add("plugin", error.message, error.path)
    except Exception as error:  # a bug in a plug-in's model is told with all the other errors of the file
        problems.add("plugin", f"the plug-in failed: {type(error).__name__}: {error}")
    return None


def _validator(kind: PluginKind) -> PlainValidator:
    return PlainValidator(lambda raw, info: _resolve_other(raw, kind, info))


Source = Annotated[
    SourceSpec, PlainValidator(_resolve_source), SOURCE_KIND, WithJsonSchema({PLACEHOLDER: SOURCE_KIND.name})
]
"""A field that holds a source."""
Sink = Annotated[PluginSpec, _validator(SINK_KIND), SINK_KIND, WithJsonSchema({PLACEHOLDER: SINK_KIND.name})]
"""A field that holds a sink."""
DeadLetterDestination = Annotated[
    PluginSpec, _validator(DEAD_LETTER_KIND), DEAD_LETTER_KIND, WithJsonSchema({PLACEHOLDER: DEAD_LETTER_KIND.name})
]
"""A field that holds a dead-letter destination."""


def inherit_from_source(pipeline: Any) -> Any:
    """A raw pipeline whose dead letters go where its source is: the connection need not be written twice.

    A dead-letter class may name options in ``from_source``. Where the destination and the source are of one type, those
    are taken from the source, all of them or none: who writes one means another place, which must not be sent the
    source's credentials. It holds for each of several ``destinations``, too.
    """
    match pipeline:
        case {"source": dict(source), "dead_letter": {"destinations": list(several), **rest}}:
            inherited = [_inherited(source, one) for one in several]
            return {**pipeline, "dead_letter": {**rest, "destinations": inherited}}
        case {"source": dict(source), "dead_letter": written}:
            return {**pipeline, "dead_letter": _inherited(source, written)}
        case _:
            return pipeline


def _inherited(source: dict[str, Any], written: Any) -> Any:
    if not isinstance(written, dict) or not isinstance(name := written.get("type"), str) or name != source.get("type"):
        return written
    plugin = plugins.dead_letters().get(name)
    try:
        shared: frozenset[str] = getattr(plugin.load(), "from_source", frozenset()) if plugin else frozenset()
    except ConfigError:
        return written  # told where the destination itself is resolved
    if shared & written.keys():
        return written
    return {**{key: source[key] for key in sorted(shared) if key in source}, **written}
