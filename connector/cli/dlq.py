"""``millrace dlq``: looking at dead letters, replaying them, giving them up."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated

import typer

from connector.cli import replaying
from connector.cli.exit_codes import ExitCode
from connector.cli.letters import ID_SHOWN
from connector.cli.replaying import letters_of, opened
from connector.cli.selecting import (
    AsJson,
    ConfigFile,
    Key,
    Limit,
    OneId,
    OnePipeline,
    ReasonCode,
    Route,
    Yes,
    ask,
    load_pipelines,
)

if TYPE_CHECKING:
    from connector.config.models import PipelineConfig
    from connector.deadletter.protocol import StoredLetter
    from connector.deadletter.report import ReplayReport
    from connector.deadletter.selection import Selection

LIST_MAX = 100
ID_CHARACTERS_MIN = 6
MARK_AT_ONCE = 500


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = typer.Typer(
        help="Dead letters: changes that a sink will never accept, and records that are not what their format says.",
        no_args_is_help=True,
        rich_markup_mode="markdown",
    )
    group.command("list")(list_letters)
    group.command()(show)
    group.command()(replay)
    group.command()(purge)
    app.add_typer(group, name="dlq")


def list_letters(
    config: ConfigFile,
    *,
    pipeline: OnePipeline = None,
    route: Route = None,
    reason: ReasonCode = None,
    key: Key = None,
    limit: Limit = LIST_MAX,
    everything: Annotated[bool, typer.Option("--all", help="Also those that were replayed or purged.")] = False,
    as_json: AsJson = False,
) -> None:
    """List dead letters, in the order in which they were written. With `--json`, one line a letter."""
    from connector.cli.console import complain, console, say
    from connector.cli.letters import envelope, route_shown, table_of, time_shown
    from connector.deadletter.protocol import LettersUnreadable
    from connector.observe.escape import escape_text

    selection = _selection(route=route, reason=reason, key=key)
    unreadable: list[str] = []
    columns = dict.fromkeys(("id", "route", "key", "reason", "last failed", "state"), False)

    async def main() -> None:
        for name, pipeline_config in load_pipelines(config, pipeline).items():
            table, left_off = table_of(f"dead letters of {name}", columns), 0
            try:
                async for stored in letters_of(name, pipeline_config, include_done=everything):
                    letter = stored.letter
                    if not selection.matches(letter):
                        continue
                    if limit is not None and table.row_count >= limit:
                        left_off += 1
                        continue
                    if as_json:
                        typer.echo(json.dumps(envelope(stored)))
                    state = stored.state.value + (f" ({stored.replay_outcome})" if stored.replay_outcome else "")
                    what = (letter.id[:ID_SHOWN], route_shown(letter.route), letter.key or "")
                    why = (f"{letter.kind}/{letter.code}", time_shown(letter.last_failed_ms), state)
                    table.add_row(*map(escape_text, (*what, *why)))
            except LettersUnreadable as error:
                complain(f"{name}: {error}")
                unreadable.append(name)
                continue
            if table.row_count and not as_json:
                console().print(table)
            elif not as_json:
                say(f"{name}: no dead letters")
            if left_off:
                complain(f"{name}: {left_off} more (--limit)")

    asyncio.run(main())
    if unreadable:
        raise typer.Exit(ExitCode.FAILURE)


def show(
    config: ConfigFile,
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="The letter's id, or the beginning of it.")],
    pipeline: OnePipeline = None,
    as_json: AsJson = False,
) -> None:
    """Print one letter: its envelope, and the record with its values, which often are personal data."""
    from connector.cli.console import say
    from connector.cli.letters import envelope, record_of
    from connector.errors import ConfigError

    selection = _selection(id=letter_id)

    async def find() -> list[StoredLetter]:
        found: list[StoredLetter] = []
        for name, pipeline_config in load_pipelines(config, pipeline).items():
            async with opened(name, pipeline_config) as destination:
                async for stored in destination.letters(include_done=True):
                    if selection.matches(stored.letter) and len(found) < 2:
                        found.append(stored)
        return found

    found = asyncio.run(find())
    if len(found) != 1:
        raise ConfigError(f"{'several letters begin' if found else 'no letter begins'} with {letter_id!r}")
    (stored,) = found
    record = record_of(stored.letter)
    if as_json:
        typer.echo(json.dumps(envelope(stored) | {"record": record}))
        return
    for name, value in envelope(stored).items():
        if value not in ("", None):
            say(f"{name}: {value}")
    for name, value in record.items():
        if name == "headers":
            for header in value:
                say(f"record.header: {json.dumps(header, ensure_ascii=False)}")
        elif value is not None:
            say(f"record.{name}: {value}")


def replay(
    config: ConfigFile,
    *,
    pipeline: OnePipeline = None,
    route: Route = None,
    reason: ReasonCode = None,
    key: Key = None,
    letter_id: OneId = None,
    limit: Limit = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0.001, help="How long a sink that is down is awaited.")
    ] = 60.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent where.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send dead letters through their routes again, as these are configured now, in the order of each key.

    A letter is marked as replayed only after its change has an outcome; one that is still poison stays (exit code 3),
    and so do those of a sink that stays unavailable (exit code 1). May run beside the daemon, and again at any time.
    """
    from connector.cli.console import complain, console
    from connector.cli.letters import report_json, report_table
    from connector.errors import ConfigError

    selection = _selection(route=route, reason=reason, key=key, id=letter_id, limit=limit)
    pipelines = load_pipelines(config, pipeline)
    known = {name for one in pipelines.values() for name in one.routes}
    if selection.route and selection.route not in known:
        raise ConfigError(f"there is no route {selection.route!r}; there are: {', '.join(sorted(known))}")
    if dry_run:
        asyncio.run(replaying.rehearse_all(pipelines, selection, timeout_s, as_json))
        return

    async def main() -> list[ReplayReport]:
        reports = []
        for name, pipeline_config in pipelines.items():
            report = await replaying.replay(name, pipeline_config, selection, timeout_s)
            reports.append(report)
            if as_json:
                typer.echo(json.dumps(report_json(name, report)))
            elif report.routes:
                console().print(report_table(name, report))
            else:
                typer.echo(f"{name}: nothing to replay")
            for route_name, said in report.unavailable.items():
                complain(f"{name}: the sink of route {route_name} is unavailable: {said}")
            if report.unavailable:
                complain(f"{name}: {report.left} letters are left")
        return reports

    reports = asyncio.run(main())
    if any(report.unavailable for report in reports):
        raise typer.Exit(ExitCode.FAILURE)
    if any(report.dead for report in reports):
        raise typer.Exit(ExitCode.POISON)


def purge(
    config: ConfigFile,
    *,
    pipeline: OnePipeline = None,
    route: Route = None,
    reason: ReasonCode = None,
    key: Key = None,
    letter_id: OneId = None,
    limit: Limit = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Give dead letters up: they are marked as purged, never replayed, and hold no key any more.

    Asks first, unless `--yes` is given. Their changes are lost to the sink.
    """
    from connector.cli.console import say
    from connector.deadletter.protocol import LetterState

    selection = _selection(route=route, reason=reason, key=key, id=letter_id, limit=limit)

    async def meant(name: str, pipeline_config: PipelineConfig) -> list[str]:
        async with opened(name, pipeline_config) as destination:
            ids = [stored.letter.id async for stored in destination.letters() if selection.matches(stored.letter)]
            return ids[: selection.limit]

    async def mark(name: str, pipeline_config: PipelineConfig, ids: list[str]) -> None:
        async with opened(name, pipeline_config) as destination:
            for first in range(0, len(ids), MARK_AT_ONCE):
                await destination.mark(ids[first : first + MARK_AT_ONCE], LetterState.PURGED)

    for name, pipeline_config in load_pipelines(config, pipeline).items():
        ids = asyncio.run(meant(name, pipeline_config))
        if ids:
            # Exactly these: letters that arrive while the question is open have not been agreed to.
            ask(f"Give up {len(ids)} dead letters of {name}?", yes)
            asyncio.run(mark(name, pipeline_config, ids))
        if as_json:
            typer.echo(json.dumps({"pipeline": name, "purged": len(ids)}))
        else:
            say(f"{name}: {len(ids)} letters purged")


def _selection(
    *,
    route: str | None = None,
    reason: str | None = None,
    key: str | None = None,
    id: str | None = None,
    limit: int | None = None,
) -> Selection:
    from connector.cli.letters import DECODE_ROUTE
    from connector.deadletter.selection import DECODE, Selection
    from connector.errors import ConfigError

    if id is not None and len(id) < ID_CHARACTERS_MIN:
        raise ConfigError(f"give at least {ID_CHARACTERS_MIN} characters of the letter's id")
    chosen = DECODE if route == DECODE_ROUTE else route
    return Selection(id=id, route=chosen, reason=reason, key=key, limit=limit)
