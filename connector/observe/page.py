"""The status page: one plain HTML document, readable on a telephone, that asks for nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from connector.observe.escape import escape_text
from connector.observe.health import Problem, ago
from connector.observe.snapshot import PipelineSnapshot, RouteSnapshot, ShardSnapshot

SHARDS_MAX = 200
"""Shards shown of one pipeline; /status has them all."""

_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.45 system-ui,sans-serif;margin:0 auto;max-width:70rem;padding:1rem}
h1{font-size:1.3rem}h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse;width:100%}caption{text-align:left;font-weight:600;padding:.6rem 0 .2rem}
th,td{text-align:left;padding:.25rem .6rem .25rem 0;border-bottom:1px solid #8884;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
div.wide{overflow-x:auto}
.good{color:#18794e}.bad{color:#c62a2f}
@media(prefers-color-scheme:dark){.good{color:#3dd68c}.bad{color:#ff9592}}
"""


def status_page(
    snapshots: Sequence[PipelineSnapshot], problems: Sequence[Problem], now_ms: int, version: str, refresh_s: int = 5
) -> str:
    """The whole document. Every text from outside is escaped."""
    verdict = '<span class="good">ready</span>' if not problems else '<span class="bad">not ready</span>'
    body = [f"<h1>Millrace {_text(version)}: {verdict}</h1>"]
    if problems:
        body.append("<ul>")
        body += [f"<li><b>{_text(problem.component)}</b>: {_text(problem.reason)}</li>" for problem in problems]
        body.append("</ul>")
    for snapshot in snapshots:
        body += _pipeline(snapshot, now_ms)
    body.append(
        '<p><a href="/metrics">metrics</a> · <a href="/status">status as JSON</a> · '
        '<a href="/readyz">readyz</a> · <a href="/livez">livez</a></p>'
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="refresh" content="{refresh_s}"><title>Millrace</title><style>{_STYLE}</style></head>'
        f"<body>{''.join(body)}</body></html>"
    )


def _pipeline(snapshot: PipelineSnapshot, now_ms: int) -> list[str]:
    state = f"{snapshot.state}{', ' + snapshot.reason if snapshot.reason else ''}"
    paused = ", paused (enough is in flight)" if snapshot.source.paused else ""
    saved = ago(now_ms - snapshot.checkpoint_store.last_saved_ms)
    shown = snapshot.shards[:SHARDS_MAX]
    parts = [
        f"<h2>{_text(snapshot.name)}: {_text(state)}</h2>",
        f"<p>{_text(snapshot.source.type)} source{paused}; {snapshot.records_read:,} records read;"
        f" in flight {snapshot.in_flight_changes:,} of {snapshot.in_flight_changes_max:,} changes,"
        f" {snapshot.in_flight_bytes:,} of {snapshot.in_flight_bytes_max:,} bytes; all saved {saved} ago.</p>",
        _table(
            "Routes",
            ("route", "sink", "breaker"),
            ("applied", "stale", "superseded", "filtered", "dead letters", "retried", "writing"),
            (_route(route) for route in snapshot.routes),
        ),
        _table(
            f"Shards ({len(snapshot.shards)})",
            ("shard",),
            ("lag, records", "lag, time", "watermark", "saved", "end", "in flight", "residue"),
            (_shard(shard) for shard in shown),
        ),
    ]
    if len(shown) < len(snapshot.shards):
        parts.append(f"<p>… and {len(snapshot.shards) - len(shown)} more shards in /status.</p>")
    return parts


def _route(route: RouteSnapshot) -> tuple[str, ...]:
    totals: dict[str, int] = {}
    for change in route.changes:
        totals[change.outcome] = totals.get(change.outcome, 0) + change.count
    outcomes = ("applied", "stale", "superseded", "filtered", "dead_lettered")
    return (
        route.name,
        route.sink,
        str(route.breaker),
        *(f"{totals.get(outcome, 0):,}" for outcome in outcomes),
        f"{sum(route.retries.values()):,}",
        str(route.writes_in_flight),
    )


def _shard(shard: ShardSnapshot) -> tuple[str, ...]:
    return (
        shard.shard,
        "?" if shard.lag_records is None else f"{shard.lag_records:,}",
        "?" if shard.lag_ms is None else ago(shard.lag_ms),
        str(shard.watermark),
        "–" if shard.checkpoint is None else str(shard.checkpoint),
        "?" if shard.end is None else str(shard.end),
        f"{sum(counts.in_flight for counts in shard.routes.values()):,}",
        str(sum(counts.residue() for counts in shard.routes.values())),
    )


def _table(caption: str, words: Sequence[str], numbers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{word}</th>" for word in words) + "".join(f'<th class="n">{name}</th>' for name in numbers)
    lines = []
    for row in rows:
        cells = "".join(f"<td>{_text(cell)}</td>" for cell in row[: len(words)])
        cells += "".join(f'<td class="n">{_text(cell)}</td>' for cell in row[len(words) :])
        lines.append(f"<tr>{cells}</tr>")
    return f'<div class="wide"><table><caption>{caption}</caption><tr>{head}</tr>{"".join(lines)}</table></div>'


def _text(text: str) -> str:
    return escape(escape_text(text))
