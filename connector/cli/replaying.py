"""What ``millrace dlq`` does with a pipeline's letters once they are open."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import typer

from connector.cli.letters import ID_SHOWN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from connector.config.models import PipelineConfig
    from connector.deadletter.protocol import DeadLetters, StoredLetter
    from connector.deadletter.report import ReplayReport
    from connector.deadletter.selection import Selection


@asynccontextmanager
async def opened(name: str, config: PipelineConfig) -> AsyncIterator[DeadLetters]:
    """A pipeline's dead letters, opened, and closed whatever happens."""
    from connector.assemble import make_dead_letters

    destination = make_dead_letters(name, config)
    try:
        await destination.open()
        yield destination
    finally:
        await destination.close()


async def letters_of(name: str, config: PipelineConfig, *, include_done: bool) -> AsyncIterator[StoredLetter]:
    """The letters of a pipeline's destination. Raises DeadLetterError."""
    async with opened(name, config) as destination:
        async for stored in destination.letters(include_done=include_done):
            yield stored


async def replay(name: str, config: PipelineConfig, selection: Selection, timeout_s: float) -> ReplayReport:
    """Replay a pipeline's letters."""
    import random

    from connector.assemble import make_route
    from connector.clock import SystemClock
    from connector.deadletter.reopen import installed_codecs
    from connector.deadletter.replay import Replay, options_for

    clock = SystemClock()
    async with opened(name, config) as destination:
        return await Replay(
            options_for(name, config.limits, selection, timeout_s),
            plans=[make_route(name, route, of, clock) for route, of in config.routes.items()],
            destination=destination,
            codec_of=installed_codecs(),
            clock=clock,
            chance=random.Random(),  # noqa: S311 - jitter, nothing secret
        ).run()


async def rehearse_all(
    pipelines: dict[str, PipelineConfig], selection: Selection, timeout_s: float, as_json: bool
) -> None:
    """Print what a replay would send where."""
    from connector.assemble import make_route
    from connector.cli.console import console, say
    from connector.cli.letters import route_shown, table_of
    from connector.clock import SystemClock
    from connector.deadletter.rehearsal import rehearse
    from connector.deadletter.reopen import installed_codecs
    from connector.deadletter.replay import options_for
    from connector.observe.escape import escape_text

    clock = SystemClock()
    for name, config in pipelines.items():
        plans = [make_route(name, route, of, clock) for route, of in config.routes.items()]
        table = table_of(f"a replay of {name} would", dict.fromkeys(("id", "route", "key", "event", "what"), False))
        async with opened(name, config) as destination:
            options = options_for(name, config.limits, selection, timeout_s)
            async for row in rehearse(options, plans=plans, destination=destination, codec_of=installed_codecs()):
                cells = (row.letter.id, route_shown(row.route), row.key or "", row.event_name, row.what)
                if as_json:
                    names = ("id", "route", "key", "event_name", "what")
                    typer.echo(json.dumps({"pipeline": name, **dict(zip(names, cells, strict=True))}))
                else:
                    table.add_row(cells[0][:ID_SHOWN], *map(escape_text, cells[1:]))
        if table.row_count:
            console().print(table)
        elif not as_json:
            say(f"{name}: nothing to replay")
