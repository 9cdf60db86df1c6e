"""A small world for replays: letters in memory, a sink with versions that can be told to refuse or to be away."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Any, ClassVar

import msgspec
from pydantic import BaseModel

from connector.change import Change, EventName, Record
from connector.clock import SystemClock
from connector.codecs.dynamodb import DynamoDBCodec
from connector.codecs.protocol import Codec
from connector.deadletter.envelope import DeadLetter, ErrorKind, letter_id
from connector.deadletter.protocol import LetterState, StoredLetter
from connector.deadletter.reopen import CodecOf
from connector.deadletter.replay import Replay, ReplayOptions
from connector.deadletter.report import ReplayReport
from connector.deadletter.selection import Selection
from connector.delivery.policy import OnPoison, RoutePolicy
from connector.delivery.route import Sieve
from connector.errors import SinkUnavailable
from connector.pipeline import RoutePlan
from connector.sink import APPLIED, STALE, Needs, Outcome, Rejected, Semantics

NOW_MS = 1_777_626_000_000


class NoConfig(BaseModel):
    """Nothing to choose."""


class MemoryLetters:
    """Dead letters in memory, as the protocol has them."""

    config_model: ClassVar[type[BaseModel]] = NoConfig

    def __init__(self, letters: Sequence[DeadLetter] = ()) -> None:
        self.stored = {letter.id: StoredLetter(letter) for letter in letters}
        self.marks: list[tuple[tuple[str, ...], LetterState, str]] = []
        self.before_mark: Callable[[], None] | None = None

    async def open(self) -> None: ...

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            self.stored.setdefault(letter.id, StoredLetter(letter))

    async def letters(self, *, include_done: bool = False) -> AsyncIterator[StoredLetter]:
        for stored in list(self.stored.values()):
            if include_done or stored.state is LetterState.DEAD:
                yield stored

    async def mark(self, ids: Sequence[str], state: LetterState, outcome: str = "") -> None:
        if self.before_mark is not None:
            self.before_mark()
        self.marks.append((tuple(ids), state, outcome))
        for one in ids:
            self.stored[one] = StoredLetter(self.stored[one].letter, state, outcome)

    async def close(self) -> None: ...

    def dead(self) -> list[DeadLetter]:
        return [stored.letter for stored in self.stored.values() if stored.state is LetterState.DEAD]

    def outcome(self, letter: DeadLetter) -> str:
        return self.stored[letter.id].replay_outcome


class VersionedSink:
    """Keeps the last item of each key, or (EVENT) every change; refuses what ``refuses`` says."""

    config_model: ClassVar[type[BaseModel]] = NoConfig
    lanes_default: ClassVar[int] = 2
    batch_size_default: ClassVar[int] = 10
    place_attributes: frozenset[str] = frozenset()
    needs = Needs.NOTHING

    def __init__(self, semantics: Semantics = Semantics.STATE) -> None:
        self.semantics = semantics
        self.items: dict[str, tuple[int, Any]] = {}
        self.written: list[tuple[str, int]] = []
        self.calls = 0
        self.opened = self.closed = 0
        self.refuses: Callable[[Change], bool] = lambda _: False
        self.away = False
        self.away_after_calls: int | None = None

    async def open(self) -> None:
        self.opened += 1
        if self.away:
            raise SinkUnavailable("nobody at home")

    async def write(self, batch: Sequence[Change]) -> Sequence[Outcome]:
        if self.away_after_calls is not None and self.calls >= self.away_after_calls:
            raise SinkUnavailable("gone away")
        self.calls += 1
        return [self._write(change) for change in batch]

    def _write(self, change: Change) -> Outcome:
        if self.refuses(change):
            return Rejected("mapping", "the field has another type")
        if self.semantics is Semantics.STATE and change.version < self.items.get(change.key, (0, None))[0]:
            return STALE
        self.items[change.key] = (change.version, change.new_values())
        self.written.append((change.keys["pk"], change.version))
        return APPLIED

    async def close(self) -> None:
        self.closed += 1

    def state(self) -> dict[str, Any]:
        """The items that are there, by their ``pk``."""
        return {json.loads(key)["pk"]["S"]: item for key, (_, item) in self.items.items() if item is not None}


def key_of(pk: str) -> str:
    return json.dumps({"pk": {"S": pk}}, separators=(",", ":"))


def record_of(pk: str, price: Any, at: int, *, name: str = "MODIFY") -> Record:
    """A stream record of the item ``pk`` at second ``at``; its position is ``at`` too."""
    image = {"pk": {"S": pk}, "price": {"N": str(price)}}
    body = {"Keys": {"pk": {"S": pk}}, "ApproximateCreationDateTime": NOW_MS // 1000 + at}
    if name != EventName.REMOVE:
        body["NewImage"] = image
    value = json.dumps({"eventName": name, "eventID": f"e{at}", "dynamodb": body}).encode()
    return Record(at, value, timestamp_ms=NOW_MS + at * 1000)


def version_of(at: int) -> int:
    return (NOW_MS + at * 1000) << 20


def letter(  # one line a letter
    pk: str,
    price: Any,
    at: int,
    *,
    route: str = "search",
    holds: bool = False,
    kind: ErrorKind = ErrorKind.REJECTED,
    code: str = "mapping",
    shard: str = "orders/0",
    record: Record | None = None,
    format: str = "dynamodb",
) -> DeadLetter:
    """The letter of the change of ``pk`` at second ``at``; ``route`` "" is that of an undecodable record."""
    return DeadLetter(
        id=letter_id("orders", route, shard, at, 0),
        pipeline="orders",
        route=route,
        shard=shard,
        position=at,
        key=key_of(pk) if route else None,
        event_name="MODIFY" if route else "",
        version=version_of(at) if route else 0,
        kind=kind,
        code=code,
        attempts=1,
        first_failed_ms=NOW_MS,
        last_failed_ms=NOW_MS,
        format=format,
        holds_key=holds,
        record=record or record_of(pk, price, at),
    )


def plan(
    sink: VersionedSink,
    name: str = "search",
    *,
    on_poison: OnPoison = OnPoison.CONTINUE,
    sieve: Sieve | None = None,
    **policy: Any,
) -> RoutePlan:
    chosen = RoutePolicy(lanes=2, on_poison=on_poison, backoff_initial_s=0.001, backoff_max_s=0.01)
    return RoutePlan(
        name=name, sink_type="model", sink=sink, policy=msgspec.structs.replace(chosen, **policy), sieve=sieve
    )


def codecs(**known: Codec) -> CodecOf:
    made: dict[str, Codec] = {"dynamodb": DynamoDBCodec(), **known}
    return made.__getitem__


def options(
    letters_max: int = 1000, bytes_max: int = 1 << 20, timeout_s: float = 0.1, **selection: Any
) -> ReplayOptions:
    return ReplayOptions(
        pipeline="orders",
        selection=Selection(**selection),
        timeout_s=timeout_s,
        letters_max=letters_max,
        bytes_max=bytes_max,
    )


async def replay(
    letters: MemoryLetters,
    plans: Collection[RoutePlan],
    chosen: ReplayOptions | None = None,
    codec_of: CodecOf | None = None,
) -> ReplayReport:
    return await Replay(
        chosen or options(),
        plans=list(plans),
        destination=letters,
        codec_of=codec_of or codecs(),
        clock=SystemClock(),
        chance=random.Random(1),
    ).run()
