"""``millrace run``: the daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from connector.cli.exit_codes import ExitCode


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(run)


def run(
    configs: Annotated[
        list[Path], typer.Argument(metavar="CONFIG…", help="Configuration files; their pipelines run in one process.")
    ],
    until_caught_up: Annotated[
        bool,
        typer.Option(
            "--until-caught-up", help="End when what is in the log now is done (batch jobs, tests), instead of never."
        ),
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="PIPELINE", help="Run only this pipeline; may be repeated.")
    ] = None,
) -> None:
    """Run the pipelines until SIGTERM or SIGINT, which drain and save; a second one ends at once.

    A sink that is down is waited for; poison changes go to the dead letters. Watch it at http://127.0.0.1:9464/
    (also /readyz, /livez, /status, /metrics).
    """
    import asyncio

    import uvloop

    from connector.config.load import load_all, process_options
    from connector.daemon import Daemon
    from connector.delivery.courier import StoppedByPoison
    from connector.errors import ConfigError
    from connector.observe import logs

    loaded = load_all(configs)
    admin, log = process_options(loaded.values())
    logs.configure(log.level, json=None if log.format == "auto" else log.format == "json")
    pipelines = {name: pipeline for config in loaded.values() for name, pipeline in config.pipelines.items()}
    if unknown := set(only or ()) - pipelines.keys():
        raise ConfigError(f"--only names {sorted(unknown)[0]!r}; there are: {', '.join(sorted(pipelines))}")
    if only:
        pipelines = {name: pipeline for name, pipeline in pipelines.items() if name in only}

    async def main() -> tuple[list[BaseException], bool]:
        daemon = Daemon(pipelines, admin, until_caught_up=until_caught_up)
        return await daemon.run(), all(pipeline.drained for pipeline in daemon.pipelines)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        failures, drained = runner.run(main())
    if not failures and drained:
        return
    if any(isinstance(failure, ConfigError) for failure in failures):
        raise typer.Exit(ExitCode.CONFIG_WRONG)
    if any(isinstance(failure, StoppedByPoison) for failure in failures):
        raise typer.Exit(ExitCode.POISON)
    raise typer.Exit(ExitCode.FAILURE)
