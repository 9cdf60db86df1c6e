"""The one thread that a Kafka consumer lives in.

A consumer is used from one thread only: its callbacks run inside ``consume``, and newer clients hold up calls from a
second thread (confluent-kafka-python#2322). While a callback waits for the pipeline (a revoked shard is drained), the
pipeline has to commit: so the waiting thread goes on serving the jobs that may run inside a callback.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Job(Generic[T]):
    """A call that runs in the thread, and its result."""

    def __init__(self, function: Callable[[], T], *, nested: bool) -> None:
        self.function = function
        self.nested = nested
        self.result: Future[T] = Future()

    def run(self) -> None:
        """Run it, unless nobody waits for it any more."""
        if not self.result.set_running_or_notify_cancel():
            return
        try:
            value = self.function()
        except BaseException as error:
            self.result.set_exception(error)
        else:
            self.result.set_result(value)


class ConsumerThread:
    """Runs jobs one after the other, and some of them while another one waits for the event loop."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: queue.SimpleQueue[Job[Any] | None] = queue.SimpleQueue()
        self._held: deque[Job[Any] | None] = deque()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], T], *, nested: bool = False) -> asyncio.Future[T]:
        """Run ``function`` in the thread; with ``nested`` also while a callback waits. Called on the event loop."""
        job = Job(function, nested=nested)
        self._jobs.put(job)
        return asyncio.wrap_future(job.result, loop=self._loop)

    def wait_for(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the event loop and serve nested jobs until it is done. Called in the thread."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        future.add_done_callback(lambda _: self._jobs.put(Job(_nothing, nested=True)))
        while not future.done():
            self._serve(self._jobs.get())
        return future.result()

    def serve_waiting(self) -> None:
        """Run the nested jobs that wait by now. Called in the thread."""
        self.serve_for(0.0)

    def serve_for(self, seconds: float) -> None:
        """Run nested jobs for so long. Called in the thread."""
        until = time.monotonic() + seconds
        while True:
            try:
                job = self._jobs.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return
            self._serve(job)

    async def stop(self) -> None:
        """Let the jobs before this one finish and end the thread."""
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _serve(self, job: Job[Any] | None) -> None:
        if job is not None and job.nested:
            job.run()
        else:
            self._held.append(job)

    def _run(self) -> None:
        while (job := self._held.popleft() if self._held else self._jobs.get()) is not None:
            job.run()


def _nothing() -> None:
    """Wakes the thread up."""
