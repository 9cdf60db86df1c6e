"""A source: one shard that counts down to zero, and ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from connector.change import Position, Record, RecordBatch, ShardId
from connector.checkpoints.protocol import CheckpointStore
from connector.sources.protocol import ShardListener, SourceContext

SHARD = "countdown"


class CountdownConfig(BaseModel):
    """Counts down."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: int = Field(ge=1, le=1_000_000, description="the first number")


class Countdown:
    """A position is how many numbers were read."""

    config_model: ClassVar[type[BaseModel]] = CountdownConfig

    def __init__(self, config: CountdownConfig, context: SourceContext) -> None:
        self._start = config.start
        self._context = context
        self._next = 0
        self._paused = False

    def own_checkpoints(self) -> CheckpointStore | None:
        return None

    async def open(self, listener: ShardListener, checkpoints: CheckpointStore) -> None:
        saved = (await checkpoints.load([SHARD])).get(SHARD)
        self._next = saved.position if saved else 0
        await listener.assigned({SHARD: saved})

    async def read(self, records_max: int, wait_s: float) -> Sequence[RecordBatch] | None:
        if self._paused:
            await self._context.clock.sleep(wait_s)
            return []
        if self._next >= self._start:
            return None
        positions = range(self._next, min(self._start, self._next + records_max))
        self._next = positions.stop
        records = [Record(position, str(self._start - position).encode()) for position in positions]
        return [RecordBatch(SHARD, records, self._next)]

    async def pause(self) -> None:
        self._paused = True

    async def resume(self) -> None:
        self._paused = False

    async def ends(self) -> Mapping[ShardId, Position]:
        return {SHARD: self._start}

    async def close(self) -> None:
        return None
