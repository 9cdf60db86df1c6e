"""Values from outside the file, and that they are never seen again."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from connector.config.secrets import FILE_BYTES_MAX, mask_urls, shown
from connector.config.units import Duration, Size
from tests.unit.config.fakes import CONFIG, PlaceSinkConfig, config_of, errors_of

URL = '"https://search.internal:9200"'


def with_url(written: str) -> str:
    assert URL in CONFIG
    return CONFIG.replace(URL, written)


def url_of(written: str, env: dict[str, str] | None = None, folder: Path = Path()) -> str:
    options = config_of(with_url(written), env, folder).pipelines["orders"].routes["search"].sink.options
    assert isinstance(options, PlaceSinkConfig)
    return options.url


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('"${URL}"', "http://a"),
        ('"${URL}/${INDEX}"', "http://a/orders"),
        ('"${URL:-http://b}"', "http://a"),
        ('"${NOT_SET:-http://b}"', "http://b"),
        ('"${NOT_SET:-}x"', "x"),
        ('"${EMPTY:-http://b}"', "http://b"),
        ('"${EMPTY}x"', "x"),
        ('"$${URL}"', "${URL}"),
        ('"cost$ {pk}"', "cost$ {pk}"),
        ('"${TRICKY}"', "a: ${URL}\n- b"),
    ],
)
def test_references_are_filled_in_once_and_only_as_text(written: str, value: str) -> None:
    env = {"URL": "http://a", "INDEX": "orders", "EMPTY": "", "TRICKY": "a: ${URL}\n- b"}
    assert url_of(written, env) == value


@pytest.mark.parametrize(("content", "value"), [("secret\n", "secret"), ("secret\r\n", "secret"), ("a\n\n", "a\n")])
def test_a_file_gives_its_text_less_one_line_end(tmp_path: Path, content: str, value: str) -> None:
    (tmp_path / "token").write_bytes(content.encode())
    assert url_of('"${file:token}"', folder=tmp_path) == value
    assert url_of(f'"${{file:{tmp_path}/token}}"') == value


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ('"${NOT_SET}"', "the environment variable NOT_SET is not set: set it, or write ${NOT_SET:-default}"),
        ('"${NOT SET}"', "not a reference"),
        ('"${}"', "not a reference"),
        ('"${URL"', "without its '}'"),
        ('"${file:gone}"', "the file 'gone' cannot be read: No such file or directory"),
        ('"${file:.}"', "cannot be read: Is a directory"),
        ('"${file:large}"', "is larger than"),
        ('"${file:binary}"', "is not UTF-8"),
    ],
)
def test_what_cannot_be_filled_in_is_told_at_its_place(tmp_path: Path, written: str, message: str) -> None:
    (tmp_path / "large").write_bytes(b"x" * (FILE_BYTES_MAX + 1))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (error,) = errors_of(with_url(written), {"URL": "x"}, tmp_path)
    assert error.startswith("m.yaml:13:34: pipelines.orders.routes.search.sink.url: ")
    assert message in error


def test_numbers_and_booleans_may_come_from_outside() -> None:
    config = config_of(
        CONFIG + "    limits: {changes_in_flight: '${MANY}', bytes_in_flight: '${SIZE}'}\n"
        "    stall_after: ${WAIT}\nadmin: {enabled: '${ADMIN}', port: '${PORT:-9999}'}\n",
        {"MANY": "12", "SIZE": "3MiB", "WAIT": "5s", "ADMIN": "false"},
    )
    orders = config.pipelines["orders"]
    assert (orders.limits.changes_in_flight, orders.limits.bytes_in_flight, orders.stall_after) == (
        12,
        3 * 1024**2,
        5.0,
    )
    assert (config.admin.enabled, config.admin.port) == (False, 9999)


def test_a_number_from_outside_is_read_as_strictly_as_one_in_the_file() -> None:
    (error,) = errors_of(CONFIG + "admin: {port: '${PORT}'}\n", {"PORT": "09464"})
    assert error == "m.yaml:19:15: admin.port: must be a whole number"


def test_a_text_that_looks_like_a_number_stays_a_text_where_a_text_is_wanted() -> None:
    assert url_of('"${URL}"', {"URL": "12345"}) == "12345"


SECRET = "hunter2-and-some-more"


@pytest.mark.parametrize(
    "text",
    [
        CONFIG + "    stall_after: ${SECRET}\n",
        CONFIG + "    limits: {bytes_in_flight: '${SECRET}'}\n",
        CONFIG + "    drain: 'x${SECRET}'\n",
        CONFIG + "log: {level: '${SECRET}'}\n",
        CONFIG.replace("type: place, url", "type: '${SECRET}', url"),
        CONFIG.replace("format: lines", "format: ${SECRET}"),
        CONFIG.replace("{eventName: [MODIFY, REMOVE]}", "{eventName: ['${SECRET}']}"),
        CONFIG.replace("{eventName: [MODIFY, REMOVE]}", "{eventName: '${SECRET}'}"),
        CONFIG.replace("topic: orders.dlq", "topic: ['${SECRET}']"),
        with_url('"broken://u:${SECRET}@host"'),
        with_url('"broken://${SECRET}"'),
        CONFIG.replace('id: "{pk}|{sk}"', 'id: "${SECRET}"'),
    ],
)
def test_a_value_from_outside_is_in_no_error(text: str) -> None:
    errors = errors_of(text, {"SECRET": SECRET})
    assert errors
    for error in errors:
        assert not any(SECRET[start : start + 6] in error for start in range(len(SECRET) - 5)), error


def test_a_password_inside_a_url_from_outside_is_in_no_error() -> None:
    (error,) = errors_of(with_url('"${URL}"'), {"URL": "broken://user:hunter2@host"})
    assert "hunter2" not in error
    assert "user" not in error


def test_a_password_inside_a_written_url_is_in_no_error() -> None:
    (error,) = errors_of(with_url('"broken://user:hunter2@host/x"'))
    assert "broken://***@host/x" in error


def test_the_wrong_value_of_a_secret_option_is_in_no_error() -> None:
    (error,) = errors_of(CONFIG.replace("type: place, url", "type: place, token: [hunter2], url"))
    assert "must be a text" in error
    assert "hunter2" not in error


def test_a_shown_configuration_holds_neither_secrets_nor_the_userinfo_of_urls() -> None:
    text = with_url('"https://user:hunter2@host"').replace("id:", "token: hunter3, id:")
    config = config_of(text)
    for form in (repr(shown(config)), repr(config), str(config)):
        assert "hunter" not in form
    sink = shown(config)["pipelines"]["orders"]["routes"]["search"]["sink"]
    assert sink["options"]["url"] == "https://***@host"
    assert sink["options"]["token"] == "***"


def test_urls_are_masked_wherever_they_stand() -> None:
    assert mask_urls("see redis://:pw@h:1/0 and 'http://a@b'") == "see redis://***@h:1/0 and 'http://***@b'"
    assert mask_urls("https://host/path@x") == "https://host/path@x"


class Model(BaseModel):
    items: list[int] = [1]
    nothing: None = None
    wait: Duration = 90.0
    longest: Duration | None = 0.25
    room: Size = 5 * 1024**2


def test_options_are_shown_as_they_are_written() -> None:
    assert shown(Model()) == {"items": [1], "nothing": None, "wait": "90s", "longest": "250ms", "room": "5MiB"}


def test_a_compiled_pattern_is_shown_as_that() -> None:
    assert shown(config_of(CONFIG))["pipelines"]["orders"]["routes"]["search"]["where"] == ["(pattern)"]


def test_a_written_secret_is_not_in_the_error_of_a_plug_in_that_falls_over() -> None:
    text = with_url('"broken://hunter2-and-more"').replace("id:", "token: hunter2-and-more, id:")
    (error,) = errors_of(text)
    assert "the plug-in failed: RuntimeError: cannot use" in error
    assert "hunter2" not in error
