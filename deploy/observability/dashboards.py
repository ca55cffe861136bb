"""The dashboards, one for each reader: who runs authz, who owns the API, and who looks after its security.

`write_files.py` writes them as Grafana reads them; the rules of their alerts are in the other modules.
"""

from dataclasses import dataclass
from typing import Any

from slo import ERRORS, SLOW

_COLUMNS, _WIDTH, _HEIGHT = 24, 12, 8
_SOURCE = {"type": "prometheus", "uid": "${source}"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot: its title and unit, and its queries with their legends."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A dashboard with its name in the file system."""

    name: str
    title: str
    panels: tuple[Panel, ...]


def _quantiles(metric: str, by: str = "") -> tuple[tuple[str, str], ...]:
    labels = f"le, {by}" if by else "le"
    legend = f" {{{{{by}}}}}" if by else ""
    return tuple(
        (f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket[5m])))", f"p{share * 100:g}{legend}")
        for share in (0.5, 0.99)
    )


DASHBOARDS = (
    Dashboard(
        "sre",
        "authz: operation",
        (
            Panel("Checks by outcome", "reqps", (("sum by (outcome) (rate(authz_checks_total[5m]))", "{{outcome}}"),)),
            Panel("Duration of checks", "s", _quantiles("authz_check_duration_seconds")),
            Panel(
                "Checks without a decision",
                "percentunit",
                ((ERRORS + "5m", "5 minutes {{job}}"), (ERRORS + "1h", "1 hour {{job}}")),
            ),
            Panel(
                "Late decisions", "percentunit", ((SLOW + "5m", "5 minutes {{job}}"), (SLOW + "1h", "1 hour {{job}}"))
            ),
            Panel("Stores available", "short", (("min by (store) (authz_store_up)", "{{store}}"),)),
            Panel("Duration of stores", "s", _quantiles("authz_store_duration_seconds", "store")),
            Panel(
                "Changes not yet effective",
                "short",
                (("max(authz_outbox_entries)", "changes"), ("max(authz_outbox_oldest_seconds)", "oldest, in seconds")),
            ),
            Panel("Time until a change is effective", "s", _quantiles("authz_change_lag_seconds")),
            Panel(
                "Loads of missing keys", "ops", (("sum by (outcome) (rate(authz_key_loads_total[5m]))", "{{outcome}}"),)
            ),
            Panel(
                "Connections to PostgreSQL", "short", (("sum by (state) (authz_postgres_connections)", "{{state}}"),)
            ),
            Panel(
                "Connection to Redis",
                "short",
                (
                    ("sum by (instance) (authz_redis_commands_in_flight)", "in flight {{instance}}"),
                    ("sum(increase(authz_redis_reconnects_total[5m]))", "reconnections"),
                    ("sum(increase(authz_redis_epoch_changes_total[5m]))", "new epochs"),
                ),
            ),
            Panel("Delay of the event loop", "s", _quantiles("authz_event_loop_lag_seconds")),
            Panel("CPU", "short", (('rate(process_cpu_seconds_total{job=~"authz.*"}[5m])', "{{instance}}"),)),
            Panel(
                "Check listener",
                "short",
                (
                    ("sum by (instance) (authz_check_connections)", "connections {{instance}}"),
                    ("sum by (instance) (authz_checks_in_flight)", "in flight {{instance}}"),
                ),
            ),
            Panel(
                "Connections refused",
                "ops",
                (("sum by (cause) (rate(authz_check_connections_refused_total[5m]))", "{{cause}}"),),
            ),
            Panel(
                "Batches",
                "short",
                (
                    *_quantiles("authz_check_batch_checks"),
                    (
                        "sum(rate(authz_redis_batch_commands_sum[5m])) / sum(rate(authz_redis_batch_commands_count[5m]))",
                        "to Redis",
                    ),
                ),
            ),
            Panel(
                "Time until certificates expire",
                "s",
                (("authz_certificate_expiry_timestamp_seconds - time()", "{{listener}} {{instance}}"),),
            ),
            Panel("Background loops that fail", "short", (("max by (loop) (authz_background_failing)", "{{loop}}"),)),
            Panel(
                "Log lines and traces lost",
                "ops",
                (
                    ("sum by (cause) (rate(authz_log_lines_dropped_total[5m]))", "lines, {{cause}}"),
                    ("sum by (cause) (rate(authz_traces_dropped_total[5m]))", "traces, {{cause}}"),
                ),
            ),
            Panel(
                "Policy in force",
                "short",
                (
                    ("count by (digest) (authz_policy_info)", "{{digest}}"),
                    ("sum by (outcome) (increase(authz_policy_reloads_total[1h]))", "{{outcome}} in 1 hour"),
                ),
            ),
            Panel("Memory", "bytes", (('process_resident_memory_bytes{job=~"authz.*"}', "{{instance}}"),)),
            Panel("Versions", "short", (("count by (version) (authz_build_info)", "{{version}}"),)),
        ),
    ),
    Dashboard(
        "api-owner",
        "authz: the API",
        (
            Panel(
                "Requests by route",
                "reqps",
                (('topk(10, sum by (route) (rate(authz_checks_total{outcome="allow"}[5m])))', "{{route}}"),),
            ),
            Panel(
                "Refused requests by reason",
                "reqps",
                (('topk(10, sum by (reason) (rate(authz_checks_total{outcome="deny"}[5m])))', "{{reason}}"),),
            ),
            Panel(
                "Rate limits reached by route",
                "reqps",
                (('topk(10, sum by (route) (rate(authz_checks_total{reason="rate_limited"}[5m])))', "{{route}}"),),
            ),
            Panel(
                "Missing scopes by route",
                "reqps",
                (('topk(10, sum by (route) (rate(authz_checks_total{reason="scope_missing"}[5m])))', "{{route}}"),),
            ),
            Panel(
                "Unknown paths and methods",
                "reqps",
                (
                    (
                        'sum by (reason) (rate(authz_checks_total{reason=~"route_unknown|method_unknown"}[5m]))',
                        "{{reason}}",
                    ),
                ),
            ),
            Panel(
                "What shadow routes would refuse",
                "reqps",
                (("topk(10, sum by (route, reason) (rate(authz_would_deny_total[5m])))", "{{route}} {{reason}}"),),
            ),
            Panel("Open streams", "short", (("sum by (stream) (authz_streams_open)", "{{stream}}"),)),
            Panel(
                "Streams opened and refused",
                "ops",
                (("sum by (stream, outcome) (rate(authz_stream_acquisitions_total[5m]))", "{{stream}} {{outcome}}"),),
            ),
            Panel("Age of streams at their end", "s", _quantiles("authz_stream_age_seconds", "stream")),
            Panel(
                "Requests without a decision",
                "reqps",
                (('sum by (reason) (rate(authz_checks_total{outcome="error"}[5m]))', "{{reason}}"),),
            ),
        ),
    ),
    Dashboard(
        "security",
        "authz: who is refused, and why",
        (
            Panel(
                "Keys that are not valid",
                "reqps",
                (('sum by (reason) (rate(authz_checks_total{reason=~"key_.*|account_suspended"}[5m]))', "{{reason}}"),),
            ),
            Panel("Throttled addresses", "short", (("sum(authz_throttled_addresses)", "addresses"),)),
            Panel(
                "What the policy never permits",
                "reqps",
                (
                    (
                        'sum by (reason) (rate(authz_checks_total{reason=~"barred|account_.*|header_alias|method_overridden|path_not_canonical"}[5m]))',
                        "{{reason}}",
                    ),
                ),
            ),
            Panel(
                "Barred routes",
                "reqps",
                (('topk(10, sum by (route) (rate(authz_checks_total{reason="barred"}[5m])))', "{{route}}"),),
            ),
            Panel("Time until a revocation is effective", "s", _quantiles("authz_change_lag_seconds")),
            Panel(
                "Decisions from memory",
                "ops",
                (("sum by (store) (rate(authz_degraded_checks_total[5m]))", "{{store}}"),),
            ),
            Panel("Logins", "ops", (("sum by (outcome) (rate(authz_portal_logins_total[5m]))", "{{outcome}}"),)),
            Panel(
                "Throttled attempts",
                "ops",
                (("sum by (attempt, by) (rate(authz_portal_throttled_total[5m])) > 0", "{{attempt}} by {{by}}"),),
            ),
            Panel("Signups", "ops", (("sum by (outcome) (rate(authz_portal_signups_total[5m]))", "{{outcome}}"),)),
            Panel(
                "Streams over their cap",
                "ops",
                (('sum by (stream) (increase(authz_stream_retakes_total{exceeds="true"}[1h]))', "{{stream}}"),),
            ),
        ),
    ),
)


def grafana(dashboard: Dashboard) -> dict[str, Any]:
    """Return a dashboard as Grafana reads it."""
    return {
        "uid": f"authz-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["authz"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [{"name": "source", "type": "datasource", "query": "prometheus", "label": "Source"}]},
        "panels": [_panel(number, panel) for number, panel in enumerate(dashboard.panels)],
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number * _WIDTH, _COLUMNS)
    targets = [
        {"refId": chr(ord("A") + index), "datasource": _SOURCE, "expr": expr, "legendFormat": legend}
        for index, (expr, legend) in enumerate(panel.queries)
    ]
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": {"x": column, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": targets,
    }
