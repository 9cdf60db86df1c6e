"""Plug-ins that exist only in these tests, and a configuration that uses them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from connector import plugins
from connector.change import Change, Position, Record, RecordBatch, ShardId
from connector.checkpoints.protocol import CheckpointStore
from connector.codecs.protocol import Decoded
from connector.config.load import ConfigErrors, load_text
from connector.config.models import Config
from connector.config.units import Duration, Secret
from connector.deadletter.envelope import DeadLetter
from connector.deadletter.protocol import LetterState, StoredLetter
from connector.errors import ConfigError
from connector.plugins import Plugin
from connector.sink import Needs, Outcome, Semantics, SinkContext
from connector.sources.protocol import ShardListener, SourceContext


class LogSourceConfig(BaseModel):
    """A change log like Kafka's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    brokers: list[str] = Field(min_length=1, description="where the brokers are")
    topics: list[str] = Field(min_length=1, description="the topics to read")
    group: str = Field(description="the consumer group")
    port: int = Field(default=1, strict=True, description="a number")
    password: Secret | None = Field(default=None, description="a password")
    start: Literal["earliest", "latest"] | Duration = Field(default="earliest", description="where to begin")


class LogSource:
    """Keeps positions of its own where its group is not called ``stateless``."""

    config_model: ClassVar[type[BaseModel]] = LogSourceConfig

    def __init__(self, config: LogSourceConfig, context: SourceContext) -> None:
        if config.group == context.pipeline + "!":
            raise ConfigError("the group may not end in !", path=("group",))

    def own_checkpoints(self) -> CheckpointStore | None:
        return None

    async def open(self, listener: ShardListener, checkpoints: CheckpointStore) -> None: ...

    async def read(self, records_max: int, wait_s: float) -> Sequence[RecordBatch] | None: ...

    async def pause(self) -> None: ...

    async def resume(self) -> None: ...

    async def ends(self) -> Mapping[ShardId, Position]:
        return {}

    async def close(self) -> None: ...


class LinesCodec:
    """Finds no change in anything."""

    name = "lines"

    def decode(self, shard: ShardId, records: Sequence[Record]) -> Decoded:
        return Decoded([], [], len(records))


class PlaceSinkConfig(BaseModel):
    """A sink that needs what it is told to need."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(description="where it is")
    id: str = Field(default="{pk}", description="a template")
    needs: Literal["nothing", "new", "old", "both"] = Field(default="nothing", description="which images it needs")
    token: Secret | None = Field(default=None, description="a token")
    timeout: Duration = Field(default=10.0, description="a duration")
    fields: dict[str, dict[str, int]] = Field(default={}, description="nested options")


_NEEDS = {
    "nothing": Needs.NOTHING,
    "new": Needs.NEW_IMAGE,
    "old": Needs.OLD_IMAGE,
    "both": Needs.NEW_IMAGE | Needs.OLD_IMAGE,
}


class PlaceSink:
    """Refuses templates without a brace, and falls over at one address."""

    config_model: ClassVar[type[BaseModel]] = PlaceSinkConfig
    lanes_default: ClassVar[int] = 2
    batch_size_default: ClassVar[int] = 500
    semantics = Semantics.STATE
    place_attributes: frozenset[str] = frozenset()

    def __init__(self, config: PlaceSinkConfig, context: SinkContext) -> None:
        if "{" not in config.id:
            raise ConfigError("the template names no attribute", path=("id",))
        if config.url.startswith("broken://"):
            raise RuntimeError(f"cannot use {config.url}")
        self.needs = _NEEDS[config.needs]

    async def open(self) -> None: ...

    async def write(self, batch: Sequence[Change]) -> Sequence[Outcome]:
        return []

    async def close(self) -> None: ...


class TopicLettersConfig(BaseModel):
    """Dead letters in a topic."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    brokers: list[str] = Field(description="where the brokers are")
    topic: str = Field(description="the topic")
    password: Secret | None = Field(default=None, description="a password")


class TopicLetters:
    """Takes its brokers from a source of the same type."""

    config_model: ClassVar[type[BaseModel]] = TopicLettersConfig
    from_source: ClassVar[frozenset[str]] = frozenset({"brokers", "password"})

    def __init__(self, config: TopicLettersConfig, pipeline: str) -> None: ...

    async def open(self) -> None: ...

    async def append(self, letters: Sequence[DeadLetter]) -> None: ...

    async def letters(self, *, include_done: bool = False) -> AsyncIterator[StoredLetter]:
        return
        yield

    async def mark(self, ids: Sequence[str], state: LetterState, outcome: str = "") -> None: ...

    async def close(self) -> None: ...


class LooseSinkConfig(BaseModel):
    """A model that would silently ignore what it does not know."""

    url: str = "nowhere"


class LooseSink(PlaceSink):
    """A third party's sink with such a model."""

    config_model = LooseSinkConfig

    def __init__(self, config: LooseSinkConfig, context: SinkContext) -> None:
        self.needs = Needs.NOTHING


@dataclass(frozen=True)
class LoadedPoint:
    """An entry point that is imported already."""

    loaded: Any
    dist: Any = None

    def load(self) -> Any:
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded


def registry(group: str, **classes: Any) -> Mapping[str, Plugin]:
    """A registry of loaded plug-ins."""
    points: dict[str, Any] = {name: LoadedPoint(loaded) for name, loaded in classes.items()}
    return MappingProxyType({name: Plugin(group, name, (point,)) for name, point in sorted(points.items())})


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the fakes the only plug-ins."""
    found = {
        "sources": registry(plugins.SOURCES, log=LogSource, broken=ImportError("no module named 'gone'")),
        "codecs": registry(plugins.CODECS, lines=LinesCodec),
        "sinks": registry(plugins.SINKS, place=PlaceSink, loose=LooseSink),
        "dead_letters": registry(plugins.DEAD_LETTERS, log=TopicLetters),
    }
    for name, plugins_of_kind in found.items():
        monkeypatch.setattr(plugins, name, lambda answer=plugins_of_kind: answer)


CONFIG = """\
pipelines:
  orders:
    source:
      type: log
      brokers: [localhost:9092]
      topics: [orders.changes]
      group: millrace-orders
      format: lines
    dead_letter: {type: log, topic: orders.dlq}
    routes:
      search:
        where: {status: {S: [{anything-but: [DRAFT]}]}}
        sink: {type: place, url: "https://search.internal:9200", id: "{pk}|{sk}"}
      cache:
        when: {eventName: [MODIFY, REMOVE]}
        sink:
          type: place
          url: redis://cache.internal
"""


def errors_of(text: str | bytes, env: Mapping[str, str] | None = None, folder: Path = Path()) -> list[str]:
    """Everything that is wrong with a configuration, as it would be printed; empty for a right one."""
    raw = text.encode() if isinstance(text, str) else text
    try:
        load_text(raw, file="m.yaml", folder=folder, env=env or {})
    except ConfigErrors as errors:
        return [str(error) for error in errors.errors]
    return []


def config_of(text: str, env: Mapping[str, str] | None = None, folder: Path = Path()) -> Config:
    """A configuration that is right."""
    return load_text(text.encode(), file="m.yaml", folder=folder, env=env or {})
