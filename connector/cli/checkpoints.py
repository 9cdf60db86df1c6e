"""``millrace checkpoints``: where each shard's reading goes on, and forgetting it."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from connector.cli.selecting import AsJson, ConfigFile, OnePipeline, Yes, ask, load_pipelines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from connector.checkpoints.protocol import CheckpointStore
    from connector.config.models import PipelineConfig


SHARDS_SHOWN_MAX = 10


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = typer.Typer(
        help="Checkpoints: the saved position of each shard.", no_args_is_help=True, rich_markup_mode="markdown"
    )
    group.command()(show)
    group.command()(reset)
    app.add_typer(group, name="checkpoints")


def show(config: ConfigFile, pipeline: OnePipeline = None, as_json: AsJson = False) -> None:
    """Print the saved checkpoints. Changes nothing, and may run beside the daemon. With `--json`, one line a shard."""
    from connector.cli.console import console, say
    from connector.cli.letters import table_of, time_shown
    from connector.delivery.versions import LOGICAL_BITS
    from connector.observe.escape import escape_text

    async def main() -> None:
        for name, pipeline_config in load_pipelines(config, pipeline).items():
            async with _opened(name, pipeline_config, exclusive=False) as store:
                saved = await store.all() if store is not None else {}
            table = table_of(f"checkpoints of {name}", {"shard": False, "position": True, "clock": False})
            for shard, checkpoint in sorted(saved.items()):
                if as_json:
                    shown = {"position": checkpoint.position, "clock": checkpoint.clock}
                    typer.echo(json.dumps({"pipeline": name, "shard": shard, **shown}))
                    continue
                clock = time_shown(checkpoint.clock >> LOGICAL_BITS) if checkpoint.clock else "-"
                table.add_row(escape_text(shard), str(checkpoint.position), clock)
            if table.row_count:
                console().print(table)
            elif not as_json:
                say(f"{name}: no checkpoints")

    asyncio.run(main())


def reset(
    config: ConfigFile,
    pipeline: Annotated[str, typer.Option("--pipeline", metavar="NAME", help="Which pipeline.")],
    shards: Annotated[
        list[str] | None,
        typer.Option("--shard", metavar="SHARD", help="Only this shard; may be repeated. Otherwise all."),
    ] = None,
    yes: Yes = False,
) -> None:
    """Forget checkpoints, so that the next run reads from the configured start again. Refused while the pipeline runs.

    Asks first, unless `--yes` is given. Changes that are read again leave no trace in a sink that is idempotent.
    """
    from connector.cli.console import say
    from connector.errors import ConfigError

    ((name, pipeline_config),) = load_pipelines(config, pipeline).items()

    async def main() -> None:
        async with _opened(name, pipeline_config, exclusive=True) as store:
            saved = await store.all() if store is not None else {}
            chosen = sorted(saved) if shards is None else shards
            if missing := [shard for shard in chosen if shard not in saved]:
                there = ", ".join(sorted(saved)) or "none"
                raise ConfigError(f"{name} has no checkpoint of shard {missing[0]!r}; it has: {there}")
            if store is not None and chosen:
                ask(f"Forget the checkpoints of {name} for {_listed(chosen)}?", yes)
                await store.reset(chosen)
            say(f"{name}: {len(chosen)} checkpoints forgotten")

    asyncio.run(main())


@asynccontextmanager
async def _opened(name: str, config: PipelineConfig, *, exclusive: bool) -> AsyncIterator[CheckpointStore | None]:
    """A pipeline's checkpoint store, closed whatever happens; None where its file does not exist.

    A look must not make the file. ``exclusive`` takes the lock that a running pipeline has: ConfigError if it runs.
    """
    from connector.assemble import make_checkpoints, make_source
    from connector.checkpoints.sqlite import SQLiteCheckpoints
    from connector.clock import SystemClock

    store = make_checkpoints(name, config, make_source(name, config, SystemClock()), exclusive=exclusive)
    if isinstance(store, SQLiteCheckpoints) and _is_missing(config.checkpoints.path):
        yield None
        return
    try:
        await store.open()
        yield store
    finally:
        await store.close()


def _is_missing(path: str) -> bool:
    from pathlib import Path

    return not Path(path).exists()


def _listed(shards: list[str]) -> str:
    shown = ", ".join(shards[:SHARDS_SHOWN_MAX])
    return f"{shown} and {len(shards) - SHARDS_SHOWN_MAX} more shards" if len(shards) > SHARDS_SHOWN_MAX else shown
