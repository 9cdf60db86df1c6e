"""The intake of a pipeline: a batch of records is decoded, stamped, entered in the ledger and handed to the routes."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence

from connector.change import Change, RecordBatch
from connector.clock import Clock
from connector.codecs.protocol import Codec, Undecodable
from connector.deadletter.envelope import DeadLetter, ErrorKind, letter_id
from connector.delivery.bounds import Bounds
from connector.delivery.counts import Ending
from connector.delivery.courier import TooManyDeadLetters
from connector.delivery.ledger import Ledger, Segment
from connector.delivery.letter_limits import LetterWatch
from connector.delivery.policy import LetterLimits
from connector.delivery.route import Route
from connector.delivery.versions import stamp, stamp_by_time


class Intake:
    """Takes batches in. Synchronous and whole: when it returns, every record of the batch is in the ledger."""

    def __init__(
        self,
        *,
        codec: Codec,
        routes: Sequence[Route],
        bounds: Bounds,
        pipeline: str,
        clock: Clock,
        limits: LetterLimits | None = None,
    ) -> None:
        self.records = 0
        self.empty = 0
        self.changes = 0
        self.undecodable: Counter[str] = Counter()
        self._codec = codec
        self._stamp = stamp if getattr(codec, "ordered", True) else stamp_by_time
        self._routes = routes
        self._bounds = bounds
        self._pipeline = pipeline
        self._clock = clock
        self._letter_watch = LetterWatch(limits, clock)
        self._to_bury: deque[tuple[Segment, Undecodable]] = deque()
        self._waiting = asyncio.Event()

    @property
    def decode_number(self) -> int:
        """The place of the pseudo-route ``decode`` in each ledger's ``counts``."""
        return len(self._routes)

    def take(self, batch: RecordBatch, ledger: Ledger) -> None:
        """Decode, stamp, enter and route one batch of the ledger's shard."""
        decoded = self._codec.decode(ledger.shard, batch.records) if batch.records else None
        changes = decoded.changes if decoded else []
        held_bytes = sum([len(record.value or b"") for record in batch.records])
        newest_ms = max([change.timestamp_ms for change in changes], default=0)
        segment = ledger.open_segment(batch.next_position, held_bytes // max(len(changes), 1), newest_ms)
        ledger.seal(segment, self._stamp(changes, ledger.clock, segment))
        self.records += len(batch.records)
        self.changes += len(changes)
        if decoded and (decoded.undecodable or decoded.empty):
            self.empty += decoded.empty
            self._judge(changes, decoded.undecodable)
            self._set_aside(segment, decoded.undecodable)
        else:
            self._letter_watch.accepted(len(changes))
        if changes:
            for route in self._routes:
                route.accept(segment, changes)
        ledger.release(segment, self._clock.now_ms())

    def _set_aside(self, segment: Segment, undecodable: Sequence[Undecodable]) -> None:
        counts = segment.ledger.counts[self.decode_number]
        counts.read += len(undecodable)
        counts.in_flight += len(undecodable)
        segment.pending += len(undecodable)
        self._bounds.take(len(undecodable), sum([_size(item) for item in undecodable]))
        for item in undecodable:
            self.undecodable[item.error.code] += 1
            self._to_bury.append((segment, item))
        self._waiting.set()

    def _judge(self, changes: Sequence[Change], undecodable: Sequence[Undecodable]) -> None:
        """Tell the watch in the order of the log what was decoded and what was not."""
        judged = [(change.position, True) for change in changes]
        judged += [(item.record.position, False) for item in undecodable]
        judged.sort()
        self._letter_watch.judged([decoded for _, decoded in judged])

    async def run_burials(self, bury: Callable[[Sequence[DeadLetter]], Awaitable[None]], done: asyncio.Event) -> None:
        """Dead-letter undecodable records as they come, for ever; sets ``done`` after each.

        Raises TooManyDeadLetters.
        """
        while True:
            if not self._to_bury:
                self._waiting.clear()
                await self._waiting.wait()
            batch = [self._to_bury.popleft() for _ in range(min(len(self._to_bury), 500))]
            ours = [(segment, item) for segment, item in batch if not segment.ledger.lost]
            if ours and self._letter_watch.exceeded:
                message = (
                    f"too many undecodable records: {self._letter_watch.exceeded}; the last reason was "
                    f"{ours[-1][1].error.code}. Nothing more is dead-lettered until a restart (undecodable_limits)"
                )
                raise TooManyDeadLetters(message)
            if ours:
                await bury([self._letter(segment, item) for segment, item in ours])
            kept = {id(item) for _, item in ours}
            for segment, item in batch:
                counts = segment.ledger.counts[self.decode_number]
                counts.in_flight -= 1
                counts.ended[Ending.DEAD_LETTERED if id(item) in kept else Ending.ABANDONED] += 1
                segment.pending -= 1
                segment.ledger.advance(self._clock.now_ms())
                self._bounds.release(1, _size(item))
            done.set()

    def _letter(self, segment: Segment, item: Undecodable) -> DeadLetter:
        shard, now_ms = segment.ledger.shard, self._clock.now_ms()
        return DeadLetter(
            id=letter_id(self._pipeline, "", shard, item.record.position, 0, part=item.record.part),
            pipeline=self._pipeline,
            route="",
            shard=shard,
            position=item.record.position,
            key=None,
            kind=ErrorKind.DECODE,
            code=item.error.code,
            message=item.error.message,
            attempts=1,
            first_failed_ms=now_ms,
            last_failed_ms=now_ms,
            format=self._codec.name,
            record=item.record,
        )


def _size(item: Undecodable) -> int:
    return len(item.record.value or b"")
