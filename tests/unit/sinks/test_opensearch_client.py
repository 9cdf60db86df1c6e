"""Whole requests that fail: which of it is nobody's fault, which is one document's, and what is asked again."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from pydantic import ValidationError

from connector.change import Change
from connector.errors import ConfigError, SinkUnavailable, Throttled
from connector.sink import APPLIED, Rejected, Retry
from sinks.opensearch import OpenSearchConfig, OpenSearchSink
from sinks.opensearch.outcomes import BulkRefused
from sinks.testing import context, insert, opened

Handler = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]
INFO = {"cluster_name": "fake", "version": {"number": "2.19.1", "distribution": "opensearch"}}
BATCH = [insert(f"k{n}", {"n": n}) for n in range(8)]


class Fake:
    """Answers as OpenSearch does when all is well; ``bulk`` says how bulks are answered, ``paths`` what else is."""

    def __init__(self, bulk: Handler | None = None, paths: dict[str, web.Response] | None = None) -> None:
        self._bulk = bulk or good
        self._paths = paths or {}
        self.requests: list[web.Request] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        body = await request.read()
        if request.path in self._paths:
            return self._paths[request.path]
        if request.path == "/_bulk":
            return await self._bulk(request, body)
        return web.json_response(INFO if request.path == "/" else {})


async def good(_request: web.Request, body: bytes) -> web.StreamResponse:
    count = body.count(b"\n") // 2
    return web.json_response({"errors": False, "items": [{"index": {"status": 201}}] * count})


def answers(status: int, body: Any = None, headers: dict[str, str] | None = None) -> Handler:
    async def answer(_request: web.Request, _body: bytes) -> web.StreamResponse:
        return web.json_response(body, status=status, headers=headers)

    return answer


@asynccontextmanager
async def serving(fake: Fake) -> AsyncIterator[str]:
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{path:.*}", fake.answer)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


def make(url: str | list[str], **config: Any) -> OpenSearchSink:
    settings = {"url": url, "index": "items", "id": "{pk}", **config}
    return OpenSearchSink(OpenSearchConfig.model_validate(settings), context())


def write(fake: Fake, batch: list[Change] | None = None, **config: Any) -> Any:
    async def run() -> Any:
        async with serving(fake) as url, opened(make(url, **config)) as sink:
            return await sink.write(BATCH if batch is None else batch)

    return asyncio.run(run())


def test_a_429_throttles_and_says_for_how_long() -> None:
    with pytest.raises(Throttled) as raised:
        write(Fake(answers(429, {"error": {"type": "circuit_breaking_exception"}}, {"Retry-After": "7"})))
    assert raised.value.after_s == 7
    assert "circuit_breaking_exception" in str(raised.value)


@pytest.mark.parametrize("status", [301, 401, 403, 404, 408, 500, 502, 503, 504])
def test_other_failures_of_a_whole_bulk_make_the_sink_unavailable(status: int) -> None:
    with pytest.raises(SinkUnavailable, match=str(status)) as raised:
        write(Fake(answers(status, {"error": "no"})))
    assert not isinstance(raised.value, Throttled)


def test_a_400_is_for_bisecting() -> None:
    with pytest.raises(BulkRefused, match="action_request_validation_exception"):
        write(Fake(answers(400, {"error": {"type": "action_request_validation_exception", "reason": "id"}})))


def test_a_server_that_forbids_naming_indexes_is_no_changes_fault() -> None:
    error = {"type": "illegal_argument_exception", "reason": "explicit index in bulk is not allowed"}
    with pytest.raises(SinkUnavailable):
        write(Fake(answers(400, {"error": error})))


def test_a_413_is_split_until_one_document_is_alone() -> None:
    sizes: list[int] = []

    async def refuses_k5(request: web.Request, body: bytes) -> web.StreamResponse:
        sizes.append(body.count(b"\n") // 2)
        return web.Response(status=413) if b'"k5"' in body else await good(request, body)

    outcomes = write(Fake(refuses_k5))
    assert [type(outcome) for outcome in outcomes[:5] + outcomes[6:]] == [type(APPLIED)] * 7
    assert outcomes[5].reason == "too_large"
    assert isinstance(outcomes[5], Rejected)
    assert sizes == [8, 4, 4, 2, 1, 1, 2]


def test_a_connection_that_breaks_at_a_large_body_is_split() -> None:
    async def breaks_above_2_mb(request: web.Request, body: bytes) -> web.StreamResponse:
        if len(body) > 2_000_000:
            assert request.transport is not None
            request.transport.abort()
        return await good(request, body)

    batch = [insert(f"k{n}", {"text": "x" * 900_000}) for n in range(3)]
    huge = insert("huge", {"text": "x" * 2_500_000})
    outcomes = write(Fake(breaks_above_2_mb), [*batch, huge])
    assert list(outcomes[:3]) == [APPLIED] * 3
    assert isinstance(outcomes[3], Retry)


def test_a_connection_that_breaks_at_a_small_body_makes_the_sink_unavailable() -> None:
    async def breaks(request: web.Request, body: bytes) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return await good(request, body)

    with pytest.raises(SinkUnavailable, match="broke"):
        write(Fake(breaks))


def test_a_server_that_does_not_answer_in_time_makes_the_sink_unavailable() -> None:
    async def sleeps(request: web.Request, body: bytes) -> web.StreamResponse:
        await asyncio.sleep(30)
        return await good(request, body)

    with pytest.raises(SinkUnavailable, match=r"within 0\.2 s"):
        write(Fake(sleeps), timeout="200ms")


def test_a_batch_above_bytes_max_is_sent_in_several_requests() -> None:
    fake = Fake()
    assert list(write(fake, bytes_max=300)) == [APPLIED] * 8
    assert sum(request.path == "/_bulk" for request in fake.requests) == 4


def test_a_document_above_the_servers_limit_is_not_sent() -> None:
    limits = {"nodes": {"a": {"http": {"max_content_length_in_bytes": 100_000}}}}
    fake = Fake(paths={"/_nodes/http": web.json_response(limits)})
    outcomes = write(fake, [insert("a"), insert("b", {"text": "x" * 100_000})])
    assert outcomes[0] == APPLIED
    assert outcomes[1].reason == "too_large"


def test_a_retry_holds_back_the_later_changes_of_its_key() -> None:
    busy = {"index": {"status": 503, "error": {"type": "unavailable_shards_exception", "reason": ""}}}
    done = {"index": {"status": 200}}
    outcomes = write(
        Fake(answers(200, {"errors": True, "items": [busy, done, done]})),
        [insert("a", version=1), insert("b", version=2), insert("a", version=3)],
    )
    assert [type(outcome).__name__ for outcome in outcomes] == ["Retry", "Applied", "Retry"]


def test_the_options_reach_the_server() -> None:
    fake = Fake()
    write(fake, refresh="wait_for", pipeline="clean", auth={"username": "me", "password": "hunter2"})
    bulk = next(request for request in fake.requests if request.path == "/_bulk")
    assert bulk.query["refresh"] == "wait_for"
    assert bulk.query["pipeline"] == "clean"
    assert bulk.headers["Authorization"] == "Basic bWU6aHVudGVyMg=="


def test_bodies_are_compressed_if_asked() -> None:
    bodies: list[tuple[str, bytes]] = []

    async def keeps(request: web.Request, body: bytes) -> web.StreamResponse:
        bodies.append((request.headers["Content-Encoding"], body))
        return await good(request, b"\n" * 16)

    assert list(write(Fake(keeps), compress=True)) == [APPLIED] * 8
    ((encoding, body),) = bodies
    assert encoding == "gzip"
    # aiohttp's server unpacks a body whose encoding it knows.
    text = gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body
    assert text.count(b'"_id":"k') == 8


def test_another_node_is_asked_where_nobody_listens() -> None:
    async def run() -> None:
        dead = f"http://127.0.0.1:{unused_port()}"
        async with serving(Fake()) as url, opened(make([dead, url])) as sink:
            for _ in range(3):
                assert list(await sink.write(BATCH)) == [APPLIED] * 8

    asyncio.run(run())


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ({"/": web.json_response({}, status=401)}, "refuses the credentials"),
        ({"/": web.json_response({"hello": "world"})}, "not OpenSearch"),
        ({"/items": web.json_response({}, status=403)}, "may not use the index"),
        ({"/_ingest/pipeline/clean": web.json_response({}, status=404)}, "no ingest pipeline"),
    ],
)
def test_what_only_a_person_can_mend_is_said_at_the_start(paths: dict[str, web.Response], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        write(Fake(paths=paths), [], pipeline="clean")


def test_a_role_that_may_only_write_is_enough() -> None:
    forbidden = {path: web.json_response({}, status=403) for path in ("/", "/_nodes/http", "/items/_settings")}
    assert list(write(Fake(paths=forbidden))) == [APPLIED] * 8


@pytest.mark.parametrize(("status", "outcome"), [(400, Rejected), (403, Retry)])
def test_an_index_that_cannot_be_created_fails_its_own_items_only(status: int, outcome: type) -> None:
    class Refusing(Fake):
        async def answer(self, request: web.Request) -> web.StreamResponse:
            if request.path == "/items-bad":
                return web.json_response({"error": {"type": "no"}}, status=404 if request.method == "HEAD" else status)
            return await super().answer(request)

    config = {"index": "items-{team}", "allow_indexes": ["items-*"], "create_index": {}}
    outcomes = write(Refusing(), [insert("a", {"team": "bad"}), insert("b", {"team": "good"})], **config)
    assert [type(each) for each in outcomes] == [outcome, type(APPLIED)]


def test_requests_are_signed_for_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG")
    seen: list[tuple[web.Request, bytes]] = []

    async def keeps(request: web.Request, body: bytes) -> web.StreamResponse:
        seen.append((request, body))
        return await good(request, body)

    write(Fake(keeps), aws={"region": "eu-west-1", "service": "aoss"})
    ((request, body),) = seen
    signed = request.headers["Authorization"]
    assert "/eu-west-1/aoss/aws4_request" in signed
    assert "x-amz-content-sha256" in signed
    # The same request, signed by botocore anew, has the same signature: what was sent is what was signed.
    names = signed.split("SignedHeaders=")[1].split(",")[0].split(";")
    again = botocore.awsrequest.AWSRequest(
        method="POST",
        url=str(request.url),
        data=body,
        headers={name: request.headers[name] for name in names if name != "host"},
    )
    again.context["timestamp"] = request.headers["X-Amz-Date"]
    auth = botocore.auth.SigV4Auth(
        botocore.credentials.Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG"), "aoss", "eu-west-1"
    )
    canonical = auth.canonical_request(again)
    assert signed.endswith("Signature=" + auth.signature(auth.string_to_sign(again, canonical), again))


def test_credentials_that_are_nowhere_are_said_at_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ConfigError, match="AWS credentials"):
        write(Fake(), [], aws={"region": "eu-west-1"})


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-out", str(files[0]), "-keyout", str(files[1])]
    subprocess.run(command, check=True, capture_output=True)
    return files


def test_a_certificate_is_checked_against_the_given_authority(certificate: tuple[Path, Path]) -> None:
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.load_cert_chain(*certificate)

    async def run() -> None:
        fake = Fake()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", fake.answer)
        server = TestServer(app, scheme="https")
        await server.start_server(ssl=server_side)
        url = str(server.make_url("")).rstrip("/")
        try:
            for trusted in ({"ca": str(certificate[0])}, {"verify": False}):
                async with opened(make(url, tls=trusted)) as sink:
                    assert list(await sink.write(BATCH)) == [APPLIED] * 8
            with pytest.raises(ConfigError, match="not trusted"):
                async with opened(make(url)):
                    pass
        finally:
            await server.close()

    asyncio.run(run())


def test_an_authority_file_that_is_missing_is_a_config_error(tmp_path: Path) -> None:
    sink = make("https://localhost:1", tls={"ca": str(tmp_path / "none.pem")})

    async def run() -> None:
        async with opened(sink):
            pass

    with pytest.raises(ConfigError, match="CA file"):
        asyncio.run(run())


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": []},
        {"url": "localhost:9200"},
        {"url": "http://me:hunter2@localhost:9200"},
        {"url": "http://localhost:99999"},
        {"url": "http://localhost:9200?x=1"},
        {"index": "Upper"},
        {"index": "a,b"},
        {"index": "items-{team}"},
        {"allow_indexes": ["items-*"]},
        {"id": "{pk"},
        {"id": ""},
        {"auth": {"username": "me", "password": "x"}, "aws": {"region": "eu-west-1"}},
        {"aws": {"region": "eu-west-1", "service": "s3"}},
        {"refresh": "sometimes"},
        {"timeout": 0},
        {"colour": "blue"},
    ],
)
def test_wrong_configurations_are_refused_without_telling_secrets(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as raised:
        make(**{"url": "http://localhost:9200", **wrong})
    assert "hunter2" not in str(raised.value)


def test_a_configuration_does_not_print_its_password() -> None:
    config = OpenSearchConfig.model_validate(
        {
            "url": "http://localhost:9200",
            "index": "items",
            "id": "{pk}",
            "auth": {"username": "me", "password": "hunter2"},
        }
    )
    assert "hunter2" not in repr(config)
    assert "hunter2" not in json.dumps(config.model_dump(mode="json"))
