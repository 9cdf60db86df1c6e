"""The reading of one shard: its iterator, its position, and when it has ended."""

from __future__ import annotations

from typing import Literal

import structlog

from connector.change import Position, RecordBatch, ShardId
from connector.checkpoints.protocol import SHARD_END
from connector.clock import Clock
from connector.errors import SourceError
from connector.sources.streams.api import DataTrimmed, IteratorExpired, RecordPage, Stream, StreamApi, Unavailable
from connector.sources.streams.positions import After, AtTimestamp, Latest, Place, TrimHorizon, after, place_of

log = structlog.get_logger(__name__)

EMPTY_PAGES_AT_TIP = 4
"""How many pages in a row must be empty until the shard counts as read up to its tip, where the API does not say how
far behind it is. One says nothing: DynamoDB gives empty pages in the middle of a shard."""
LATEST_WITHIN_MS = 10_000
"""How old a start at the end may be to be taken with a LATEST iterator; later that would skip what came meanwhile."""
CLOCKS_APART_MS = 300_000
"""Where the API has no timestamps, records so much older than the start are skipped, and no others: DynamoDB Local
rounds its times to minutes, and two machines' clocks differ. What comes twice or early does no harm; a gap would."""
ITERATORS_A_TURN = 3


class ShardReader:
    """Reads one shard from a position to its end. ``turn`` is called again and again, one call at a time.

    ``exact``: the position is one that must not be lost; False where reading only begins at whatever is there.
    ``exactly_since``: a position in time must lose nothing that was written after it, even if much has to be read and
    skipped for that where the API has no timestamps; else one of just now is the shard's end when reading begins.
    """

    def __init__(
        self,
        api: StreamApi,
        stream: Stream,
        id_: str,
        position: Position,
        *,
        exact: bool,
        exactly_since: bool,
        trimmed: Literal["stop", "skip"],
        clock: Clock,
    ) -> None:
        self.shard: ShardId = stream.shard(id_)
        self.id = id_
        self.stream = stream
        self.position = position
        self.ended = False
        self.empty_pages = 0
        self.calls = 0
        """How many calls were answered."""
        self.skipped = 0
        """How often records were gone and reading went on behind them."""
        self._api = api
        self._clock = clock
        self._exact = exact
        self._exactly_since = exactly_since
        self._trimmed = trimmed
        self._iterator: str | None = None
        self._from_horizon = False
        self._skip_before_ms = 0

    @property
    def at_tip(self) -> bool:
        """Whether the last pages say that nothing more is there at present."""
        return self.empty_pages >= EMPTY_PAGES_AT_TIP and not self.ended

    async def turn(self, limit: int) -> RecordBatch | None:
        """The next page; None where it is empty. After a batch whose ``next_position`` is SHARD_END nothing comes.

        Raises StreamApiError (the turn may be taken again), and SourceError where records are gone and ``trimmed`` says
        stop.
        """
        assert not self.ended, "nothing comes after the end"
        for _ in range(ITERATORS_A_TURN):
            try:
                if self._iterator is None:
                    self._iterator = await self._api.iterator(self.stream, self.id, self._place())
                    self._exactly_since = True  # a second LATEST would be a later place
                    self.calls += 1
                page = await self._api.records(self._iterator, limit)
                self.calls += 1
            except IteratorExpired:
                self._iterator = None
            except DataTrimmed as error:
                self._iterator = None
                self._go_on_behind(error)
            else:
                return self._take(page)
        raise Unavailable("iterators expire as soon as they are made")

    def _place(self) -> Place:
        if self._from_horizon:
            return TrimHorizon()
        place = place_of(self.position)
        if isinstance(place, AtTimestamp) and not self._api.has_timestamps:
            if not self._exactly_since and self._clock.now_ms() - place.timestamp_ms <= LATEST_WITHIN_MS:
                return Latest()
            self._skip_before_ms = place.timestamp_ms - CLOCKS_APART_MS
            return TrimHorizon()
        return place

    def _take(self, page: RecordPage) -> RecordBatch | None:
        self._iterator = page.next_iterator
        records = [record for record in page.records if record.position >= self.position]
        if self._skip_before_ms and records:
            first = next((n for n, record in enumerate(records) if record.timestamp_ms >= self._skip_before_ms), None)
            if first is None:
                records = []
            else:
                records, self._skip_before_ms = records[first:], 0
        if page.records or (page.behind_ms is not None and page.behind_ms > 0):
            self.empty_pages = 0
        elif page.behind_ms is not None:
            self.empty_pages = EMPTY_PAGES_AT_TIP
        else:
            self.empty_pages += 1
        if page.records:
            # A place was read: what is gone from here on is gone unread.
            self._from_horizon, self._exact = False, True
        if records:
            self.position = after(records[-1].position)
        self.ended = page.next_iterator is None
        if self.ended:
            self.position = SHARD_END
        return RecordBatch(self.shard, records, self.position) if records or self.ended else None

    def _go_on_behind(self, error: DataTrimmed) -> None:
        """The records at the position are gone. Raises SourceError unless that may be."""
        place = place_of(self.position)
        if not self._exact and not isinstance(place, After):
            self._from_horizon = True  # it was to begin at whatever is there
            return
        where = f"after the sequence number {place.text}" if isinstance(place, After) else "at its first record"
        what = (
            f"{self.shard}: reading goes on {where}, but the records there are gone: they were not read within the "
            f"stream's retention ({error})"
        )
        if self._trimmed == "stop":
            raise SourceError(f"{what}; `trimmed: skip` goes on with the oldest record that is left")
        self.skipped += 1
        self._from_horizon = True
        log.error("records are skipped", reason=what, shard=self.shard)
