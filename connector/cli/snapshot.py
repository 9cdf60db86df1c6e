"""``millrace snapshot``: the items of a source's table through its routes, on demand, beside a running stream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from connector.cli.exit_codes import ExitCode
from connector.cli.selecting import ConfigFile

if TYPE_CHECKING:
    from connector.config.models import PipelineConfig
    from connector.pipeline import Pipeline
    from connector.snapshot.records import ItemFilter

SHOW_EVERY_S = 0.2
SAY_EVERY_S = 10.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(snapshot)


def snapshot(
    config: ConfigFile,
    pipeline: Annotated[
        str | None, typer.Option("--pipeline", metavar="NAME", help="Which pipeline, where the file has several.")
    ] = None,
    route: Annotated[
        list[str] | None,
        typer.Option(
            "--route",
            metavar="NAME",
            help="Only this route, also where it takes no snapshots by itself; may be repeated.",
        ),
    ] = None,
    item_filter: Annotated[
        str | None,
        typer.Option(
            "--filter", metavar="PATTERN", help="Only items that match: a pattern as for `where`, as JSON or YAML."
        ),
    ] = None,
) -> None:
    """Read the source's table and send its items through the routes as INSERT changes.

    Runs beside the daemon that follows the stream: whatever that delivered, or will deliver, since this began is newer.
    Interrupt it as you like: the same command goes on where it was, until all is done. A sink that is down for long
    ends it, too. How fast it reads is `scan.capacity_units_per_second`.
    """
    import uvloop

    from connector.cli.selecting import load_pipelines
    from connector.errors import ConfigError
    from connector.observe import logs

    pipelines = load_pipelines(config, pipeline)
    if len(pipelines) > 1:
        raise ConfigError(f"--pipeline: which? There are: {', '.join(sorted(pipelines))}")
    ((name, pipeline_config),) = pipelines.items()
    logs.configure("warning")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        done = runner.run(_run(name, pipeline_config, route, item_filter))
    if not done:
        raise typer.Exit(ExitCode.INTERRUPTED)


async def _run(name: str, config: PipelineConfig, routes: list[str] | None, item_filter: str | None) -> bool:
    """Says whether it was done to the end."""
    import signal

    from connector.cli.console import complain, say
    from connector.clock import SystemClock
    from connector.snapshot.demand import make_demand, position_is_taken

    clock = SystemClock()
    if not await position_is_taken(name, config, clock):
        complain(
            f"{name}: nothing has followed the stream yet: what is changed from now on is delivered only if the daemon "
            "begins before it is lost there (`snapshot: initial` takes the position first)"
        )
    pipeline = make_demand(name, config, clock, routes=routes, wanted=_wanted(item_filter), filter_text=item_filter)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, pipeline.stop)
    showing = asyncio.ensure_future(_show(name, pipeline))
    try:
        await pipeline.run()
    finally:
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)
    status = pipeline.source.snapshot_status  # type: ignore[attr-defined]
    letters = sum(sum(route.tally.dead_letters.values()) for route in pipeline.routes)
    written = f"{status.items} items read in {status.pages} pages, {status.capacity_units:g} capacity units"
    if status.state == "done":
        say(f"{name}: done, {written}" + (f"; {letters} dead letters: see `millrace dlq list`" if letters else ""))
        return True
    say(f"{name}: interrupted, {written}; the same command goes on from here")
    return False


def _wanted(text: str | None) -> ItemFilter | None:
    if text is None:
        return None
    from connector.config.problems import ConfigErrors
    from connector.config.yaml import parse
    from connector.filters import compile_where, parse_pattern

    document = parse(text.encode(), "--filter")
    if document.errors:
        raise ConfigErrors(document.errors)
    return compile_where([parse_pattern(document.value)])


async def _show(name: str, pipeline: Pipeline) -> None:
    """A bar on a terminal; elsewhere a line now and then. Both on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from connector.cli.console import complain

    terminal = Console(stderr=True, markup=False, highlight=False, emoji=False)
    if not terminal.is_terminal:
        while True:
            await asyncio.sleep(SAY_EVERY_S)
            complain(f"{name}: {_progress_text(pipeline)}")
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=terminal, auto_refresh=False) as bar:
        task = bar.add_task(name, total=None)
        while True:
            status = pipeline.source.snapshot_status  # type: ignore[attr-defined]
            if status is not None and status.state != "waiting":
                total = max(status.items_estimate or 0, status.items) or None
                text = f"{name}: {_progress_text(pipeline)}"
                bar.update(task, completed=status.items, total=total, description=text, refresh=True)
            await asyncio.sleep(SHOW_EVERY_S)


def _progress_text(pipeline: Pipeline) -> str:
    status = pipeline.source.snapshot_status  # type: ignore[attr-defined]
    if status is None or status.state == "waiting":
        return "connecting" + (f" ({pipeline.reason})" if pipeline.reason else "")
    parts = [
        f"{status.items} items" + (f" of about {status.items_estimate}" if status.items_estimate else ""),
        f"{status.segments_done}/{status.segments} segments",
        f"{status.items_per_s:.0f}/s",
    ]
    if status.seconds_left is not None:
        parts.append(f"about {_shown(status.seconds_left)} left")
    if status.last_error:
        parts.append(status.last_error)
    return ", ".join(parts)


def _shown(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
