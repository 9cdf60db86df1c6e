"""The sink ``redis``: drops the cache keys that a change makes untrue, or keeps items under their keys.

config.py          what a user may write
server.py          one server or a cluster, and what its failures mean
invalidate.py      UNLINK of templated keys
write_through.py   versioned values, and the recipes for readers
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel

from connector.change import Change
from connector.sink import Needs, Outcome, Semantics, SinkContext
from sinks.redis.config import RedisSinkConfig
from sinks.redis.invalidate import Invalidation
from sinks.redis.server import Server
from sinks.redis.write_through import WriteThrough


class RedisSink:
    """See ``connector.sink.Sink``."""

    config_model: ClassVar[type[BaseModel]] = RedisSinkConfig
    lanes_default: ClassVar[int] = 2
    batch_size_default: ClassVar[int] = 2_000

    semantics = Semantics.STATE

    def __init__(self, config: RedisSinkConfig, context: SinkContext) -> None:
        self._server = Server(config)
        self._mode: Invalidation | WriteThrough
        if config.write is not None:
            self._mode = WriteThrough(self._server, config.write, key_bytes_max=config.key_bytes_max)
            self.needs = Needs.NEW_IMAGE
        else:
            assert config.invalidate is not None, "the model takes exactly one of invalidate and write"
            self._mode = Invalidation(
                self._server, config.invalidate, missing=config.missing, key_bytes_max=config.key_bytes_max
            )
            # Which attributes are the key's is known only when changes come: a template over others then needs images.
            self.needs = Needs.NOTHING
        self.place_attributes = self._mode.place_attributes

    async def open(self) -> None:
        """Connect, and try what will be done. Raises ConfigError, SinkUnavailable."""
        await self._server.open()
        await self._mode.open()

    async def write(self, batch: Sequence[Change]) -> Sequence[Outcome]:
        """See ``Sink.write``."""
        return await self._mode.write(batch)

    async def close(self) -> None:
        """Let go of every connection."""
        await self._server.close()

    def describe(self) -> str:
        """For ``millrace check``: what answers, what is done there, and which images that takes."""
        names = ", ".join(sorted(self.place_attributes)) or "no attribute"
        return (
            f"{self._server.about}; {self._mode.describe()}; keys are made of {names}: where one of these is not part "
            "of the item's key, the old place is known only from a stream that carries old images"
        )
