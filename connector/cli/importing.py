"""``millrace import``: configurations made from those of other systems."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = typer.Typer(
        help="Make a configuration from that of another system.", no_args_is_help=True, rich_markup_mode="markdown"
    )
    group.command("lambda-esm")(lambda_esm)
    app.add_typer(group, name="import")


def lambda_esm(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", allow_dash=True, help="The JSON that AWS printed; `-`: standard input.")
    ],
) -> None:
    """Turn a Lambda event source mapping into a pipeline, printed as YAML.

    `aws lambda get-event-source-mapping --uuid … > mapping.json`, then `millrace import lambda-esm mapping.json >
    millrace.yaml`. Also takes what `list-event-source-mappings` prints. Comments say what differs and what is yours to
    do: the sink is, since nobody can know what the function did.
    """
    import sys

    from connector.errors import ConfigError
    from connector.importing.lambda_esm import configuration, read_mappings

    try:
        text = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    typer.echo(configuration(read_mappings(text)), nl=False)
