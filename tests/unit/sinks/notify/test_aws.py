"""What failures of AWS services mean, and what SQS would refuse a whole batch for."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from connector.errors import SinkUnavailable, Throttled
from connector.sink import APPLIED, Rejected
from sinks.notify.publishers.aws import Refused, _meaning, note_entries, note_refusal
from sinks.notify.publishers.protocol import Answers, Message
from sinks.notify.publishers.sqs import SqsPlace, SqsPublisher, _entry, _unfit


def failure(code: str, status: int) -> ClientError:
    told: Any = {"Error": {"Code": code, "Message": "why"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(told, "SendMessageBatch")


@pytest.mark.parametrize(
    ("code", "status", "meaning"),
    [
        ("ThrottlingException", 400, Throttled),
        ("RequestThrottled", 403, Throttled),
        ("TooManyRequests", 429, Throttled),
        ("InternalFailure", 500, SinkUnavailable),
        ("AccessDenied", 403, SinkUnavailable),
        ("ExpiredToken", 403, SinkUnavailable),
        ("AWS.SimpleQueueService.NonExistentQueue", 400, SinkUnavailable),
        ("InvalidMessageContents", 400, Refused),
        ("InvalidParameterValue", 400, Refused),
        ("AWS.SimpleQueueService.BatchRequestTooLong", 400, Refused),
    ],
)
def test_only_what_stands_in_a_message_is_a_messages_fault(code: str, status: int, meaning: type[Exception]) -> None:
    assert type(_meaning("doing", failure(code, status))) is meaning


def failed(place: int, code: str, *, sender: bool) -> dict[str, Any]:
    return {"Id": str(place), "Code": code, "Message": "why", "SenderFault": sender}


def test_each_entry_of_a_batch_has_its_own_outcome() -> None:
    answers: Answers = [None] * 3
    told = {"Successful": [{"Id": "2"}, {"Id": "0"}], "Failed": [failed(1, "InvalidMessageContents", sender=True)]}
    note_entries("doing", told, answers)
    assert answers[0] is APPLIED
    assert isinstance(answers[1], Rejected)
    assert answers[2] is APPLIED


@pytest.mark.parametrize(
    ("code", "sender", "meaning"),
    [
        ("InternalError", False, SinkUnavailable),
        ("KmsThrottled", True, Throttled),
        ("KmsDisabled", True, SinkUnavailable),
    ],
)
def test_an_entry_that_failed_for_no_fault_of_its_own_is_an_outage_and_the_others_stand(
    code: str, sender: bool, meaning: type[Exception]
) -> None:
    answers: Answers = [None] * 3
    told = {"Failed": [failed(0, code, sender=sender)], "Successful": [{"Id": "1"}, {"Id": "2"}]}
    with pytest.raises(meaning):
        note_entries("doing", told, answers)
    assert answers == [None, APPLIED, APPLIED]


def test_a_refused_call_rejects_the_message_that_was_alone_in_it() -> None:
    answers: Answers = [None, None]
    note_refusal(Refused("AWS.SimpleQueueService.InvalidMessageContents", "why"), [1], answers)
    assert answers[0] is None
    assert isinstance(answers[1], Rejected)
    assert answers[1].reason == "InvalidMessageContents"
    with pytest.raises(Refused):
        note_refusal(Refused("InvalidParameterValue", "why"), [0, 1], answers)


def message(body: str = "{}", to: str = "https://sqs/1/q.fifo", **more: Any) -> Message:
    return Message(**{"id": "e1", "key": "k" * 200, "to": to, "type": "INSERT", "body": body.encode(), **more})


def test_a_fifo_entry_has_a_group_of_its_key_and_the_id_for_deduplication() -> None:
    entry = _entry(message())
    assert len(entry["MessageGroupId"]) == 64
    assert entry["MessageGroupId"] == _entry(message("{1}"))["MessageGroupId"]
    assert entry["MessageGroupId"] != _entry(message(key="other"))["MessageGroupId"]
    assert entry["MessageDeduplicationId"] == "e1"
    assert "MessageGroupId" not in _entry(message(to="https://sqs/1/q"))


def test_a_header_cannot_take_the_place_of_the_id() -> None:
    entry = _entry(message(headers=(("event_id", "forged"), ("tenant", "t1"))))
    assert {name: value["StringValue"] for name, value in entry["MessageAttributes"].items()} == {
        "event_id": "e1",
        "type": "INSERT",
        "tenant": "t1",
    }


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "message_empty"),
        ("a\x00b", "characters"),
        ("a\x1bb", "characters"),
        ("a\ufffeb", "characters"),
        ("x" * 1001, "message_too_large"),
    ],
)
def test_what_a_queue_never_takes_is_told_before_its_batch_is_refused(body: str, reason: str) -> None:
    one = message(body)
    unfit = _unfit(one, _entry(one), 1000)
    assert unfit is not None
    assert unfit.reason == reason


def test_what_a_queue_takes_is_fit() -> None:
    one = message("tab\t line\n Grüße 🌊")
    assert _unfit(one, _entry(one), 1000) is None


def test_a_publisher_says_its_queues_without_their_accounts() -> None:
    assert SqsPublisher(SqsPlace(), ["https://sqs.eu/123/orders.fifo"]).describe() == "SQS queues orders.fifo"
