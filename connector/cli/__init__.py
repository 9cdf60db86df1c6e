"""The command line: ``millrace …``.

Each file of this folder with a function ``register(app)`` adds one command or one group of commands. Those files are
imported at every start, so they import only typer and the standard library at their top, and all else inside commands.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys

import typer

from connector.cli.exit_codes import MEANINGS, ExitCode

_ORDER = ("run", "validate", "check", "snapshot", "dlq", "checkpoints", "import", "schema", "version")
"""How ``--help`` lists them; what is not named here comes last."""

_EPILOG = "\n\n".join(
    [
        "**Exit codes**",
        *(f"{code.value} {meaning}" for code, meaning in MEANINGS.items()),
    ]
)

app = typer.Typer(
    name="millrace",
    help="Leads a database's change log onto search indexes, caches and audit tables: in the order of each key, with "
    "nothing lost.\n\nStart with `millrace validate CONFIG`, then `millrace check CONFIG`, then `millrace run CONFIG`.",
    epilog=_EPILOG,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,  # its tracebacks show local variables, and those hold secrets
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root() -> None:
    """Without a callback typer would make a single command of an app with one."""


def _register_all() -> None:
    names = [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]
    for name in sorted(names, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)):
        register = getattr(importlib.import_module(f"{__name__}.{name}"), "register", None)
        if register is not None:
            register(app)


_register_all()


def main() -> None:
    """The console script. Errors that a person can mend are printed without a traceback."""
    from connector.errors import ConfigError, MillraceError

    try:
        app()
    except MillraceError as error:
        from connector.cli.console import complain_all
        from connector.config.problems import ConfigErrors

        complain_all(error.errors if isinstance(error, ConfigErrors) else [error])
        wrong_config = isinstance(error, ConfigErrors | ConfigError)
        sys.exit(ExitCode.CONFIG_WRONG if wrong_config else ExitCode.FAILURE)
