"""A thread for one blocking client: its calls never hold up the event loop, and come one at a time, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class OneThread:
    """The thread starts with the first call. After ``stop`` the next call starts another one."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._executor: ThreadPoolExecutor | None = None

    async def run(self, function: Callable[[], T]) -> T:
        """Run a function in the thread, after those before it."""
        return await self.start(function)

    def start(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Have a function run in the thread. Called on the event loop."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix=self._name)
        return asyncio.get_running_loop().run_in_executor(self._executor, function)

    def stop(self) -> None:
        """Let the thread end after the calls that wait for it."""
        if self._executor is not None:
            self._executor.shutdown(wait=False)
            self._executor = None
