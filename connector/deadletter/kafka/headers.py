"""A dead letter as headers of a Kafka record, and back."""

from __future__ import annotations

from typing import cast

import msgspec
from confluent_kafka import Message

from connector.change import Record
from connector.deadletter.envelope import DeadLetter, ErrorKind
from connector.deadletter.lines import LetterLine, Line, MarkLine, decode, encode

Headers = list[tuple[str, bytes | None]]

ENVELOPE = "millrace.envelope"
MARK = "millrace.mark"
CONNECT = "__connect.errors."

# Kafka Connect's names for the stages of its own processing.
_STAGES = {ErrorKind.DECODE: "VALUE_CONVERTER", ErrorKind.FILTER: "TRANSFORMATION"}


class Envelope(msgspec.Struct, frozen=True):
    """The letter without what the Kafka record itself holds: value, key and the original headers."""

    letter: DeadLetter
    original_headers: int
    """How many of the record's first headers are the original's."""


def headers_of_letter(letter: DeadLetter) -> Headers:
    """The original headers, then Kafka Connect's, then the envelope."""
    original = letter.record.headers
    bare = Record(letter.record.position, None, None, letter.record.timestamp_ms, (), letter.record.part)
    envelope = Envelope(msgspec.structs.replace(letter, record=bare), len(original))
    topic, _, partition = letter.shard.rpartition("/")
    if not topic or not partition.isdecimal():
        topic, partition = letter.shard, ""
    context = {
        "topic": topic,
        "partition": partition,
        "offset": str(letter.position),
        "connector.name": letter.pipeline,
        "task.id": letter.route,
        "stage": _STAGES.get(letter.kind, "TASK_PUT"),
        "class.name": f"millrace.format.{letter.format}" if letter.kind is ErrorKind.DECODE else "millrace.route",
        "exception.class.name": f"millrace.{letter.kind}.{letter.code}",
        "exception.message": letter.message,
    }
    named = [(CONNECT + name, value.encode("utf-8", "backslashreplace")) for name, value in context.items() if value]
    return [*original, *named, (ENVELOPE, encode(envelope))]


def headers_of_mark(mark: MarkLine) -> Headers:
    """A mark is a record with nothing but this header."""
    return [(MARK, encode(mark))]


def line_of(message: Message) -> Line | None:
    """The letter or mark in a record, or None for a record that somebody else wrote.

    Raises msgspec.DecodeError for one that looks like ours and is not whole.
    """
    headers = cast(Headers, message.headers() or [])
    if not headers:
        return None
    name, text = headers[-1]  # the original's headers, which may have any name, come before
    if not isinstance(text, bytes):
        return None
    if name == MARK:
        mark: MarkLine = decode(text, MarkLine)
        return mark
    if name != ENVELOPE:
        return None
    envelope: Envelope = decode(text, Envelope)
    bare = envelope.letter.record
    originals = tuple(headers[: envelope.original_headers])
    record = Record(bare.position, message.value(), message.key(), bare.timestamp_ms, originals, bare.part)
    return LetterLine(msgspec.structs.replace(envelope.letter, record=record))
