"""The daemon: pipelines side by side in one process, the admin server beside them, signals, drain."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Mapping
from functools import partial

import structlog

from connector.assemble import make_pipeline
from connector.clock import SystemClock
from connector.config.models import Admin, PipelineConfig
from connector.delivery.courier import StoppedByPoison
from connector.errors import ConfigError
from connector.observe import admin
from connector.observe.snapshot import PipelineSnapshot
from connector.pipeline import Pipeline
from connector.reporting import snapshot

log = structlog.get_logger(__name__)


class Daemon:
    """Runs the pipelines of one or several configurations. One that fails does not end the others.

    A failed pipeline stays failed, not ready and with its reason on the status page: the process goes on for the
    others and for whoever comes to look, and ends when all have ended.
    """

    def __init__(
        self, pipelines: Mapping[str, PipelineConfig], admin_config: Admin, *, until_caught_up: bool = False
    ) -> None:
        clock = SystemClock()
        self.pipelines: list[Pipeline] = [
            make_pipeline(name, config, clock, until_caught_up=until_caught_up) for name, config in pipelines.items()
        ]
        self._admin_config = admin_config
        self._until_caught_up = until_caught_up
        self._stopping = asyncio.Event()

    def snapshots(self) -> list[PipelineSnapshot]:
        """All pipelines at this moment."""
        return [snapshot(pipeline) for pipeline in self.pipelines]

    async def run(self) -> list[BaseException]:
        """Run until all pipelines have ended; returns what they failed of (empty: all stopped in order).

        SIGTERM and SIGINT stop in order; a second one ends at once what has not drained.
        Raises ConfigError when the admin server cannot listen.
        """
        loop = asyncio.get_running_loop()
        server = None
        if self._admin_config.enabled:
            server = await admin.start(self._admin_config.host, self._admin_config.port, self.snapshots)
        tasks = [asyncio.ensure_future(pipeline.run()) for pipeline in self.pipelines]
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number, tasks)
        _settle_garbage()
        try:
            return await self._until_ended(tasks)
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
            if server is not None:
                await server.close()

    def _stop(self, number: signal.Signals, tasks: list[asyncio.Task[None]]) -> None:
        if self._stopping.is_set():
            log.warning("second signal: ending without drain", signal=signal.Signals(number).name)
            for task in tasks:
                task.cancel()
            return
        self._stopping.set()
        log.info("stopping", signal=signal.Signals(number).name)
        for pipeline in self.pipelines:
            pipeline.stop()

    async def _until_ended(self, tasks: list[asyncio.Task[None]]) -> list[BaseException]:
        ended = asyncio.gather(*tasks, return_exceptions=True)
        for task, pipeline in zip(tasks, self.pipelines, strict=True):
            task.add_done_callback(partial(_tell, pipeline.options.name))
        failures = [result for result in await ended if result is not None]
        if failures and not self._until_caught_up and self._stays_up(failures):
            log.error("all pipelines have ended and not all of them in order: waiting for a stop, not ready")
            await self._stopping.wait()
        return failures

    def _stays_up(self, failures: list[BaseException]) -> bool:
        """A poison stop waits for a person, who reads why on the status page: a restart would only meet it again.
        Whatever else failed is worth a restart by whoever supervises the process."""
        return self._admin_config.enabled and all(isinstance(failure, StoppedByPoison) for failure in failures)


def _tell(name: str, task: asyncio.Task[None]) -> None:
    if task.cancelled():
        log.warning("pipeline ended without drain", pipeline=name)
    elif (error := task.exception()) is not None:
        known = isinstance(error, ConfigError | StoppedByPoison)
        log.error("pipeline failed", pipeline=name, error=str(error), exc_info=None if known else error)


def _settle_garbage() -> None:
    """What is here now stays: the collector need not look at it again. What comes later is mostly decoded, used and
    dropped by reference counting; looking for cycles less often is worth more than the little memory that it costs."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
