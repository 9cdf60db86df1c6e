"""What can be known to be wrong before anything is connected: options that do not fit each other.

Sources, sinks and dead-letter destinations are made for this, as the daemon makes them; making one does no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from connector.clock import SystemClock
from connector.config.models import Config, PipelineConfig, RouteConfig
from connector.config.secrets import hide, secrets_in
from connector.config.specs import SourceSpec
from connector.config.yaml import Path
from connector.deadletter.protocol import is_readable
from connector.errors import ConfigError
from connector.filters import compile_when, needed_images_of_where
from connector.filters.when import ALL_EVENT_NAMES
from connector.sink import Needs, Semantics, SinkContext
from connector.snapshot.fits import misfit
from connector.sources.protocol import SourceContext

_CARRIED = {
    "KEYS_ONLY": Needs.NOTHING,
    "NEW_IMAGE": Needs.NEW_IMAGE,
    "OLD_IMAGE": Needs.OLD_IMAGE,
    "NEW_AND_OLD_IMAGES": Needs.NEW_IMAGE | Needs.OLD_IMAGE,
}
_KEYS_HINT = " (where it asks for the key's attributes only: name those in source.key_attributes)"
_IMAGE_NAMES = {Needs.NEW_IMAGE: "new", Needs.OLD_IMAGE: "old"}


def check(config: Config) -> list[ConfigError]:
    """What is wrong inside one configuration, each with its path."""
    errors = [
        error
        for name, pipeline in config.pipelines.items()
        for error in _check_pipeline(name, pipeline, ("pipelines", name))
    ]
    return errors + [
        ConfigError(message, path=("pipelines", name, "source"))
        for name, message in _shared_groups(list(config.pipelines.items()))
    ]


def check_together(configs: Mapping[str, Config]) -> list[ConfigError]:
    """What is wrong between configurations (by file) that run in one process."""
    errors = []
    pipelines: list[tuple[str, PipelineConfig]] = []
    files: dict[str, str] = {}
    for file, config in configs.items():
        for name, pipeline in config.pipelines.items():
            if name in files:
                errors.append(
                    ConfigError(
                        f"the pipeline {name!r} is in {files[name]} too: they would share metrics and checkpoints",
                        path=("pipelines", name),
                        file=file,
                    )
                )
                continue
            files[name] = file
            pipelines.append((name, pipeline))
    for part in ("admin", "log"):
        written = [(file, getattr(config, part)) for file, config in configs.items() if part in config.model_fields_set]
        errors += [
            ConfigError(f"says something else than {written[0][0]}: one process has one", path=(part,), file=file)
            for file, options in written[1:]
            if options != written[0][1]
        ]
    errors += [
        ConfigError(message, path=("pipelines", name, "source"), file=files[name])
        for name, message in _shared_groups(pipelines)
    ]
    return errors


def _check_pipeline(name: str, pipeline: PipelineConfig, path: Path) -> Iterator[ConfigError]:
    source, dead_letter = pipeline.source, pipeline.dead_letter
    made, errors = _make((*path, "source"), source.plugin_class, source.options, _source_context(name))
    yield from errors
    if made is not None and pipeline.checkpoints.type == "source" and made.own_checkpoints() is None:
        yield ConfigError(
            f"the source {source.type!r} keeps no checkpoints of its own: use sqlite",
            path=(*path, "checkpoints", "type"),
        )
    if pipeline.checkpoints.type == "sqlite" and getattr(source.options, "leases", None) is not None:
        yield ConfigError(
            "the rows of the source's leases keep the checkpoints: leave this out", path=(*path, "checkpoints", "type")
        )
    if pipeline.snapshot != "never" and made is not None and (why := misfit(pipeline, made)) is not None:
        yield ConfigError(why, path=(*path, "snapshot"))
    letters, errors = _make((*path, "dead_letter"), dead_letter.plugin_class, dead_letter.options, name)
    yield from errors
    for place in (dead_letter, *getattr(dead_letter.options, "destinations", ())):
        topic = _topics(place.options) & _topics(source.options)
        if topic and source.type == place.type and _may_be_one_place(place.options, source.options):
            yield ConfigError(
                f"the dead letters would go to {sorted(topic)[0]!r}, which the source reads: an endless circle",
                path=(*path, "dead_letter"),
            )
    for route_name, route in pipeline.routes.items():
        if route.on_poison == "hold_key" and letters is not None and not is_readable(letters):
            yield ConfigError(
                f"hold_key needs dead letters that can be read again, and those of {dead_letter.type!r} cannot: after "
                "a restart nobody would know which keys are held",
                path=(*path, "routes", route_name, "on_poison"),
            )
    for route_name, route in pipeline.routes.items():
        yield from _check_route(name, route_name, route, source, (*path, "routes", route_name))


def _check_route(pipeline: str, name: str, route: RouteConfig, source: SourceSpec, path: Path) -> Iterator[ConfigError]:
    context = SinkContext(pipeline=pipeline, route=name, clock=SystemClock())
    sink, errors = _make((*path, "sink"), route.sink.plugin_class, route.sink.options, context)
    yield from errors
    if (view := source.view) is None:
        return
    wanted = {"sink": sink.needs if sink is not None else Needs.NOTHING}
    event_names = ALL_EVENT_NAMES
    if route.when is not None:
        changes = compile_when(route.when)
        event_names, wanted["when"] = changes.event_names, changes.needs
    if route.where is not None and sink is not None:
        wanted["where"] = needed_images_of_where(
            route.where,
            state=sink.semantics is Semantics.STATE,
            event_names=event_names,
            key_attributes=source.key_attributes,
        )
    for part, needs in wanted.items():
        for image in needs & ~_CARRIED[view]:
            yield ConfigError(
                f"needs the {_IMAGE_NAMES[image]} image, which a stream with the view {view} does not carry"
                + (_KEYS_HINT if part == "where" else ""),
                path=(*path, part),
            )


def _make(path: Path, plugin_class: type[Any], *arguments: Any) -> tuple[Any, list[ConfigError]]:
    """The plug-in's instance, or what is wrong with its options."""
    try:
        return plugin_class(*arguments), []
    except ConfigError as error:
        return None, [ConfigError(error.message, path=(*path, *error.path))]
    except Exception as error:  # a plug-in's bug is its user's to know, with all the other errors of the file
        message = f"the plug-in failed: {type(error).__name__}: {error}"
        for secret in secrets_in(list(arguments)):
            message = hide(message, secret, parts=True)
        return None, [ConfigError(message, path=path)]


def _source_context(pipeline: str) -> SourceContext:
    return SourceContext(pipeline=pipeline, clock=SystemClock())


def _shared_groups(pipelines: list[tuple[str, PipelineConfig]]) -> Iterator[tuple[str, str]]:
    """Pipelines that would take each other's changes: one consumer group, and a topic in common."""
    for index, (name, pipeline) in enumerate(pipelines):
        for other_name, other in pipelines[:index]:
            mine, theirs = pipeline.source, other.source
            if mine.type != theirs.type or not (group := getattr(mine.options, "group", None)):
                continue
            shared = _topics(mine.options) & _topics(theirs.options)
            same_group = group == getattr(theirs.options, "group", None)
            if shared and same_group and _may_be_one_place(mine.options, theirs.options):
                yield (
                    name,
                    f"reads {sorted(shared)[0]!r} in the group {group!r} as the pipeline {other_name!r} does: each "
                    "would get only a part of the changes; give it a group of its own",
                )


def _may_be_one_place(options: Any, others: Any) -> bool:
    """Whether two plug-ins may speak to one cluster: they do not where each names brokers and none is in common."""
    brokers, other_brokers = getattr(options, "brokers", None), getattr(others, "brokers", None)
    if not brokers or not other_brokers:
        return True
    return not set(brokers).isdisjoint(other_brokers)


def _topics(options: Any) -> set[str]:
    """The topics that a plug-in's options name, by the names that such options have everywhere."""
    topics = getattr(options, "topics", ())
    topic = getattr(options, "topic", None)
    listed = (
        {one for one in topics if isinstance(one, str)} if isinstance(topics, list | tuple | set | frozenset) else set()
    )
    return listed | ({topic} if isinstance(topic, str) else set())
