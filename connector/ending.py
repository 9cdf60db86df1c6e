"""Ending tasks for sure: a client may turn one cancellation into an error of its own, and go on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any


async def end(tasks: Sequence[asyncio.Future[Any]], *, again_s: float = 0.5) -> None:
    """Cancel tasks, again and again, until they have ended; what they end with is not told."""
    # In their own order: a set's would differ from run to run, and a simulated history with it.
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=again_s)
    await asyncio.gather(*tasks, return_exceptions=True)
