"""What commands on dead letters and checkpoints have in common: their options, and the pipelines that are meant."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from connector.config.models import PipelineConfig

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="The configuration file.")]
OnePipeline = Annotated[
    str | None, typer.Option("--pipeline", metavar="NAME", help="Only this pipeline; otherwise all of the file.")
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON for machines, instead of a table.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Route = Annotated[
    str | None,
    typer.Option("--route", metavar="NAME", help="Only letters of this route; `decode`: of undecodable records."),
]
ReasonCode = Annotated[
    str | None, typer.Option("--reason", metavar="CODE", help="Only letters with this code, or of this kind.")
]
Key = Annotated[str | None, typer.Option("--key", metavar="JSON", help="Only letters of this key, as `list` shows it.")]
Limit = Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="At most so many, in each pipeline.")]
OneId = Annotated[str | None, typer.Option("--id", metavar="ID", help="Only letters whose id begins so.")]


def load_pipelines(config: Path, pipeline: str | None) -> dict[str, PipelineConfig]:
    """The pipelines that are meant; sets up the log, on standard error, as the file says.

    Raises ConfigErrors, and ConfigError for a name that is not there.
    """
    from connector.config.load import load
    from connector.errors import ConfigError
    from connector.observe import logs

    loaded = load(config)
    logs.configure(loaded.log.level, json=None if loaded.log.format == "auto" else loaded.log.format == "json")
    if pipeline is None:
        return dict(loaded.pipelines)
    if pipeline not in loaded.pipelines:
        raise ConfigError(f"there is no pipeline {pipeline!r}; there are: {', '.join(sorted(loaded.pipelines))}")
    return {pipeline: loaded.pipelines[pipeline]}


def ask(question: str, yes: bool) -> None:
    """Go on only if the answer is yes. Raises typer.Abort."""
    if not yes:
        from connector.observe.escape import escape_text

        typer.confirm(escape_text(question), abort=True, err=True)
