"""``millrace schema``: what may be written, for editors and for people."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(schema)


def schema(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the reference of options as Markdown tables instead.")
    ] = False,
) -> None:
    """Print the JSON Schema of configuration files, with the options of all installed plug-ins.

    For an editor with the YAML language server: `millrace schema > millrace.schema.json`, and as the first line of the
    configuration `# yaml-language-server: $schema=millrace.schema.json`.
    """
    import json

    from connector.cli.console import complain
    from connector.config.reference import write_reference
    from connector.config.schema import build_schema

    built, broken = build_schema()
    for error in broken:
        complain(f"left out: {error}")
    typer.echo(write_reference(built) if markdown else json.dumps(built, indent=2))
