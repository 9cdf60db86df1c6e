"""``millrace check``: connects to everything that a configuration names, and says of each whether it works."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from connector.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from connector.config.models import PipelineConfig


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(check)


def check(
    configs: Annotated[list[Path], typer.Argument(metavar="CONFIG…", help="Configuration files.")],
    timeout_s: Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="For each connection.")] = 15.0,
) -> None:
    """Connect to every source, sink and store of the configuration and report each. Creates what `run` would create
    at start (tables, indexes), reads no change and moves no checkpoint."""
    import asyncio

    from rich.console import Console
    from rich.table import Table

    from connector.config.load import load_all
    from connector.observe import logs

    loaded = load_all(configs)
    logs.configure("error")  # what the parts would log stands in the table
    table = Table("pipeline", "part", "type", "", "what it says")
    failed = False

    async def main() -> None:
        nonlocal failed
        for config in loaded.values():
            for name, pipeline in config.pipelines.items():
                for part, kind, error, report in await _check_pipeline(name, pipeline, timeout_s):
                    failed |= error
                    table.add_row(name, part, kind, "[red]failed[/red]" if error else "[green]ok[/green]", report)

    asyncio.run(main())
    Console(width=None).print(table)
    if failed:
        raise typer.Exit(ExitCode.CHECK_FAILED)


async def _check_pipeline(name: str, config: PipelineConfig, timeout_s: float) -> list[tuple[str, str, bool, str]]:
    """(part, type, failed, report) of each part of a pipeline."""
    from connector.assemble import make_checkpoints, make_dead_letters, make_route, make_source
    from connector.clock import SystemClock
    from connector.sink import check_report

    clock = SystemClock()
    source = make_source(name, config, clock)
    store = make_checkpoints(name, config, source)
    rows = []
    if source.own_checkpoints() is None or config.checkpoints.type == "sqlite":
        rows.append(await _try("checkpoints", "sqlite", store.open, check_report, store, timeout_s=timeout_s))
        store = make_checkpoints(name, config, source)

    async def open_source() -> None:
        await store.open()
        await source.open(_Bystander(), store)

    rows.append(await _try("source", config.source.type, open_source, check_report, source, store, timeout_s=timeout_s))
    letters = make_dead_letters(name, config)
    rows.append(
        await _try("dead_letter", config.dead_letter.type, letters.open, check_report, letters, timeout_s=timeout_s)
    )
    for route_name, route in config.routes.items():
        sink = make_route(name, route_name, route, clock).sink
        rows.append(
            await _try(f"routes.{route_name}", route.sink.type, sink.open, check_report, sink, timeout_s=timeout_s)
        )
    return rows


class _Bystander:
    """Hears of shards and does nothing: the source is opened, and closed again before it has read anything."""

    async def assigned(self, shards: Mapping[str, Any]) -> None:
        """Nothing."""

    async def revoked(self, shards: Collection[str]) -> None:
        """Nothing."""

    async def lost(self, shards: Collection[str]) -> None:
        """Nothing."""

    async def ended(self, shards: Collection[str]) -> Mapping[str, Any]:
        """Nothing ends without being read."""
        return {}


async def _try(
    part: str,
    kind: str,
    opening: Callable[[], Awaitable[None]],
    describe: Callable[[Any], str],
    *opened: Any,
    timeout_s: float,
) -> tuple[str, str, bool, str]:
    """Open a part, let it describe itself, close it (and what it was opened with)."""
    import asyncio
    import contextlib

    try:
        async with asyncio.timeout(timeout_s):
            await opening()
        return part, kind, False, describe(opened[0])
    except TimeoutError:
        why = getattr(opened[0], "last_error", "")
        return part, kind, True, f"no answer within {timeout_s:g} s" + (f": {why}" if why else "")
    except Exception as error:  # each part is reported; the next one is checked all the same
        return part, kind, True, str(error) or type(error).__name__
    finally:
        for thing in opened:
            with contextlib.suppress(Exception):
                await thing.close()
