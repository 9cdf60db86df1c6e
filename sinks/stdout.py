"""Standard output: one JSON line a change. What dry runs and ``tap`` show, and a way into any other program."""

from __future__ import annotations

import asyncio
import os
import select
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import ClassVar, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from connector.change import Change
from connector.documents import Numbers
from connector.errors import DecodeError, DocumentError, SinkUnavailable
from connector.sink import APPLIED, Needs, Outcome, Rejected, Semantics, SinkContext

_LOOK_UP_S = 0.2
"""How often a write that waits for its reader looks whether the sink is being closed."""

_turn = threading.Lock()
"""Who writes: routes share standard output, and a line is written in pieces."""

_encoder = msgspec.json.Encoder(decimal_format="number")


class StdoutConfig(BaseModel):
    """Changes as JSON lines on standard output."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    type: Literal["stdout"] = "stdout"
    numbers: Numbers = Field(
        default=Numbers.NUMBER, strict=False, description="How numbers are written that no 64-bit type holds exactly."
    )


class StdoutSink:
    """Writes each batch as lines and flushes. A reader that goes away makes the sink unavailable, for good."""

    config_model: ClassVar[type[BaseModel]] = StdoutConfig
    lanes_default: ClassVar[int] = 1
    batch_size_default: ClassVar[int] = 1000

    semantics = Semantics.EVENT
    place_attributes: frozenset[str] = frozenset()
    needs = Needs.NOTHING

    def __init__(self, config: StdoutConfig, context: SinkContext) -> None:
        self._numbers = config.numbers
        self._route = context.route
        # One thread: a reader that is slow blocks it and not the event loop, and batches keep their order.
        self._thread: ThreadPoolExecutor | None = None
        self._closing = threading.Event()
        self._broken = False

    async def open(self) -> None:
        """Nothing is to be connected."""
        self._closing.clear()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="stdout")

    async def write(self, batch: Sequence[Change]) -> Sequence[Outcome]:
        """Write the batch's lines. Raises SinkUnavailable when nobody reads them any more."""
        assert self._thread is not None, "the sink is not open"
        if self._broken:
            raise SinkUnavailable("standard output is closed: its reader has gone away")
        lines: list[bytes] = []
        outcomes: list[Outcome] = []
        for change in batch:
            try:
                lines.append(self._line(change))
                outcomes.append(APPLIED)
            except (DocumentError, DecodeError) as error:
                outcomes.append(Rejected(error.code, error.message))
            except UnicodeEncodeError:
                outcomes.append(Rejected("document_not_unicode", "a text holds half a surrogate pair"))
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, _print, b"".join(lines), self._closing)
        except (OSError, ValueError) as error:  # ValueError: the stream itself was closed
            self._broken = isinstance(error, BrokenPipeError | ValueError)
            raise SinkUnavailable(f"standard output cannot be written to ({type(error).__name__})") from error
        return outcomes

    async def close(self) -> None:
        """Wait for the reader no longer."""
        self._closing.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown(wait=False, cancel_futures=True)

    def _line(self, change: Change) -> bytes:
        happened = datetime.fromtimestamp(change.timestamp_ms / 1000, UTC)
        line = {
            "event_name": change.event_name,
            "key": change.keys,
            "version": change.version,
            "route": self._route,
            "shard": change.shard,
            "position": change.position,
            "event_id": change.event_id,
            "time": happened.isoformat(timespec="milliseconds"),
            "new": change.new_document(self._numbers),
            "old": change.old_document(self._numbers),
        }
        return _encoder.encode(line) + b"\n"


def _print(lines: bytes, closing: threading.Event) -> None:
    """Write all of it, or fail when ``closing`` is set: a reader that reads no more must not keep us from ending.

    Nothing stays in Python's own buffer, which would be flushed, and fail once more, at the exit.
    """
    while not _turn.acquire(timeout=_LOOK_UP_S):
        _raise_if(closing)
    try:
        _print_in_turn(lines, closing)
    finally:
        _turn.release()


def _print_in_turn(lines: bytes, closing: threading.Event) -> None:
    output = sys.stdout.buffer
    try:
        descriptor = output.fileno()
    except (OSError, ValueError):
        descriptor = None  # no real file: such a stream never blocks
    if descriptor is None:
        output.write(lines)
        output.flush()
        return
    output.flush()
    rest = memoryview(lines)
    while rest:
        _raise_if(closing)
        # A pipe that is ready takes at least PIPE_BUF bytes without blocking; a file is always ready.
        if select.select([], [descriptor], [], _LOOK_UP_S)[1]:
            rest = rest[os.write(descriptor, rest[: select.PIPE_BUF]) :]


def _raise_if(closing: threading.Event) -> None:
    if closing.is_set():
        raise InterruptedError("closed before all was written")
