"""The admin HTTP server: what probes, Prometheus and people ask of a running daemon. It answers, and changes nothing.

/metrics  Prometheus's text, OpenMetrics where it is asked for
/livez    200 while the event loop turns
/readyz   200 when nothing is wrong, else 503; JSON with the reason by component
/status   JSON of everything that is known
/         the same for people
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
from aiohttp import web

from connector.clock import Clock, SystemClock
from connector.errors import ConfigError
from connector.observe.collector import exposition, millrace_version
from connector.observe.health import Problem, readiness
from connector.observe.page import status_page
from connector.observe.snapshot import PipelineSnapshot
from connector.observe.status import readiness_json, status_json

Snapshots = Callable[[], list[PipelineSnapshot]]
"""Makes a snapshot of every pipeline, on the event loop, without waiting for anything."""

_log = structlog.get_logger(__name__)

_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Nothing but the page's own style: even a text that slipped through unescaped could not act.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
}


class AdminServer:
    """A running server. ``port`` is the one that it listens on."""

    def __init__(self, runner: web.AppRunner, renderer: ThreadPoolExecutor, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._runner = runner
        self._renderer = renderer

    async def close(self) -> None:
        """Stop listening; answers on their way get a second."""
        await self._runner.cleanup()
        self._renderer.shutdown(wait=False, cancel_futures=True)


async def start(
    host: str,
    port: int,
    snapshots: Snapshots,
    *,
    clock: Clock | None = None,
) -> AdminServer:
    """Listen on ``host:port``; port 0 takes a free one. Raises ConfigError when the address cannot be had."""
    # A scrape of thousands of shards takes tens of milliseconds to write down: not on the engine's event loop, nor
    # behind the blocking clients that share the default executor.
    renderer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="admin")
    app = web.Application(client_max_size=1024, middlewares=[_answer_errors])
    handlers = _Handlers(snapshots, clock or SystemClock(), renderer)
    app.router.add_get("/", handlers.page)
    app.router.add_get("/metrics", handlers.metrics)
    app.router.add_get("/livez", handlers.livez)
    app.router.add_get("/readyz", handlers.readyz)
    app.router.add_get("/status", handlers.status)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0, keepalive_timeout=30.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except (OSError, OverflowError) as error:
        await runner.cleanup()
        renderer.shutdown(wait=False)
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"the admin server cannot listen on {host}:{port}: {said}", path=("admin",)) from error
    bound: int = runner.addresses[0][1]
    _log.info("admin server listens", host=host, port=bound)
    return AdminServer(runner, renderer, host, bound)


class _Handlers:
    def __init__(self, snapshots: Snapshots, clock: Clock, renderer: ThreadPoolExecutor) -> None:
        self._snapshots = snapshots
        self._clock = clock
        self._renderer = renderer

    async def livez(self, _request: web.Request) -> web.Response:
        # Being here at all means that the event loop turns; whether anything is wrong is /readyz's question.
        return web.Response(text="alive\n", headers=_HEADERS)

    async def readyz(self, _request: web.Request) -> web.Response:
        _, problems, _ = self._look()
        return web.Response(
            status=503 if problems else 200,
            body=readiness_json(problems),
            content_type="application/json",
            headers=_HEADERS,
        )

    async def metrics(self, request: web.Request) -> web.Response:
        snapshots, problems, now_ms = self._look()
        accept = request.headers.get("Accept", "")
        body, content_type = await self._render(exposition, snapshots, problems, now_ms, accept)
        return web.Response(body=body, headers={**_HEADERS, "Content-Type": content_type})

    async def status(self, _request: web.Request) -> web.Response:
        body = await self._render(status_json, *self._look(), millrace_version())
        return web.Response(body=body, content_type="application/json", headers=_HEADERS)

    async def page(self, _request: web.Request) -> web.Response:
        text = await self._render(status_page, *self._look(), millrace_version())
        return web.Response(text=text, content_type="text/html", headers=_HEADERS)

    def _look(self) -> tuple[list[PipelineSnapshot], list[Problem], int]:
        snapshots, now_ms = self._snapshots(), self._clock.now_ms()
        return snapshots, readiness(snapshots, now_ms), now_ms

    async def _render(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._renderer, function, *arguments)


@web.middleware
async def _answer_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """A bug in a snapshot must be seen in the log and in the answer, and stop nothing else."""
    try:
        return await handler(request)
    except web.HTTPException:
        raise
    except Exception:
        _log.exception("the admin server could not answer", path=request.path)
        return web.Response(status=500, text="could not answer: see the log\n", headers=_HEADERS)
