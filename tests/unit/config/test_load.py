"""From text to a checked configuration, or to all that is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from connector.assemble import _letter_limits
from connector.config.load import ConfigErrors, load, load_all
from connector.config.problems import ERRORS_MAX
from connector.delivery.policy import LetterLimits
from tests.unit.config.fakes import (
    CONFIG,
    LinesCodec,
    LogSource,
    LogSourceConfig,
    PlaceSink,
    PlaceSinkConfig,
    TopicLettersConfig,
    config_of,
    errors_of,
)


def test_a_short_configuration_gets_all_of_its_defaults() -> None:
    config = config_of(CONFIG)
    orders = config.pipelines["orders"]
    search = orders.routes["search"]
    assert (config.admin.host, config.admin.port, config.log.format) == ("127.0.0.1", 9464, "auto")
    assert (orders.checkpoints.every, orders.checkpoints.type, orders.drain) == (1.0, None, 30.0)
    assert (orders.limits.changes_in_flight, orders.limits.bytes_in_flight) == (50_000, 64 * 1024**2)
    assert (search.lanes, search.batch.size, search.retry.attempts, search.on_poison) == (None, None, 5, "continue")
    assert search.when is None
    assert search.where is not None
    assert len(search.where) == 1


def test_plug_ins_are_found_by_name_and_their_options_checked_by_their_own_models() -> None:
    orders = config_of(CONFIG).pipelines["orders"]
    source = orders.source
    assert (source.plugin_class, source.codec_class, source.format, source.view) == (
        LogSource,
        LinesCodec,
        "lines",
        None,
    )
    assert isinstance(source.options, LogSourceConfig)
    assert source.options.topics == ["orders.changes"]
    assert orders.routes["cache"].sink.plugin_class is PlaceSink


def test_dead_letters_in_the_source_s_own_system_inherit_its_connection() -> None:
    options = config_of(CONFIG).pipelines["orders"].dead_letter.options
    assert isinstance(options, TopicLettersConfig)
    assert options.brokers == ["localhost:9092"]


def test_dead_letters_elsewhere_inherit_nothing_least_of_all_a_password() -> None:
    text = CONFIG.replace("      group:", "      password: secret\n      group:")
    inherited = config_of(text).pipelines["orders"].dead_letter.options
    assert isinstance(inherited, TopicLettersConfig)
    assert inherited.password is not None
    elsewhere = text.replace("topic: orders.dlq", "topic: orders.dlq, brokers: [elsewhere:9092]")
    options = config_of(elsewhere).pipelines["orders"].dead_letter.options
    assert isinstance(options, TopicLettersConfig)
    assert (options.brokers, options.password) == (["elsewhere:9092"], None)


def with_line(line: str) -> str:
    """The configuration with one more line in the pipeline ``orders``, line 19 of the file."""
    return f"{CONFIG}    {line}\n"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (with_line("drian: 5s"), "19:5: pipelines.orders.drian: unknown option; did you mean 'drain'?"),
        (with_line("drain: 5"), "19:12: pipelines.orders.drain: a duration is written as a number with a unit"),
        (with_line("drain: fast"), "19:12: pipelines.orders.drain: 'fast' is not a duration"),
        (with_line("drain: 9999999d"), "19:12: pipelines.orders.drain: must be at most"),
        (with_line("stall_after: 0"), "19:18: pipelines.orders.stall_after: must be more than 0"),
        (with_line("limits: {changes_in_flight: 0}"), "limits.changes_in_flight: must be at least 1"),
        (with_line("limits: {changes_in_flight: '5'}"), "limits.changes_in_flight: must be a whole number"),
        (with_line("limits: {changes_in_flight: 5.5}"), "limits.changes_in_flight: must be a whole number"),
        (with_line("limits: {changes_in_flight: true}"), "limits.changes_in_flight: must be a whole number"),
        (with_line("limits: []"), "19:5: pipelines.orders.limits: must be a mapping"),
        (with_line("checkpoints: {type: redis}"), "checkpoints.type: must be 'source' or 'sqlite'"),
        (with_line("checkpoints: {type: source}"), "the source 'log' keeps no checkpoints of its own: use sqlite"),
        (CONFIG.replace("format: lines", "format: line"), "'line' is not installed; did you mean 'lines'?"),
        (CONFIG.replace("type: log\n", "type: broken\n"), "cannot be imported: ImportError: no module named 'gone'"),
        (CONFIG.replace("format: lines", "view: NEW"), "source.view: must be 'KEYS_ONLY', 'NEW_IMAGE', 'OLD_IMAGE' or"),
        (CONFIG.replace("format: lines", ""), "3:5: pipelines.orders.source.format: is required"),
        (CONFIG.replace("orders:\n    source", "Orders:\n    source"), "2:3: pipelines.Orders: is no name"),
        (CONFIG.replace("cache:", "ca.che:"), "14:7: pipelines.orders.routes.ca.che: is no name"),
        (CONFIG.replace("type: place,", ""), "sink.type: is required: which plug-in"),
        (CONFIG.replace("type: place,", "type: 7,"), "sink.type: must be a text"),
        (CONFIG.replace("url: redis", "uri: redis"), "18:11: pipelines.orders.routes.cache.sink.uri: unknown option"),
        (CONFIG.replace('id: "{pk}|{sk}"', "fields: {a: {b: x}}"), "sink.fields.a.b: must be a whole number"),
        (CONFIG.replace('id: "{pk}|{sk}"', "id: static"), "sink.id: the template names no attribute"),
        (CONFIG.replace("[localhost:9092]", "[]"), "source.brokers: must have at least 1 entries"),
        (CONFIG.replace("[localhost:9092]", "[localhost:9092, 7]"), "5:33: pipelines.orders.source.brokers.1: must be"),
        (CONFIG.replace("group: millrace-orders", "group: orders!"), "7:14: pipelines.orders.source.group: the group"),
        (CONFIG.replace("[MODIFY, REMOVE]", "MODIFY"), "15:27: pipelines.orders.routes.cache.when.eventName: write it"),
        (
            CONFIG.replace("[MODIFY, REMOVE]", "[MODIFIED]"),
            "routes.cache.when.eventName: eventName is INSERT, MODIFY or",
        ),
        (CONFIG.replace("{eventName: [MODIFY, REMOVE]}", "[]"), "routes.cache.when: must be a pattern, or a list of"),
        (CONFIG.replace("{eventName: [MODIFY, REMOVE]}", "[{a: [1]}, {a: 1}]"), "routes.cache.when.1.a: write it as a"),
        (CONFIG.replace("anything-but", "anything-bat"), "routes.search.where.status.S.0"),
        ("pipelines: {}\n", "1:1: pipelines: must have at least 1 entries"),
        ("pipelines:\n", "1:11: pipelines: must be a mapping"),
        ("[a]\n", "1:1: must be a mapping"),
        ("pipelines: {a: 7}\n", "pipelines.a: must be a mapping"),
        ("admin: {}\n", "1:1: pipelines: is required: the pipelines by name"),
    ],
)
def test_a_mistake_is_told_with_its_place_and_what_was_meant(text: str, error: str) -> None:
    errors = errors_of(text)
    assert any(error in one for one in errors), errors
    assert all(one.startswith("m.yaml:") for one in errors)


def test_a_missing_dead_letter_says_why_it_is_required() -> None:
    (error,) = errors_of(CONFIG.replace("    dead_letter: {type: log, topic: orders.dlq}\n", ""))
    assert error == (
        "m.yaml:2:3: pipelines.orders.dead_letter: is required: where a change goes that a sink will never accept: "
        "without such a place it could only be lost, or stop everything behind it"
    )


def test_all_mistakes_of_a_file_are_told_at_once_in_the_order_of_its_lines() -> None:
    text = (
        CONFIG.replace("format: lines", "format: no")
        .replace("type: place, url", "type: plaice, url")
        .replace("[MODIFY, REMOVE]", "[012]")
        .replace("url: redis://cache.internal", 'url: "${NOT_SET}"')
    )
    errors = errors_of(text + "    drain: 7\nlog: {levle: info}\n")
    assert [error.split(":")[1] for error in errors] == ["8", "13", "15", "18", "19", "20"]


def test_what_follows_from_a_known_mistake_is_not_told() -> None:
    (error,) = errors_of(CONFIG + "admin: {port: 012}\n")
    assert "leading zero" in error


def test_an_option_that_a_plug_in_s_model_would_ignore_is_refused_all_the_same() -> None:
    sink = 'type: place, url: "https://search.internal:9200", id: "{pk}|{sk}"'
    assert not errors_of(CONFIG.replace(sink, "type: loose, url: x"))
    (error,) = errors_of(CONFIG.replace(sink, "type: loose, ulr: x"))
    assert "sink.ulr: unknown option; did you mean 'url'?" in error


def test_both_members_of_a_union_are_told_as_one_mistake() -> None:
    (error,) = errors_of(CONFIG.replace("format: lines", "format: lines\n      start: never"))
    assert error.startswith("m.yaml:9:14: pipelines.orders.source.start: must be 'earliest' or 'latest', or 'never' is")


def test_a_plug_in_that_falls_over_is_told_and_not_raised() -> None:
    (error,) = errors_of(CONFIG.replace('"https://search.internal:9200"', '"broken://x"'))
    assert error.endswith("routes.search.sink: the plug-in failed: RuntimeError: cannot use broken://x")


def test_thousands_of_mistakes_are_counted_and_not_all_told() -> None:
    errors = errors_of(CONFIG + "".join(f"x{index}: 1\n" for index in range(5000)))
    assert len(errors) == ERRORS_MAX + 1
    assert errors[-1] == f"m.yaml: … and {5000 - ERRORS_MAX} more errors"


def test_a_file_that_is_not_there_is_a_mistake_in_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match=r"gone\.yaml: cannot be read: No such file"):
        load(tmp_path / "gone.yaml")
    with pytest.raises(ConfigErrors, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_files_are_loaded_with_the_process_s_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.yaml").write_text(CONFIG.replace("topic: orders.dlq", 'topic: "${DLQ}"'))
    monkeypatch.setenv("DLQ", "from.outside")
    options = load(tmp_path / "m.yaml").pipelines["orders"].dead_letter.options
    assert isinstance(options, TopicLettersConfig)
    assert options.topic == "from.outside"


def test_the_mistakes_of_several_files_are_told_together(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(f"pipelines:\n  {name}: 1\n")
    with pytest.raises(ConfigErrors) as raised:
        load_all([tmp_path / "a.yaml", tmp_path / "b.yaml"])
    assert [Path(error.file or "").name for error in raised.value.errors] == ["a.yaml", "b.yaml"]


MISTAKES = ["x{}: 1\n", "x{}: no\n", "x: 1\n", "12: x\n", "- *a\n", "x{}: ${{GONE}}\n", "? [a]\n"]


@pytest.mark.parametrize("line", MISTAKES)
def test_a_file_full_of_mistakes_is_told_in_a_hundred_lines(line: str) -> None:
    count = 100_000 // len(line.format(10_000))
    errors = errors_of("".join(line.format(index) for index in range(count)))
    assert ERRORS_MAX <= len(errors) <= ERRORS_MAX + 1
    assert "more errors" in errors[-1]


def test_a_bug_in_a_plug_in_s_model_is_told_and_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> PlaceSinkConfig:
        raise TypeError("no idea")

    monkeypatch.setattr(PlaceSinkConfig, "model_validate", fails)
    assert [error.split(": ", 2)[2] for error in errors_of(CONFIG)] == ["the plug-in failed: TypeError: no idea"] * 2


def test_retries_may_be_without_end() -> None:
    text = CONFIG.replace("      cache:", "        retry: {attempts: unlimited}\n      cache:")
    assert config_of(text).pipelines["orders"].routes["search"].retry.attempts == "unlimited"
    for wrong in ("-1", "10001", "forever"):
        errors = errors_of(text.replace("unlimited", wrong))
        assert len(errors) == 1
        assert "routes.search.retry.attempts" in errors[0]


def test_attempts_from_the_environment_are_a_number_or_the_word() -> None:
    text = CONFIG.replace("      cache:", '        retry: {attempts: "${ATTEMPTS}"}\n      cache:')
    for written, meant in (("7", 7), ("unlimited", "unlimited")):
        config = config_of(text, {"ATTEMPTS": written})
        assert config.pipelines["orders"].routes["search"].retry.attempts == meant


def test_limits_on_dead_letters_are_off_unless_one_is_set() -> None:
    route = config_of(CONFIG).pipelines["orders"].routes["search"]
    assert _letter_limits(route.dead_letter_limits) is None
    limits = "{max_consecutive: 100, max_ratio: 0.1, window: 10m}"
    text = CONFIG.replace("      cache:", f"        dead_letter_limits: {limits}\n      cache:")
    text = text.replace("    routes:", "    undecodable_limits: {max_consecutive: 7}\n    routes:")
    orders = config_of(text).pipelines["orders"]
    made = _letter_limits(orders.routes["search"].dead_letter_limits)
    assert made == LetterLimits(max_consecutive=100, max_ratio=0.1, window_s=600.0, ratio_min=100)
    undecodable = _letter_limits(orders.undecodable_limits)
    assert undecodable == LetterLimits(max_consecutive=7, window_s=300.0, ratio_min=100)


def test_a_window_without_a_ratio_is_refused() -> None:
    text = CONFIG.replace("      cache:", "        dead_letter_limits: {max_consecutive: 7, window: 1m}\n      cache:")
    (error,) = errors_of(text)
    assert "window is of use with max_ratio only" in error
