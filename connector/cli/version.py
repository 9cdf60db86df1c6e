"""``millrace version``: what is installed."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(version)


def version(
    with_plugins: Annotated[
        bool, typer.Option("--plugins", help="List the installed plug-ins too, and where each comes from.")
    ] = False,
) -> None:
    """Print the version, and what plug-ins are installed."""
    import platform
    from importlib import metadata

    from connector.cli.console import console, say

    say(f"millrace {metadata.version('millrace')} (Python {platform.python_version()})")
    if not with_plugins:
        return

    from rich.table import Table

    from connector import plugins
    from connector.observe.escape import escape_text

    table = Table("kind", "name", "distribution")
    kinds = {
        "source": plugins.sources(),
        "format": plugins.codecs(),
        "sink": plugins.sinks(),
        "dead letters": plugins.dead_letters(),
    }
    for kind, found in kinds.items():
        for name, plugin in found.items():
            table.add_row(kind, escape_text(name), escape_text(plugin.distribution))
    console().print(table)
