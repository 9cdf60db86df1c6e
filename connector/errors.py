"""The errors of Millrace. Each has one meaning for whoever catches it.

    MillraceError
    ├── ConfigError            what the user wrote is wrong; names file, line and column where it can
    ├── SourceError            the source cannot go on (position out of range, topic gone)
    ├── CheckpointError        the checkpoint store failed; saving is tried again
    │   └── CheckpointLost     the shard belongs to somebody else now: never save it again
    ├── DeadLetterError        a dead letter could not be made durable; delivery waits for it
    ├── DecodeError            one record is not what its format says; it is dead-lettered
    ├── DocumentError          one image cannot become a document (a number too exact); it is dead-lettered
    ├── TemplateError          one change cannot fill a template; it is dead-lettered
    └── SinkUnavailable        the whole sink is down: back off, for ever, nothing is anyone's fault
        └── Throttled          the sink asks for less: as above, and fewer writes at once

Any other exception that leaves ``Sink.write`` means that the batch failed and nobody knows which change did it:
the batch is bisected (connector.delivery.bisect).
"""

from __future__ import annotations

from collections.abc import Collection


class MillraceError(Exception):
    """The root of every error that Millrace raises on purpose."""


class ConfigError(MillraceError):
    """Something that the user wrote is wrong.

    ``path`` is the place in the configuration as keys and indexes (``("pipelines", "orders", "source")``);
    ``file``, ``line`` and ``column`` (from 1) are filled in by the loader that knows the text.
    """

    def __init__(
        self,
        message: str,
        *,
        path: tuple[str | int, ...] = (),
        file: str | None = None,
        line: int | None = None,
        column: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.file = file
        self.line = line
        self.column = column

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        where = ".".join(str(part) for part in self.path)
        return ": ".join(part for part in (place, where, self.message) if part)


class SourceError(MillraceError):
    """The source cannot go on without a person: the pipeline stops, not ready, and says why."""


class CheckpointError(MillraceError):
    """The checkpoint store failed. Saving is tried again; delivery goes on within its bounds."""


class CheckpointLost(CheckpointError):
    """Shards belong to somebody else now. Their old owner never saves them again. ``shards`` names them."""

    def __init__(self, message: str, *, shards: Collection[str] = ()) -> None:
        super().__init__(message)
        self.shards = frozenset(shards)


class DeadLetterError(MillraceError):
    """A dead letter could not be made durable. Its change stays unfinished and the write is tried again."""


class DecodeError(MillraceError):
    """One record is not what its format says. ``code`` is a stable word for metrics and dead letters."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class DocumentError(MillraceError):
    """One image cannot become a document under the configured policy."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class TemplateError(MillraceError):
    """One change cannot fill a template (attribute missing, of a type with no text, result too long)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class SinkUnavailable(MillraceError):
    """The whole sink is down or unreachable. Delivery backs off and tries again for ever.

    ``after_s`` is the sink's own wish for how long to wait (seconds), if it said one.
    """

    def __init__(self, message: str, *, after_s: float | None = None) -> None:
        super().__init__(message)
        self.after_s = after_s


class Throttled(SinkUnavailable):
    """The sink asks for less (429 and its like): back off, and fewer writes at once."""
