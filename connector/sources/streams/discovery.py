"""Finding streams and their shards: listings page by page, each call on its own, so that a slow or failing API only
makes it slower. What was found is never thrown away, and a failed page is asked for again, not the whole list."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from connector.errors import SourceError
from connector.sources.streams.api import Denied, NotFound, Stream, StreamApi
from connector.sources.streams.lineage import PASSES_TO_BELIEVE, Lineage

SHARDS_MAX = 100_000
REFUSALS_TO_BELIEVE = 5


class Followed(msgspec.Struct):
    """A stream that is read, or will be when the one before it is over."""

    stream: Stream
    lineage: Lineage
    placed: bool = False
    """The starts of its first shards are settled (and saved)."""
    missing: int = 0
    """How often in a row the API did not know it any more."""

    @property
    def gone(self) -> bool:
        """The API does not know it any more, surely."""
        return self.missing >= PASSES_TO_BELIEVE


class Discovery:
    """Walks through the listing of the stream that is read at present, one call a step."""

    def __init__(self, api: StreamApi) -> None:
        self.followed: dict[str, Followed] = {}
        """By the stream's name, the oldest first: that is the present one, the others come after it."""
        self.listed: set[str] = set()
        """The names of the streams that there are."""
        self._api = api
        self._over: set[str] = set()
        self._listing: Followed | None = None
        self._after: str | None = None
        self._ended = False
        self._refusals = 0

    async def find_streams(self) -> list[Stream]:
        """The streams that there are and that were not followed yet, the oldest first."""
        found = await self._api.streams()
        self.listed = {stream.name for stream in found}
        new = [stream for stream in found if stream.name not in self.followed and stream.name not in self._over]
        return sorted(new, key=lambda each: each.name)

    def follow(self, stream: Stream, remembered: Mapping[str, int | None], *, whole: bool) -> None:
        """Read this stream, too, after those before it."""
        self.followed[stream.name] = Followed(stream, Lineage(remembered, whole=whole))
        self.followed = dict(sorted(self.followed.items()))

    def drop(self, followed: Followed) -> None:
        """It is over; the next one is the present one."""
        del self.followed[followed.stream.name]
        self._over.add(followed.stream.name)

    async def step(self) -> bool:
        """One page of the listing. True when that was the last one (or there is nothing to list).

        Raises StreamApiError; the page is asked for again at the next step.
        """
        followed = next(iter(self.followed.values()), None)
        if followed is None:
            return True
        if followed is not self._listing:
            self._listing, self._after = followed, None
        try:
            page = await self._api.describe(followed.stream, self._after)
        except NotFound:
            if self._after is None:
                followed.missing += 1
                return True
            self._after = None  # the shard that it went on from is gone: from the first page again
            raise
        except Denied:
            self._refusals += 1
            if self._refusals % REFUSALS_TO_BELIEVE == 0:
                self._after = None  # perhaps the service refuses to go on from there
            raise
        self._refusals = 0
        followed.missing = 0
        if self._after is None:
            # Shards that come while the listing goes on are not in it for sure: only its beginning counts.
            self._ended = page.ended
        if len(followed.lineage) + len(page.shards) > SHARDS_MAX:
            raise SourceError(f"{followed.stream.name}: more than {SHARDS_MAX} shards cannot be kept in mind")
        followed.lineage.add(page.shards)
        self._after = page.next_after
        if self._after is not None:
            return False
        followed.lineage.end_pass(ended=self._ended)
        return True
