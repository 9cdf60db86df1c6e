"""A sink: a text file with one line a change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from connector.change import Change
from connector.errors import ConfigError
from connector.sink import APPLIED, Needs, Outcome, Semantics, SinkContext


class LinesConfig(BaseModel):
    """One line a change, at the end of a file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(min_length=1, description="the file")


class LinesSink:
    """Every change counts, so none is superseded."""

    config_model: ClassVar[type[BaseModel]] = LinesConfig
    lanes_default: ClassVar[int] = 1
    batch_size_default: ClassVar[int] = 100
    semantics = Semantics.EVENT
    place_attributes: frozenset[str] = frozenset()
    needs = Needs.NOTHING

    def __init__(self, config: LinesConfig, context: SinkContext) -> None:
        if config.path.endswith("/"):
            raise ConfigError("names a folder, not a file", path=("path",))
        self._path = Path(config.path)

    async def open(self) -> None:
        self._path.touch()

    async def write(self, batch: Sequence[Change]) -> Sequence[Outcome]:
        with self._path.open("a") as file:
            file.writelines(f"{change.event_name} {change.key}\n" for change in batch)
        return [APPLIED] * len(batch)

    async def close(self) -> None:
        return None
