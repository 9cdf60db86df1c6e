"""Writes dashboards/millrace.json, which answers three questions from top to bottom: is it keeping up, is anything
wrong, and where.

    python grafana/make_dashboard.py

The JSON is what Grafana loads; this file is what people change (a panel is a line or two here and forty there).
Counters that may not exist before the first event (dead letters by code) are shown as totals, never as ``increase``:
Prometheus cannot see a counter's first step from nothing to one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DASHBOARD = Path(__file__).parent / "dashboards" / "millrace.json"

Panel = dict[str, Any]

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_P = 'pipeline=~"$pipeline"'
_R = 'pipeline=~"$pipeline", route=~"$route"'
_RATE = "[$__rate_interval]"
_COLUMNS = 24


def _steps(*steps: tuple[str, float | None]) -> dict[str, Any]:
    return {"mode": "absolute", "steps": [{"color": color, "value": value} for color, value in steps]}


_GREEN = _steps(("green", None))


def _panel(
    kind: str, title: str, says: str, *targets: tuple[str, str], unit: str = "short", thresholds: Any = None
) -> Panel:
    return {
        "type": kind,
        "title": title,
        "description": says,
        "datasource": _SOURCE,
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": _SOURCE, "expr": expression, "legendFormat": legend}
            for number, (expression, legend) in enumerate(targets)
        ],
        "fieldConfig": {"defaults": {"unit": unit, "thresholds": thresholds or _GREEN}, "overrides": []},
    }


def graph(title: str, says: str, *targets: tuple[str, str], unit: str = "short", stacked: bool = False) -> Panel:
    """Lines over time."""
    panel = _panel("timeseries", title, says, *targets, unit=unit)
    panel["fieldConfig"]["defaults"] |= {
        "min": 0,
        "custom": {
            "lineWidth": 1,
            "fillOpacity": 30 if stacked else 8,
            "showPoints": "never",
            "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        },
    }
    panel["options"] = {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel


def number(title: str, says: str, expression: str, *, unit: str = "short", thresholds: Any = None) -> Panel:
    """One big number, coloured by its thresholds."""
    panel = _panel("stat", title, says, (expression, ""), unit=unit, thresholds=thresholds)
    panel["options"] = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "background",
        "graphMode": "area",
        "justifyMode": "center",
    }
    return panel


def words(panel: Panel, meanings: dict[int, tuple[str, str]]) -> Panel:
    """The same panel with numbers shown as words in colours."""
    panel["fieldConfig"]["defaults"]["mappings"] = [
        {
            "type": "value",
            "options": {
                str(value): {"text": text, "color": color, "index": index}
                for index, (value, (text, color)) in enumerate(meanings.items())
            },
        }
    ]
    return panel


def timeline(title: str, says: str, *targets: tuple[str, str]) -> Panel:
    """States over time, a bar each."""
    panel = _panel("state-timeline", title, says, *targets)
    panel["fieldConfig"]["defaults"]["custom"] = {"fillOpacity": 80, "lineWidth": 0}
    panel["options"] = {"mergeValues": True, "showValue": "never", "rowHeight": 0.8, "legend": {"showLegend": False}}
    return panel


def table(title: str, says: str, sort_by: str, *columns: tuple[str, str, str], labels: dict[str, str]) -> Panel:
    """One row a label set; ``columns`` are (name, expression, unit)."""
    panel = _panel("table", title, says, *[(expression, "") for _, expression, _ in columns])
    for target in panel["targets"]:
        target |= {"format": "table", "instant": True}
    values = {f"Value #{target['refId']}": name for target, (name, _, _) in zip(panel["targets"], columns, strict=True)}
    if len(columns) == 1:
        values = {"Value": columns[0][0]}
    panel["transformations"] = [
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {"Time": True},
                "indexByName": {name: index for index, name in enumerate([*labels, *values])},
                "renameByName": {**labels, **values},
            },
        },
    ]
    panel["fieldConfig"]["overrides"] = [
        {"matcher": {"id": "byName", "options": name}, "properties": [{"id": "unit", "value": unit}]}
        for name, _, unit in columns
    ]
    panel["options"] = {"sortBy": [{"displayName": sort_by, "desc": True}], "showHeader": True}
    return panel


def quantile(share: str, metric: str, labels: str, by: str) -> str:
    """A quantile of a histogram over the panel's rate interval."""
    return f"histogram_quantile({share}, sum by (le, {by}) (rate({metric}_bucket{{{labels}}}{_RATE})))"


def keeping_up() -> list[tuple[Panel, int, int]]:
    """Row 1: (panel, width, height)."""
    return [
        (
            words(
                number(
                    "Ready",
                    "The least ready instance. /readyz of an instance says what is wrong, by component.",
                    "min(millrace_ready)",
                ),
                {1: ("ready", "green"), 0: ("NOT READY", "red")},
            ),
            4,
            5,
        ),
        (
            number(
                "Behind by",
                "The age of the last finished change, where there is more to do.",
                f"max(millrace_lag_seconds{{{_P}}})",
                unit="s",
                thresholds=_steps(("green", None), ("orange", 60), ("red", 600)),
            ),
            5,
            5,
        ),
        (number("Lag", "Records not finished yet.", f"sum(millrace_lag_records{{{_P}}})"), 5, 5),
        (
            number(
                "Finished changes per second",
                "Over all routes, whatever their outcome.",
                f"sum(rate(millrace_changes_total{{{_R}}}{_RATE}))",
                unit="cps",
            ),
            5,
            5,
        ),
        (
            number(
                "Checkpoint age",
                "What a restart would read again.",
                f"max(millrace_checkpoint_age_seconds{{{_P}}})",
                unit="s",
                thresholds=_steps(("green", None), ("orange", 15), ("red", 60)),
            ),
            5,
            5,
        ),
        (
            graph(
                "Behind by",
                "Flat and low: keeping up. Rising at one second a second: nothing moves.",
                (f"max by (pipeline) (millrace_lag_seconds{{{_P}}})", "{{pipeline}}"),
                unit="s",
            ),
            8,
            8,
        ),
        (
            graph(
                "Lag in records",
                "Between what is finished everywhere and the log's end.",
                (f"sum by (pipeline) (millrace_lag_records{{{_P}}})", "{{pipeline}}"),
            ),
            8,
            8,
        ),
        (
            graph(
                "Read and finished, per second",
                "Read above finished for long means that lag will grow once the bounds are reached.",
                (f"sum by (pipeline) (rate(millrace_records_read_total{{{_P}}}{_RATE}))", "{{pipeline}} records read"),
                (f"sum by (route) (rate(millrace_changes_total{{{_R}}}{_RATE}))", "{{route}} changes finished"),
                unit="cps",
            ),
            8,
            8,
        ),
        (
            graph(
                "End to end: from change to outcome",
                "p50 and p99 by route, by the change's own clock.",
                (quantile("0.5", "millrace_end_to_end_seconds", _R, "route"), "{{route}} p50"),
                (quantile("0.99", "millrace_end_to_end_seconds", _R, "route"), "{{route}} p99"),
                unit="s",
            ),
            12,
            8,
        ),
        (
            graph(
                "Finished changes by outcome, per second",
                "Superseded, stale and filtered changes are finished too; dead_lettered ones need a person.",
                (f"sum by (outcome) (rate(millrace_changes_total{{{_R}}}{_RATE}))", "{{outcome}}"),
                unit="cps",
                stacked=True,
            ),
            12,
            8,
        ),
        (
            table(
                "Snapshots",
                "The items of the source's table beside its stream: how far, at what cost, and about how long still.",
                "running",
                *[
                    (name, f"max by (pipeline) (millrace_snapshot_{metric}{{{_P}}})", unit)
                    for name, metric, unit in (
                        ("running", "running", "short"),
                        ("items", "items", "short"),
                        ("of about", "expected_items", "short"),
                        ("segments done", "done_segments", "short"),
                        ("of", "segments", "short"),
                        ("capacity units", "capacity_units", "short"),
                        ("left", "left_seconds", "s"),
                    )
                ],
                labels={"pipeline": "pipeline"},
            ),
            24,
            5,
        ),
    ]


def wrong() -> list[tuple[Panel, int, int]]:
    """Row 2."""
    yes = {1: ("ok", "green"), 0: ("not ok", "red")}
    return [
        (
            words(
                timeline(
                    "Pipelines and what they stand on",
                    "Ready, source, checkpoint store and dead letters' destination, by pipeline.",
                    (f"min by (pipeline) (millrace_pipeline_ready{{{_P}}})", "{{pipeline}} ready"),
                    (f"min by (pipeline) (millrace_source_ok{{{_P}}})", "{{pipeline}} source"),
                    (f"min by (pipeline) (millrace_checkpoint_store_ok{{{_P}}})", "{{pipeline}} checkpoints"),
                    (f"min by (pipeline) (millrace_dead_letter_destination_ok{{{_P}}})", "{{pipeline}} dead letters"),
                ),
                yes,
            ),
            12,
            8,
        ),
        (
            words(
                timeline(
                    "Breakers",
                    "Open: the sink is unavailable and is not called; half open: one call tries it.",
                    (
                        f'max by (pipeline, route) (2 * millrace_breaker_state{{{_R}, state="open"}}'
                        f' + ignoring (state) millrace_breaker_state{{{_R}, state="half_open"}})',
                        "{{pipeline}} {{route}}",
                    ),
                ),
                {0: ("closed", "green"), 1: ("half open", "orange"), 2: ("open", "red")},
            ),
            12,
            8,
        ),
        (
            number(
                "Conservation residue",
                "Changes that nobody can account for. Anything but 0 is a bug of Millrace: please report it.",
                f"sum(abs(millrace_conservation_residue{{{_P}}}))",
                thresholds=_steps(("green", None), ("red", 1)),
            ),
            4,
            8,
        ),
        (
            number(
                "Routes stopped by poison",
                "on_poison: stop, or dead_letter_limits. The reason is in /readyz.",
                f"sum(millrace_route_stopped{{{_R}}})",
                thresholds=_steps(("green", None), ("red", 1)),
            ),
            4,
            8,
        ),
        (
            table(
                "Dead letters by reason, since the processes started",
                "`millrace dlq list` shows them, `millrace dlq replay` sends them again once the reason is mended.",
                "letters",
                (
                    "letters",
                    f"sum by (pipeline, route, kind, code) (millrace_dead_letters_total{{{_R}}}) > 0",
                    "short",
                ),
                labels={"pipeline": "pipeline", "route": "route", "kind": "kind", "code": "code"},
            ),
            8,
            8,
        ),
        (
            graph(
                "Undecodable records, in all",
                "Not what their format says; dead-lettered whole.",
                (f"sum by (pipeline, code) (millrace_records_undecodable_total{{{_P}}})", "{{pipeline}} {{code}}"),
            ),
            8,
            8,
        ),
        (
            graph(
                "Retries per second by reason",
                "Changes tried again because their sink said that it may pass.",
                (f"sum by (route, reason) (rate(millrace_retries_total{{{_R}}}{_RATE}))", "{{route}} {{reason}}"),
                unit="cps",
            ),
            8,
            7,
        ),
        (
            graph(
                "Sink unavailable for",
                "Since its last success. Nothing is dead-lettered for this; the source waits.",
                (f"max by (route) (millrace_sink_unavailable_seconds{{{_R}}})", "{{route}}"),
                unit="s",
            ),
            8,
            7,
        ),
        (
            graph(
                "Bisections, and keys held behind poison",
                "Batches taken apart per second; keys waiting for a replay (on_poison: hold_key).",
                (f"sum by (route) (rate(millrace_bisections_total{{{_R}}}{_RATE}))", "{{route}} bisections/s"),
                (f"sum by (route) (millrace_held_keys{{{_R}}})", "{{route}} held keys"),
            ),
            8,
            7,
        ),
        (
            graph(
                "Dead letters in a row",
                "Since the sink last accepted a change. At max_consecutive of dead_letter_limits the route stops.",
                (f"max by (route) (millrace_dead_letters_in_a_row{{{_R}}})", "{{route}}"),
            ),
            12,
            7,
        ),
        (
            graph(
                "Dead letters by judged changes",
                "In the window of dead_letter_limits. At max_ratio the route stops.",
                (f"max by (route) (millrace_dead_letter_ratio{{{_R}}})", "{{route}}"),
                unit="percentunit",
            ),
            12,
            7,
        ),
    ]


def where() -> list[tuple[Panel, int, int]]:
    """Row 3."""
    return [
        (
            table(
                "Shards",
                "Which shard is behind, and whether it moves.",
                "lag",
                ("lag", f"max by (pipeline, shard) (millrace_lag_records{{{_P}}})", "short"),
                ("behind by", f"max by (pipeline, shard) (millrace_lag_seconds{{{_P}}})", "s"),
                ("not moved for", f"max by (pipeline, shard) (millrace_watermark_still_seconds{{{_P}}})", "s"),
                ("not saved", f"max by (pipeline, shard) (millrace_checkpoint_unsaved_records{{{_P}}})", "short"),
                (
                    "in flight",
                    f"sum by (pipeline, shard) (millrace_shard_changes_in_flight{{{_R}}})",
                    "short",
                ),
                labels={"pipeline": "pipeline", "shard": "shard"},
            ),
            24,
            9,
        ),
        (
            graph(
                "Sink calls: how long, p50 and p99",
                "Calls that were answered. A slow sink shows here before lag does.",
                (
                    quantile("0.5", "millrace_sink_call_seconds", f'{_R}, result="applied"', "route"),
                    "{{route}} p50",
                ),
                (
                    quantile("0.99", "millrace_sink_call_seconds", f'{_R}, result="applied"', "route"),
                    "{{route}} p99",
                ),
                unit="s",
            ),
            8,
            8,
        ),
        (
            graph(
                "Sink calls per second by result",
                "unavailable and throttled are the sink's, raised is bisected.",
                (
                    f"sum by (route, result) (rate(millrace_sink_call_seconds_count{{{_R}}}{_RATE}))",
                    "{{route}} {{result}}",
                ),
                unit="cps",
            ),
            8,
            8,
        ),
        (
            graph(
                "Changes in a batch, on average",
                "Small batches with lag mean that something other than the sink is slow.",
                (
                    f"sum by (route) (rate(millrace_batch_changes_sum{{{_R}}}{_RATE}))"
                    f" / sum by (route) (rate(millrace_batch_changes_count{{{_R}}}{_RATE}))",
                    "{{route}}",
                ),
            ),
            8,
            8,
        ),
        (
            graph(
                "In flight, as a share of the limits",
                "At 1 the source is paused until a sink finishes something.",
                (
                    f"max by (pipeline) (millrace_in_flight_changes{{{_P}}} / millrace_in_flight_max_changes{{{_P}}})",
                    "{{pipeline}} changes",
                ),
                (
                    f"max by (pipeline) (millrace_in_flight_bytes{{{_P}}} / millrace_in_flight_max_bytes{{{_P}}})",
                    "{{pipeline}} bytes",
                ),
                (f"max by (pipeline) (millrace_source_paused{{{_P}}})", "{{pipeline}} paused"),
                unit="percentunit",
            ),
            8,
            8,
        ),
        (
            graph(
                "Lanes that write, as a share",
                "At 1 for long: more lanes, or a faster sink.",
                (
                    f"sum by (route) (millrace_writes_in_flight{{{_R}}})"
                    f" / sum by (route) (millrace_route_lanes{{{_R}}})",
                    "{{route}}",
                ),
                unit="percentunit",
            ),
            8,
            8,
        ),
        (
            graph(
                "Changes by event name, per second",
                "What the database does.",
                (f"sum by (event_name) (rate(millrace_changes_total{{{_R}}}{_RATE}))", "{{event_name}}"),
                unit="cps",
            ),
            8,
            8,
        ),
        (
            graph(
                "Processor",
                "Cores, by process. One process of Millrace uses one core, more or less.",
                (f"rate(process_cpu_seconds_total{_RATE}) and on (instance) millrace_ready", "{{instance}}"),
            ),
            12,
            7,
        ),
        (
            graph(
                "Memory",
                "Resident, by process; bounded by the limits of what is in flight.",
                ("process_resident_memory_bytes and on (instance) millrace_ready", "{{instance}}"),
                unit="bytes",
            ),
            12,
            7,
        ),
    ]


def laid_out(rows: list[tuple[str, list[tuple[Panel, int, int]]]]) -> list[Panel]:
    """Panels with their places: from left to right, row under row."""
    placed: list[Panel] = []
    top = 0

    def place(panel: Panel, left: int, width: int, height: int) -> None:
        placed.append({"id": len(placed) + 1, **panel, "gridPos": {"x": left, "y": top, "w": width, "h": height}})

    for title, panels in rows:
        place({"type": "row", "title": title, "collapsed": False, "panels": []}, 0, _COLUMNS, 1)
        top += 1
        left = tallest = 0
        for panel, width, height in panels:
            if left + width > _COLUMNS:
                top, left, tallest = top + tallest, 0, 0
            place(panel, left, width, height)
            left, tallest = left + width, max(tallest, height)
        top += tallest
    return placed


def _variable(name: str, metric: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": f"label_values({metric}, {name})", "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def dashboard() -> dict[str, Any]:
    """The whole dashboard."""
    rows = [
        ("Is it keeping up?", keeping_up()),
        ("Is anything wrong?", wrong()),
        ("Where?", where()),
    ]
    return {
        "uid": "millrace",
        "title": "Millrace",
        "description": "Is it keeping up, is anything wrong, and where.",
        "tags": ["millrace"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "10s",
        "templating": {
            "list": [
                {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
                _variable("pipeline", "millrace_pipeline_ready"),
                _variable("route", "millrace_shard_changes_read_total"),
            ]
        },
        "panels": laid_out(rows),
    }


def dashboard_text() -> str:
    """What the file holds."""
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    DASHBOARD.write_text(dashboard_text())
