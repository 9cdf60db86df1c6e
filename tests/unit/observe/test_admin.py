"""The admin server, over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from typing import Any

import aiohttp
import msgspec
import pytest

from connector.delivery.breaker import BreakerState
from connector.errors import ConfigError
from connector.observe.admin import AdminServer, start
from connector.observe.snapshot import PipelineSnapshot
from tests.unit.observe.builders import NOW_MS, a_pipeline, a_route, a_shard

EVIL = "<script>alert(1)</script>\x1b[31m\u202e\"'&"


class StandingClock:
    def now_ms(self) -> int:
        return NOW_MS

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing waits here")


Get = Callable[..., Any]


@asynccontextmanager
async def serving(
    *snapshots: PipelineSnapshot, make: Callable[[], list[PipelineSnapshot]] | None = None
) -> AsyncIterator[Get]:
    server = await start("127.0.0.1", 0, make or (lambda: list(snapshots)), clock=StandingClock())
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:

        async def get(path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
            async with session.request(method, path, headers=headers) as answer:
                return answer.status, await answer.text(), answer.headers["Content-Type"]

        try:
            yield get
        finally:
            await server.close()


def run(test: Callable[[], Any]) -> None:
    asyncio.run(test())


def test_a_daemon_in_order_is_alive_and_ready() -> None:
    async def scene() -> None:
        async with serving(a_pipeline()) as get:
            assert (await get("/livez"))[0] == 200
            status, body, kind = await get("/readyz")
            assert (status, msgspec.json.decode(body)) == (200, {"ready": True, "problems": []})
            assert kind.startswith("application/json")

    run(scene)


def test_a_sink_that_is_down_makes_it_unready_with_the_reason_yet_alive() -> None:
    async def scene() -> None:
        down = a_route(breaker=BreakerState.OPEN, unavailable_since_ms=NOW_MS - 9000, last_error="refused")
        async with serving(a_pipeline(routes=[down])) as get:
            status, body, _ = await get("/readyz")
            assert status == 503
            (problem,) = msgspec.json.decode(body)["problems"]
            assert problem["component"] == "pipelines.orders.routes.search"
            assert "refused" in problem["reason"]
            assert (await get("/livez"))[0] == 200

    run(scene)


def test_metrics_are_openmetrics_where_asked_for() -> None:
    async def scene() -> None:
        async with serving(a_pipeline()) as get:
            status, body, kind = await get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
            assert status == 200
            assert kind.startswith("application/openmetrics-text")
            assert body.endswith("# EOF\n")
            _, body, kind = await get("/metrics")
            assert kind.startswith("text/plain")
            assert "millrace_ready 1.0" in body

    run(scene)


def test_status_holds_all_of_a_long_sequence_number_and_the_residue() -> None:
    async def scene() -> None:
        shard = a_shard(position=111122223333444455556666777, watermark=111122223333444455556666776, end=None)
        async with serving(a_pipeline(shards=[shard])) as get:
            status, body, _ = await get("/status")
            assert status == 200
            (pipeline,) = msgspec.json.decode(body)["pipelines"]
            (told,) = pipeline["shards"]
            assert told["position"] == "111122223333444455556666777"
            assert told["end"] is None
            assert told["routes"]["search"]["residue"] == 0
            assert pipeline["routes"][0]["end_to_end_seconds"]["count"] == 3

    run(scene)


class PageReader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.said += data


def test_the_page_shows_everything_and_lets_nothing_act() -> None:
    async def scene() -> None:
        route = a_route(EVIL, sink=EVIL, unavailable_since_ms=NOW_MS, last_error=EVIL)
        async with serving(a_pipeline(EVIL, routes=[route], shards=[a_shard(EVIL)], reason=EVIL)) as get:
            status, body, kind = await get("/")
        assert (status, kind) == (200, "text/html; charset=utf-8")
        page = PageReader()
        page.feed(body)
        assert "script" not in {tag for tag, _ in page.tags}
        assert not {"src", "onclick", "onerror"} & {name for _, attributes in page.tags for name in attributes}
        assert all(str(a["href"]).startswith("/") for tag, a in page.tags if tag == "a"), "nothing from elsewhere"
        assert ("meta", {"http-equiv": "refresh", "content": "5"}) in page.tags
        assert any(a.get("name") == "viewport" for tag, a in page.tags if tag == "meta")
        assert "\x1b" not in body
        assert "\u202e" not in body
        assert "<script>alert(1)</script>\\u001b" in page.said
        assert "not ready" in page.said

    run(scene)


def test_it_only_answers_and_changes_nothing() -> None:
    async def scene() -> None:
        async with serving(a_pipeline()) as get:
            assert (await get("/readyz", method="POST"))[0] == 405
            assert (await get("/nothing"))[0] == 404
            assert (await get("/../etc/passwd"))[0] == 404

    run(scene)


def test_a_snapshot_that_fails_is_an_answer_and_stops_nothing_else() -> None:
    def broken() -> list[PipelineSnapshot]:
        raise RuntimeError("secret detail")

    async def scene() -> None:
        async with serving(make=broken) as get:
            status, body, _ = await get("/metrics")
            assert status == 500
            assert "secret" not in body
            assert (await get("/livez"))[0] == 200

    run(scene)


def test_a_port_in_use_is_a_configuration_error() -> None:
    async def scene() -> None:
        first: AdminServer = await start("127.0.0.1", 0, list)
        try:
            with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{first.port}"):
                await start("127.0.0.1", first.port, list)
        finally:
            await first.close()

    run(scene)


def test_a_closed_server_gives_its_port_back() -> None:
    async def scene() -> None:
        first = await start("127.0.0.1", 0, list)
        await first.close()
        again = await start("127.0.0.1", first.port, list)
        await again.close()

    run(scene)
