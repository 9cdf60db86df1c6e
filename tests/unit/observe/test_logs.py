"""Logs: readable for whom they are meant, and no value can pass for something else."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from connector.observe import logs
from connector.observe.escape import escape_text

HOSTILE = "ok\r\n2026-01-01 [error] forged \x1b[2J \u202egnp.exe \u2028 \x9b31m \ud800"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if getattr(handler, "millrace", False)]:
        root.removeHandler(handler)
    root.setLevel(logging.WARNING)


def lines_of(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_without_a_terminal_each_line_is_json() -> None:
    out = io.StringIO()
    logs.configure(stream=out)
    structlog.get_logger("connector.pipeline").info("pipeline started", pipeline="orders", shards=4)
    (line,) = lines_of(out)
    assert (line["event"], line["level"], line["pipeline"], line["shards"]) == ("pipeline started", "info", "orders", 4)
    assert line["logger"] == "connector.pipeline"
    assert line["timestamp"].endswith("Z")


def test_on_a_terminal_it_is_a_line_for_people() -> None:
    out = Terminal()
    logs.configure(stream=out)
    structlog.get_logger("connector.pipeline").info("pipeline started", pipeline="orders")
    assert "pipeline started" in out.getvalue()
    assert not out.getvalue().startswith("{")


def test_levels_are_kept() -> None:
    out = io.StringIO()
    logs.configure("warning", stream=out)
    log = structlog.get_logger("x")
    log.info("too small")
    log.warning("seen")
    assert [line["event"] for line in lines_of(out)] == ["seen"]


def test_an_unknown_level_says_which_there_are() -> None:
    with pytest.raises(ValueError, match="use debug, info, warning or error"):
        logs.configure("loud")


def test_configuring_again_does_not_write_twice() -> None:
    logs.configure(stream=io.StringIO())
    out = io.StringIO()
    logs.configure(stream=out)
    structlog.get_logger("x").info("once")
    assert len(lines_of(out)) == 1


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("place", ["value", "key", "event", "nested", "foreign", "exception"])
def test_a_value_cannot_forge_a_line_or_drive_the_terminal(place: str, terminal: bool) -> None:
    out = Terminal() if terminal else io.StringIO()
    logs.configure(stream=out)
    log = structlog.get_logger("x")
    match place:
        case "value":
            log.info("told", detail=HOSTILE)
        case "key":
            log.info("told", **{HOSTILE: 1})
        case "event":
            log.info(HOSTILE)
        case "nested":
            log.info("told", detail={"a": [HOSTILE, {HOSTILE: object()}]})
        case "foreign":
            logging.getLogger("confluent").error("broker said %s", HOSTILE)
        case "exception":
            try:
                raise RuntimeError(HOSTILE)
            except RuntimeError:
                log.exception("failed")
    text = out.getvalue()
    plain = text.replace("\x1b[0m", "")  # the renderer's own colours come only on a terminal
    for character in "\u202e\u2028\x9b\ud800":
        assert character not in text
    assert "\x1b[2J" not in plain
    if terminal:
        assert not any(line.startswith("2026-01-01 [error]") for line in text.splitlines())
    else:
        assert len(lines_of(out)) == 1


def test_what_libraries_say_comes_out_alike() -> None:
    out = io.StringIO()
    logs.configure(stream=out)
    logging.getLogger("rdkafka").warning("partition %d is gone", 3)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old option", DeprecationWarning, stacklevel=1)
    first, second = lines_of(out)
    assert (first["event"], first["logger"], first["level"]) == ("partition 3 is gone", "rdkafka", "warning")
    assert "old option" in second["event"]


def test_libraries_that_write_whole_requests_are_kept_quiet_even_at_debug() -> None:
    out = io.StringIO()
    logs.configure("debug", stream=out)
    logging.getLogger("botocore.auth").debug("Authorization: AWS4-HMAC-SHA256 Credential=...")
    logging.getLogger("opensearch").info("POST /_bulk")
    logging.getLogger("urllib3.connectionpool").debug("GET /secret")
    assert out.getvalue() == ""


def test_the_reason_of_an_exception_is_kept() -> None:
    out = io.StringIO()
    logs.configure(stream=out)
    try:
        raise OSError("disk full")
    except OSError as error:
        structlog.get_logger("x").error("checkpoint not saved", exc_info=error)
    (line,) = lines_of(out)
    assert "OSError: disk full" in line["exception"]
    assert all(part.startswith("  | ") for part in line["exception"].splitlines())


def test_endless_values_are_cut_and_say_so() -> None:
    out = io.StringIO()
    logs.configure(stream=out)
    structlog.get_logger("x").info("told", detail="x" * 1_000_000, many=list(range(1000)))
    (line,) = lines_of(out)
    assert len(line["detail"]) < 5000
    assert "995904 more characters" in line["detail"]
    assert len(line["many"]) == 100


def test_ordinary_text_of_any_language_stays_as_it_is() -> None:
    text = "Zażółć gęślą jaźń · 注文 · заказ · 🚚"
    assert escape_text(text) == text
    assert escape_text("a\tb\u0000\U000e0041") == "a\\u0009b\\u0000\\U000e0041"
