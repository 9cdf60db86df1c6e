"""A webhook: what is posted, what answers mean, where it connects to, and in which order."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from aiohttp.resolver import DefaultResolver

from connector.change import Change
from connector.errors import ConfigError, SinkUnavailable, Throttled
from connector.sink import APPLIED, Applied, Outcome, Rejected, Retry
from sinks.notify import NotifySink
from sinks.notify.config import NotifySinkConfig
from sinks.notify.publishers.protocol import Message
from sinks.notify.publishers.webhook import WebhookPublisher, signature
from sinks.testing import context, insert, modify, opened
from tests.integration.messaging import Endpoint, listening

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with listening() as one:
        yield one


def sink(endpoint: Endpoint, *, message: Any = None, **webhook: Any) -> NotifySink:
    options = {"url": endpoint.url, "allow_private": True, **webhook}
    return NotifySink(NotifySinkConfig.model_validate({"webhook": options, "message": message}), context())


def write(sink: NotifySink, *batches: Sequence[Change]) -> list[Sequence[Outcome]]:
    async def run() -> list[Sequence[Outcome]]:
        async with opened(sink):
            return [await sink.write(batch) for batch in batches]

    return asyncio.run(run())


# What is posted


def test_a_signature_is_that_of_the_standard() -> None:
    """The example of the Standard Webhooks specification."""
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    body = b'{"test": 2432232314}'
    signed = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_receiver_can_verify_what_it_gets(endpoint: Endpoint) -> None:
    write(sink(endpoint, secret=SECRET, previous_secret="an older secret of ours"), [insert("1", {"n": 5})])
    (post,) = endpoint.posts
    signed = f"{post.id}.{post.headers['webhook-timestamp']}.".encode() + post.body
    keys = [base64.b64decode(SECRET.removeprefix("whsec_")), b"an older secret of ours"]
    expected = ["v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys]
    assert post.headers["webhook-signature"].split(" ") == expected
    assert json.loads(post.body)["new"] == {"pk": "1", "n": 5}


def test_the_idempotency_key_is_the_event_id_each_time(endpoint: Endpoint) -> None:
    change = insert("1", event_id="event-1")
    write(sink(endpoint), [change], [change])
    assert [post.headers["idempotency-key"] for post in endpoint.posts] == ["event-1", "event-1"]
    assert endpoint.ids == ["event-1", "event-1"]


def test_an_event_id_that_no_header_holds_is_hashed(endpoint: Endpoint) -> None:
    write(sink(endpoint), [insert("1", event_id="ключ\r\nX: 1")])
    (post,) = endpoint.posts
    assert post.id == hashlib.sha256("ключ\r\nX: 1".encode()).hexdigest()
    assert "x" not in post.headers


def test_headers_and_the_type_of_a_text_are_told(endpoint: Endpoint) -> None:
    write(sink(endpoint, message="paid: {pk}", headers={"Authorization": "Bearer 1"}), [insert("1")])
    (post,) = endpoint.posts
    assert post.body == b"paid: 1"
    assert post.headers["content-type"] == "text/plain; charset=utf-8"
    assert post.headers["authorization"] == "Bearer 1"


def test_a_message_that_is_too_large_is_rejected_alone(endpoint: Endpoint) -> None:
    ((small, large),) = write(sink(endpoint, bytes_max=1000), [insert("1"), insert("2", {"text": "x" * 1000})])
    assert small == APPLIED
    assert isinstance(large, Rejected)
    assert large.reason == "message_too_large"
    assert len(endpoint.posts) == 1


# What answers mean


def answering(endpoint: Endpoint, status: int, **headers: str) -> Outcome:
    endpoint.answer = lambda post: (status, headers)
    ((outcome,),) = write(sink(endpoint), [insert("1")])
    return outcome


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_success_is_success(endpoint: Endpoint, status: int) -> None:
    assert answering(endpoint, status) == APPLIED


@pytest.mark.parametrize("status", [400, 404, 409, 410, 413, 422])
def test_what_the_endpoint_will_never_take_is_rejected(endpoint: Endpoint, status: int) -> None:
    outcome = answering(endpoint, status)
    assert isinstance(outcome, Rejected)
    assert outcome.reason == f"http_{status}"


@pytest.mark.parametrize("status", [408, 425, 500, 501])
def test_what_may_pass_is_tried_again(endpoint: Endpoint, status: int) -> None:
    outcome = answering(endpoint, status)
    assert isinstance(outcome, Retry)
    assert outcome.reason == f"http_{status}"


@pytest.mark.parametrize("status", [301, 302, 307, 308, 401, 403, 407, 502, 503, 504])
def test_what_is_no_messages_fault_makes_the_endpoint_unavailable(endpoint: Endpoint, status: int) -> None:
    with pytest.raises(SinkUnavailable, match=str(status)):
        answering(endpoint, status, Location=endpoint.url + "/elsewhere")
    assert [post.path for post in endpoint.posts] == ["/hook"]


def test_an_endpoint_that_asks_for_less_is_given_less(endpoint: Endpoint) -> None:
    with pytest.raises(Throttled) as asked:
        answering(endpoint, 429, **{"Retry-After": "17"})
    assert asked.value.after_s == 17.0


def test_an_error_that_says_when_to_come_back_is_an_outage(endpoint: Endpoint) -> None:
    with pytest.raises(SinkUnavailable) as down:
        answering(endpoint, 500, **{"Retry-After": "Wed, 21 Oct 2065 07:28:00 GMT"})
    assert down.value.after_s is not None
    assert down.value.after_s > 86_400


def test_an_endpoint_that_does_not_answer_is_unavailable(endpoint: Endpoint) -> None:
    endpoint.wait_s = 1.0
    with pytest.raises(SinkUnavailable, match=r"within 0\.2 s"):
        write(sink(endpoint, timeout="200ms"), [insert("1")])


# Order


def test_a_keys_messages_come_one_after_another_and_those_of_others_at_once(endpoint: Endpoint) -> None:
    endpoint.wait_s = 0.05
    batch = [insert(key, {"n": n}, version=n * 10 + at) for n in range(4) for at, key in enumerate("abc")]
    write(sink(endpoint, concurrency=8), batch)
    assert endpoint.most_under_way == 3
    for key in "abc":
        found = [told["new"]["n"] for post in endpoint.posts if (told := json.loads(post.body))["key"] == {"pk": key}]
        assert found == [0, 1, 2, 3]


def test_no_more_requests_are_under_way_than_allowed(endpoint: Endpoint) -> None:
    endpoint.wait_s = 0.02
    write(sink(endpoint, concurrency=2), [insert(f"k{n}", version=n + 1) for n in range(12)])
    assert endpoint.most_under_way == 2
    assert len(endpoint.posts) == 12


def test_behind_a_retry_the_key_waits_and_others_go_on(endpoint: Endpoint) -> None:
    failing = insert("a", event_id="a1")
    endpoint.answer = lambda post: (500 if post.id == "a1" else 200, {})
    batch = [failing, insert("b", version=2), modify("a", event_id="a2", version=3)]
    (outcomes,) = write(sink(endpoint), batch)
    assert [type(outcome) for outcome in outcomes] == [Retry, Applied, Retry]
    assert "a2" not in endpoint.ids


def test_a_batch_that_met_an_outage_goes_on_where_it_broke_off(endpoint: Endpoint) -> None:
    batch = [insert(f"k{n}", event_id=f"e{n}", version=n + 1) for n in range(6)]
    endpoint.answer = lambda post: (503 if post.id == "e3" else 200, {})
    one = sink(endpoint, concurrency=1)

    async def run() -> Sequence[Outcome]:
        async with opened(one):
            with pytest.raises(SinkUnavailable):
                await one.write(batch)
            endpoint.answer = lambda post: (200, {})
            return await one.write(batch)

    assert asyncio.run(run()) == [APPLIED] * 6
    assert endpoint.ids == ["e0", "e1", "e2", "e3", "e3", "e4", "e5"]


# Where it connects to


def test_a_name_that_leads_inside_is_refused_at_the_start() -> None:
    config = NotifySinkConfig.model_validate({"webhook": {"url": "https://localhost:1/"}})
    one = NotifySink(config, context())

    async def run() -> None:
        try:
            with pytest.raises(ConfigError, match="allow_private"):
                await one.open()
        finally:
            await one.close()

    asyncio.run(run())


def test_a_name_that_leads_inside_later_is_not_connected_to(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names are rebound between a check and its use: here each connection is to an address that was checked."""
    port = int(endpoint.url.split(":")[2].split("/")[0])
    config = NotifySinkConfig.model_validate({"webhook": {"url": f"https://hooks.example.com:{port}/"}})
    assert config.webhook is not None
    publisher = WebhookPublisher(config.webhook, context().clock)
    asked: list[str] = []

    async def resolve(self: Any, host: str, port: int = 0, family: int = socket.AF_INET) -> list[dict[str, Any]]:
        asked.append(host)
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": family, "proto": 0, "flags": 0}]

    async def no_knock(self: Any) -> None:
        """As though the name had led outside then."""

    monkeypatch.setattr(DefaultResolver, "resolve", resolve)
    monkeypatch.setattr(WebhookPublisher, "_knock", no_knock)

    async def run() -> None:
        await publisher.open()
        try:
            with pytest.raises(SinkUnavailable, match="no public address"):
                await publisher.publish([Message(id="1", key="1", to="", type="t", body=b"{}")], [None])
        finally:
            await publisher.close()

    asyncio.run(run())
    assert asked == ["hooks.example.com"]
    assert endpoint.posts == []


def test_a_proxy_of_the_environment_is_not_used(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would resolve the name itself, and could be led anywhere."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert write(sink(endpoint), [insert("1")]) == [[APPLIED]]


def test_an_error_does_not_tell_the_url(endpoint: Endpoint) -> None:
    endpoint.answer = lambda post: (503, {})
    with pytest.raises(SinkUnavailable) as down:
        write(sink(endpoint, url=endpoint.url + "?token=xyzzy"), [insert("1")])
    assert endpoint.posts
    assert "xyzzy" not in str(down.value)
