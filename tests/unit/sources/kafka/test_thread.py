"""The consumer's thread: one job at a time, and some of them inside another one."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest

from connector.sources.kafka.thread import ConsumerThread
from tests.coroutines import asynchronous


@asynchronous
async def test_jobs_run_in_one_thread_in_their_order() -> None:
    thread = ConsumerThread("test", asyncio.get_running_loop())
    ran: list[int] = []

    def job(number: int) -> int:
        ran.append(number)
        return threading.get_ident()

    threads = await asyncio.gather(*(thread.call(partial(job, number)) for number in range(20)))
    assert ran == list(range(20))
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()
    await thread.stop()


@asynchronous
async def test_a_commit_runs_while_a_callback_waits_for_the_pipeline_and_a_read_does_not() -> None:
    thread = ConsumerThread("test", asyncio.get_running_loop())
    ran: list[str] = []
    read: list[asyncio.Future[None]] = []

    async def drain() -> None:
        read.append(thread.call(lambda: ran.append("read")))
        await thread.call(lambda: ran.append("commit"), nested=True)
        ran.append("drained")

    await thread.call(lambda: thread.wait_for(drain()))
    await read[0]
    assert ran == ["commit", "drained", "read"]
    await thread.stop()


@asynchronous
async def test_what_a_job_or_the_pipeline_raises_reaches_whoever_waits() -> None:
    thread = ConsumerThread("test", asyncio.get_running_loop())

    async def fails() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await thread.call(lambda: thread.wait_for(fails()))
    assert await thread.call(lambda: 1) == 1
    await thread.stop()


@asynchronous
async def test_a_job_that_nobody_waits_for_any_more_is_not_run() -> None:
    thread = ConsumerThread("test", asyncio.get_running_loop())
    ran: list[str] = []
    hold = threading.Event()
    first = thread.call(hold.wait)
    given_up = thread.call(lambda: ran.append("given up"))
    given_up.cancel()
    await asyncio.sleep(0)  # the cancellation reaches the job
    hold.set()
    await first
    await thread.call(lambda: None)
    assert ran == []
    await thread.stop()
