"""Logs: JSON lines where a machine reads them, columns where a person does, and nothing in them that can deceive.

Everything goes through one handler of the standard library's root logger, so that what aiohttp, botocore and the
Kafka client say looks like what we say. Our own code uses ``structlog.get_logger(__name__)`` and puts values into
keywords, never into the text. Attribute values and secrets are not logged at all; that is the caller's duty.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Mapping
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor

from connector.observe.escape import escape_text

VALUE_CHARACTERS_MAX = 4096
_DEPTH_MAX = 5
_ITEMS_MAX = 100
_TRACEBACK_LINES_MAX = 200

_CHATTY = ("aiohttp", "asyncio", "boto3", "botocore", "opensearch", "opensearchpy", "s3transfer", "urllib3")
"""Libraries that write requests, signatures and whole bodies at INFO and DEBUG: from WARNING on, whatever the level."""


def configure(level: str = "info", *, json: bool | None = None, stream: TextIO | None = None) -> None:
    """Set logging up for the process; calling it again replaces what was set up before.

    ``json`` None: JSON unless the stream is a terminal. Raises ValueError for an unknown level.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"{level!r} is no log level: use debug, info, warning or error")
    stream = stream or sys.stderr
    if json is None:
        json = not stream.isatty()

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(number),
        cache_logger_on_first_use=False,
    )
    renderer: Processor = (
        structlog.processors.JSONRenderer(sort_keys=False, ensure_ascii=True)
        if json
        else structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _exception_as_text,
                _escape_values,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    for old in [old for old in root.handlers if getattr(old, "millrace", False)]:
        root.removeHandler(old)
    handler.millrace = True  # type: ignore[attr-defined]
    root.addHandler(handler)
    root.setLevel(number)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    logging.captureWarnings(capture=True)


def _exception_as_text(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """The traceback as text under ``exception``: each line is marked, so that a message with line breaks in it
    cannot pass for a log line of its own."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    elif isinstance(info, BaseException):
        info = (type(info), info, info.__traceback__)
    if isinstance(info, tuple) and info[0] is not None:
        lines = "".join(traceback.format_exception(*info)).rstrip().splitlines()[-_TRACEBACK_LINES_MAX:]
        event["exception"] = "\n".join(f"  | {escape_text(line, VALUE_CHARACTERS_MAX)}" for line in lines)
    return event


def _escape_values(_logger: Any, _method: str, event: EventDict) -> EventDict:
    exception = event.pop("exception", None)
    escaped: EventDict = {escape_text(str(name), 200): _escaped(value, 0) for name, value in event.items()}
    if exception is not None:
        escaped["exception"] = str(exception)
    return escaped


def _escaped(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return escape_text(value, VALUE_CHARACTERS_MAX)
    if depth < _DEPTH_MAX and isinstance(value, Mapping):
        items = list(value.items())[:_ITEMS_MAX]
        return {escape_text(str(name), 200): _escaped(inner, depth + 1) for name, inner in items}
    if depth < _DEPTH_MAX and isinstance(value, list | tuple | set | frozenset):
        return [_escaped(inner, depth + 1) for inner in list(value)[:_ITEMS_MAX]]
    return escape_text(str(value), VALUE_CHARACTERS_MAX)
