"""``millrace dlq``: what is listed, shown, replayed and given up, and with which exit code."""

from __future__ import annotations

from typing import Any

import pytest

from connector.change import Record
from connector.cli.exit_codes import ExitCode
from connector.deadletter.envelope import ErrorKind
from sinks.search import search
from tests.unit.cli.letters_harness import Place
from tests.unit.deadletter.replay_world import key_of, letter

TOO_EXACT = "1" * 38


def undecodable(value: bytes, at: int = 9) -> Any:
    return letter("", 0, at, route="", kind=ErrorKind.DECODE, code="not_json", record=Record(at, value))


def test_no_dead_letters_are_said_to_be_none(place: Place) -> None:
    assert place.run("dlq", "list", str(place.config)) == ExitCode.OK
    assert place.out == "orders: no dead letters\n"
    assert place.run("dlq", "replay", str(place.config)) == ExitCode.OK
    assert place.out == "orders: nothing to replay\n"


def test_a_list_shows_why_and_whose_but_no_values(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    place.bury([letter("k1", 12345, 1), undecodable(b"{private")])
    assert place.run("dlq", "list", str(place.config)) == ExitCode.OK
    for shown in ("search", "decode", "mapping", "not_json", "k1"):
        assert shown in place.out
    assert "12345" not in place.out
    assert "private" not in place.out


@pytest.mark.parametrize(
    ("filters", "positions"),
    [
        ((), [1, 2, 3, 9]),
        (("--route", "cache"), [2]),
        (("--route", "decode"), [9]),
        (("--reason", "too_large"), [3]),
        (("--reason", "decode"), [9]),
        (("--key", key_of("k1")), [1, 3]),
        (("--limit", "2"), [1, 2]),
        (("--pipeline", "orders"), [1, 2, 3, 9]),
    ],
)
def test_lists_are_filtered_and_machines_get_one_line_a_letter(
    place: Place, filters: tuple[str, ...], positions: list[int]
) -> None:
    every = [letter("k1", 1, 1), letter("k2", 1, 2, route="cache"), letter("k1", 1, 3, code="too_large")]
    place.bury([*every, undecodable(b"{")])
    assert place.run("dlq", "list", str(place.config), "--json", *filters) == ExitCode.OK
    assert [line["position"] for line in place.lines()] == positions
    assert ("2 more" in place.err) == ("--limit" in filters)


def test_a_shown_letter_has_its_envelope_and_its_record_as_text(place: Place) -> None:
    place.bury([letter("k1", 12345, 1)])
    (stored,) = place.stored()
    assert place.run("dlq", "show", str(place.config), stored.letter.id[:12]) == ExitCode.OK
    assert f"id: {stored.letter.id}\n" in place.out
    assert "code: mapping\n" in place.out
    assert stored.letter.record.value is not None
    assert f"record.value: {stored.letter.record.value.decode()}\n" in place.out


def test_a_record_that_is_no_text_is_shown_as_base64(place: Place) -> None:
    place.bury([undecodable(b"\xff\x00")])
    (stored,) = place.stored()
    assert place.run("dlq", "show", str(place.config), stored.letter.id, "--json") == ExitCode.OK
    (shown,) = place.lines()
    assert shown["record"]["value_base64"] == "/wA="
    assert "value" not in shown["record"]


def test_a_hostile_record_does_not_reach_the_terminal(place: Place) -> None:
    place.bury([undecodable("\x1b[2J\u202e".encode())])
    (stored,) = place.stored()
    assert place.run("dlq", "show", str(place.config), stored.letter.id) == ExitCode.OK
    assert "record.value: \\u001b[2J\\u202e\n" in place.out


@pytest.mark.parametrize("letter_id", ["abc", "0123456789"])
def test_an_id_that_is_too_short_or_unknown_is_a_wrong_command_line(place: Place, letter_id: str) -> None:
    place.bury([letter("k1", 1, 1)])
    assert place.run("dlq", "show", str(place.config), letter_id) == ExitCode.CONFIG_WRONG
    assert place.out == ""


def test_a_replay_of_mended_letters_brings_them_to_the_sink_and_ends_well(place: Place) -> None:
    place.bury([letter("k1", 111, 1), letter("k2", 222, 2)])
    assert place.run("dlq", "replay", str(place.config)) == ExitCode.OK
    assert "2 applied" in place.out
    assert place.states() == {1: "replayed", 2: "replayed"}
    assert [hit.id for hit in search(place.folder / "search.db", "orders", "222")] == ["k2"]


def test_a_replay_that_leaves_poison_says_so_and_a_mended_configuration_takes_it(place: Place) -> None:
    place.configure("numbers: reject")
    place.bury([letter("k1", TOO_EXACT, 1), letter("k2", 222, 2)])
    assert place.run("dlq", "replay", str(place.config), "--json") == ExitCode.POISON
    (report,) = place.lines()
    assert report["routes"]["search"] == {
        "replayed": {"applied": 1},
        "still_dead": [{"kind": "rejected", "code": "number_not_exact", "letters": 1}],
        "left": 0,
    }
    assert TOO_EXACT not in place.out + place.err
    assert place.states() == {1: "dead", 2: "replayed"}
    place.configure("numbers: string")
    assert place.run("dlq", "replay", str(place.config)) == ExitCode.OK
    assert place.states() == {1: "replayed", 2: "replayed"}


def test_a_sink_that_stays_away_ends_the_replay_in_failure_and_says_how_many_are_left(place: Place) -> None:
    place.bury([letter("k1", 1, 1), letter("k2", 1, 2)])
    text = place.config.read_text()
    gone = '{type: redis, url: "redis://127.0.0.1:1/0", invalidate: ["{pk}"]}'
    start = text.index("{type: search")
    place.config.write_text(text[:start] + gone + text[text.index("\n", start) :])
    assert place.run("dlq", "replay", str(place.config), "--timeout", "0.3") == ExitCode.FAILURE
    assert "orders: 2 letters are left\n" in place.err
    assert place.states() == {1: "dead", 2: "dead"}


def test_a_dry_run_says_what_would_be_sent_and_changes_nothing(place: Place) -> None:
    place.bury([letter("k1", 1, 1), undecodable(b"{")])
    assert place.run("dlq", "replay", str(place.config), "--dry-run", "--json") == ExitCode.OK
    told = {(line["route"], line["what"]) for line in place.lines()}
    assert ("search", "send") in told
    assert any(route == "decode" and what != "send" for route, what in told)
    assert set(place.states().values()) == {"dead"}
    assert not (place.folder / "search.db").exists()


@pytest.mark.parametrize("option", [("--pipeline", "nope"), ("--route", "nope")])
def test_names_that_are_not_there_are_a_wrong_command_line(place: Place, option: tuple[str, str]) -> None:
    assert place.run("dlq", "replay", str(place.config), *option) == ExitCode.CONFIG_WRONG
    assert "'nope'" in place.err


def test_a_purge_marks_what_it_is_told_to_and_no_more(place: Place) -> None:
    place.bury([letter("k1", 1, 1), letter("k2", 1, 2, route="cache")])
    assert place.run("dlq", "purge", str(place.config), "--route", "cache", "--yes") == ExitCode.OK
    assert place.states() == {1: "dead", 2: "purged"}


def test_a_purge_asks_first_and_a_no_changes_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.bury([letter("k1", 1, 1)])
    answers = iter([False, True])

    def confirm(text: str, *, abort: bool, err: bool) -> None:
        assert text == "Give up 1 dead letters of orders?"
        if not next(answers):
            raise SystemExit(ExitCode.FAILURE)

    monkeypatch.setattr("typer.confirm", confirm)
    assert place.run("dlq", "purge", str(place.config)) == ExitCode.FAILURE
    assert place.states() == {1: "dead"}
    assert place.run("dlq", "purge", str(place.config)) == ExitCode.OK
    assert place.states() == {1: "purged"}


def test_letters_that_cannot_be_read_again_are_said_to_be_where_they_are(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing_to_look_for(*_: object) -> None: ...

    monkeypatch.setattr("connector.deadletter.aws.AwsClient.open", nothing_to_look_for)
    text = place.config.read_text()
    start = text.index("{type: sqlite")
    queue = "{type: sqs, queue: 'arn:aws:sqs:eu-central-1:123456789012:dead'}"
    place.config.write_text(text[:start] + queue + text[text.index("\n", start) :])
    for command in (("list",), ("replay",), ("replay", "--dry-run"), ("purge", "--yes")):
        assert place.run("dlq", command[0], str(place.config), *command[1:]) == ExitCode.FAILURE
        assert "the SQS queue dead, from which they cannot be listed or replayed here" in place.err
