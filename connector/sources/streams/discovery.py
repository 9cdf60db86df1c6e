"""Finding streams and their shards: listings page by page, each call on its own, so that a slow or failing API only
makes it slower. What was found is never thrown away, and a failed page is asked for again, not the whole list."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from connector.sources.streams.api import Denied, NotFound, Stream, StreamApi
from connector.sources.streams.lineage import Lineage

SHARDS_MAX = 100_000


class Followed(msgspec.Struct):
    """A stream that is read, or will be when the one before it is over."""

    stream: Stream
    lineage: Lineage
    placed: bool = False
    """The starts of its first shards are settled (and saved)."""
    missing: int = 0
    """How often in a row the API did not know it any more."""


class Discovery:
    """Walks through the listings of the followed streams, one call a step."""

    def __init__(self, api: StreamApi) -> None:
        self.followed: dict[str, Followed] = {}
        """By the stream's name, the oldest first."""
        self.streams_seen = False
        self.complete_at: float | None = None
        self._api = api
        self._queue: list[Followed] = []
        self._after: str | None = None
        self._ended = False

    async def find_streams(self) -> list[Stream]:
        """The streams that there are and that are not followed yet, the oldest first."""
        found = await self._api.streams()
        self.streams_seen = True
        return [stream for stream in sorted(found, key=lambda each: each.name) if stream.name not in self.followed]

    def follow(self, stream: Stream, remembered: Mapping[str, int | None], *, whole: bool) -> Followed:
        """Read this stream, too, after those before it."""
        followed = self.followed[stream.name] = Followed(stream, Lineage(remembered, whole=whole))
        self.followed = dict(sorted(self.followed.items()))
        return followed

    def drop(self, followed: Followed) -> None:
        """It is over."""
        del self.followed[followed.stream.name]
        if followed in self._queue:
            self._queue.remove(followed)
            self._after = None

    async def step(self) -> bool:
        """One page of one listing. True when that was the last page of the last one. Raises StreamApiError; what was
        asked for is asked for again at the next step."""
        if not self._queue:
            self._queue = list(self.followed.values())
            self._after = None
            if not self._queue:
                return True
        followed = self._queue[0]
        try:
            page = await self._api.describe(followed.stream, self._after)
        except NotFound:
            if self._after is None:
                followed.missing += 1
                self._next_listing()
                return not self._queue
            self._after = None  # the shard that it went on from is gone: from the first page again
            raise
        except Denied:
            self._after = None  # or the service refuses to go on there
            raise
        if followed not in self._queue:
            return False  # dropped meanwhile
        followed.missing = 0
        lineage = followed.lineage
        if self._after is None:
            # Shards that come while the listing goes on are not in it for sure: only its beginning counts.
            self._ended = page.ended
        lineage.add(page.shards)
        assert len(lineage) <= SHARDS_MAX, "no stream has so many shards"
        if page.next_after is not None:
            self._after = page.next_after
            return False
        lineage.end_pass(ended=self._ended)
        self._next_listing()
        return not self._queue

    def _next_listing(self) -> None:
        self._queue.pop(0)
        self._after = None
