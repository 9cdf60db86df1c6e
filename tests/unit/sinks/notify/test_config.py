"""What a user may write for ``type: notify``."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from sinks.notify.config import NotifySinkConfig

HOOK = {"url": "https://hooks.example.com/T0/secret-token"}
KAFKA = {"brokers": ["localhost:9092"], "topic": "t"}


def read(**options: Any) -> NotifySinkConfig:
    return NotifySinkConfig.model_validate(options)


@pytest.mark.parametrize(
    ("rate", "per_s"), [("100/s", 100.0), ("30/m", 0.5), ("1/h", 1 / 3600), ("2.5/s", 2.5), (None, None)]
)
def test_a_rate_is_a_number_and_a_unit_of_time(rate: str | None, per_s: float | None) -> None:
    assert read(webhook=HOOK, rate=rate).rate == per_s


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "exactly one of webhook, kafka"),
        ({"webhook": HOOK, "kafka": KAFKA}, "exactly one of"),
        ({"webhook": HOOK, "rate": "100"}, "a rate is written as"),
        ({"webhook": HOOK, "rate": "0/s"}, "greater than or equal"),
        ({"webhook": HOOK, "message": "{open"}, "never closed"),
        ({"webhook": HOOK, "message": {"a": "}"}}, "write '}}'"),
        ({"webhook": HOOK, "message": {}}, "at least 1"),
        ({"webhook": HOOK, "id": ""}, "must not be empty"),
        ({"webhook": HOOK, "missing": "null"}, "'missing' belongs to"),
        ({"webhook": HOOK, "message": "x", "numbers": "reject"}, "'numbers' belongs to"),
        ({"eventbridge": {}, "message": "text"}, "JSON objects"),
        ({"eventbridge": {"source": "aws.s3"}}, "AWS's own"),
        ({"eventbridge": {"detail_type": "{x"}}, "never closed"),
        ({"sqs": {"queue": "orders"}}, "pattern"),
        ({"sns": {"topic": "orders"}}, "pattern"),
        ({"kafka": {**KAFKA, "topic": "a b"}}, "pattern"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        read(**options)


@pytest.mark.parametrize(
    ("webhook", "words"),
    [
        ({"url": "http://hooks.example.com/"}, "in the clear"),
        ({"url": "https://169.254.169.254/latest"}, "not public"),
        ({"url": "https://[::1]:8443/"}, "not public"),
        ({"url": "ftp://hooks.example.com/"}, "https://"),
        ({"url": "https://me:pass@hooks.example.com/"}, "belong into headers"),
        ({**HOOK, "secret": "short"}, "16 bytes"),
        ({**HOOK, "secret": "whsec_!"}, "must be base64"),
        ({**HOOK, "previous_secret": "s" * 16}, "without a 'secret'"),
        ({**HOOK, "headers": {"Webhook-Id": "1"}}, "not yours"),
        ({**HOOK, "headers": {"a b": "1"}}, "no name of a header"),
        ({**HOOK, "headers": {"a": "1\r\nb: 2"}}, "printable"),
    ],
)
def test_a_webhook_that_cannot_be_meant_is_refused(webhook: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words) as refused:
        read(webhook=webhook)
    assert "pass@" not in str(refused.value)


def test_a_private_address_is_taken_where_that_is_said() -> None:
    assert read(webhook={"url": "http://127.0.0.1:8080/", "allow_private": True}).webhook


def test_nothing_secret_is_printed() -> None:
    config = read(webhook={**HOOK, "secret": "0123456789abcdef", "headers": {"Authorization": "Bearer xyzzy"}})
    printed = repr(config) + str(config)
    assert not any(secret in printed for secret in ("secret-token", "0123456789abcdef", "xyzzy"))
