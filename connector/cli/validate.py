"""``millrace validate``: is a configuration right, as far as that can be known without a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from connector.config.models import Config


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(validate)


def validate(
    configs: Annotated[list[Path], typer.Argument(metavar="CONFIG...", help="Configuration files of one process.")],
    show: Annotated[
        bool, typer.Option("--show", help="Print what was read, defaults included, secrets masked.")
    ] = False,
) -> None:
    """Check configurations without connecting to anything.

    Prints every error with file, line and column, and exits with 2 if there is one. References such as `${NAME}` are
    filled in, so the variables must be set as they will be for `run`.
    """
    from connector.cli.console import say
    from connector.config.load import load_all

    for file, config in load_all(configs).items():
        say(f"{file}: ok ({_count(config)})")
        if show:
            typer.echo(_shown(config))


def _count(config: Config) -> str:
    pipelines = len(config.pipelines)
    routes = sum(len(pipeline.routes) for pipeline in config.pipelines.values())
    return f"{pipelines} pipeline{'s' * (pipelines > 1)}, {routes} route{'s' * (routes > 1)}"


def _shown(config: Config) -> str:
    import yaml

    from connector.config.secrets import shown

    return yaml.safe_dump(shown(config), sort_keys=False, allow_unicode=False, width=120).rstrip()
