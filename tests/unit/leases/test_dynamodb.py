"""What becomes of a service that throttles, fails or refuses: answers of a small server that speaks its protocol."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from connector.errors import CheckpointError, CheckpointLost, ConfigError
from connector.leases.dynamodb import DynamoDBLeases
from connector.leases.protocol import Lease, Progress
from tests.coroutines import asynchronous

ACTIVE = {"Table": {"KeySchema": [{"AttributeName": "leaseKey", "KeyType": "HASH"}], "TableStatus": "ACTIVE"}}
HELD = [Lease(key=key, owner="one", epoch=1, counter=5, checkpoint="7") for key in ("a", "b", "c")]


class Service:
    """Answers by operation, and for updates by the row's key: a dict, or (status, error code)."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {"DescribeTable": ACTIVE, "Scan": {"Items": [], "Count": 0}}
        self.rows: dict[str, Any] = {}
        self.calls: list[str] = []

    def answer(self, operation: str, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.calls.append(operation)
        answer = self.answers.get(operation)
        if operation == "UpdateItem":
            key = request["Key"]["leaseKey"]["S"]
            answer = self.rows.get(key) or {"Attributes": item(key)}
        if isinstance(answer, tuple):
            status, code = answer
            return status, {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "no"}
        assert answer is not None, operation
        return 200, answer


def item(key: str) -> dict[str, Any]:
    return {
        "leaseKey": {"S": key},
        "leaseOwner": {"S": "one"},
        "leaseCounter": {"N": "6"},
        "millraceEpoch": {"N": "1"},
        "checkpoint": {"S": "7"},
    }


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def store(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[DynamoDBLeases]:
    """A store of the service; not open yet."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tests")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = service.answer(self.headers["X-Amz-Target"].rpartition(".")[2], request)
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing to standard error."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        endpoint = f"http://127.0.0.1:{server.server_port}"
        yield DynamoDBLeases("leases", "orders", region="eu-west-1", endpoint=endpoint)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@asynchronous
async def test_throttling_and_server_errors_may_pass(service: Service, store: DynamoDBLeases) -> None:
    await store.open()
    for status, code in [(400, "ProvisionedThroughputExceededException"), (500, "InternalServerError")]:
        service.answers["Scan"] = (status, code)
        service.rows = dict.fromkeys("abc", (status, code))
        with pytest.raises(CheckpointError, match=code):
            await store.all()
        with pytest.raises(CheckpointError, match=code):
            await store.take(HELD[0], "two")
        with pytest.raises(CheckpointError, match=code):
            await store.renew(HELD)
        with pytest.raises(CheckpointError, match=code) as caught:
            await store.save("one", {"a": Progress(1, "8", 8)})
        assert not isinstance(caught.value, CheckpointLost)
    await store.close()


@asynchronous
async def test_a_renewal_tells_what_is_renewed_lost_and_unknown_apart(service: Service, store: DynamoDBLeases) -> None:
    await store.open()
    service.rows = {"b": (400, "ConditionalCheckFailedException"), "c": (400, "ThrottlingException")}
    renewed = await store.renew(HELD)
    assert {key: lease.counter for key, lease in renewed.items()} == {"a": 6, "c": 5}
    await store.close()


@asynchronous
async def test_a_save_that_is_throttled_in_part_is_tried_again_before_anything_is_called_lost(
    service: Service, store: DynamoDBLeases
) -> None:
    await store.open()
    service.rows = {"b": (400, "ConditionalCheckFailedException"), "c": (400, "ThrottlingException")}
    progress = dict.fromkeys("abc", Progress(1, "8", 8))
    with pytest.raises(CheckpointError) as caught:
        await store.save("one", progress)
    assert not isinstance(caught.value, CheckpointLost)
    del service.rows["c"]
    with pytest.raises(CheckpointLost) as lost:
        await store.save("one", progress)
    assert lost.value.shards == {"b"}
    await store.close()


@asynchronous
async def test_what_only_a_person_can_mend_is_said_at_the_opening(service: Service, store: DynamoDBLeases) -> None:
    service.answers["DescribeTable"] = (400, "AccessDeniedException")
    with pytest.raises(ConfigError, match="AccessDenied"):
        await store.open()
    service.answers["DescribeTable"] = (500, "InternalServerError")
    with pytest.raises(CheckpointError):
        await store.open()
    await store.close()


@asynchronous
async def test_a_table_that_another_replica_makes_at_the_same_time_is_waited_for(
    service: Service, store: DynamoDBLeases
) -> None:
    answers = iter([(400, "ResourceNotFoundException"), ACTIVE])
    given = service.answer

    def answer(operation: str, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if operation == "DescribeTable":
            service.answers[operation] = next(answers, ACTIVE)
        return given(operation, request)

    service.answer = answer  # type: ignore[method-assign]
    service.answers["CreateTable"] = (400, "ResourceInUseException")
    await store.open()
    assert service.calls == ["DescribeTable", "CreateTable", "DescribeTable", "Scan"]
    await store.close()
