"""The objectives: how many checks get a decision, and how many of them soon; with burn rates over several windows.

99.95 % of checks get a decision, and 99 % of decisions take at most 10 ms, over 30 days. A short window beside each long
one ends the alert soon after the fault.
"""

from model import PAGE, TICKET, Alert, Kind, Recording, Runbook, Series, Timeline

AVAILABILITY_BUDGET, LATENCY_BUDGET = 0.0005, 0.01
SLOW_S = 0.01
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
ERRORS, SLOW = "authz:check_errors:ratio_rate", "authz:check_slow:ratio_rate"


def recordings() -> list[Recording]:
    """Return the recording rules of both objectives, for each window."""
    rules = []
    for window in WINDOWS:
        errors = f'sum by (job) (rate(authz_checks_total{{outcome="error"}}[{window}]))'
        rules.append(Recording(ERRORS + window, f"{errors} / sum by (job) (rate(authz_checks_total[{window}]))"))
        soon = f'sum by (job) (rate(authz_check_duration_seconds_bucket{{le="{SLOW_S}"}}[{window}]))'
        counted = f"sum by (job) (rate(authz_check_duration_seconds_count[{window}]))"
        rules.append(Recording(SLOW + window, f"1 - {soon} / {counted}"))
    return rules


def _burns(record: str, budget: float, *pairs: tuple[str, str, float]) -> str:
    return " or ".join(
        f"({record}{long} > {rate * budget:.6g} and {record}{short} > {rate * budget:.6g})"
        for long, short, rate in pairs
    )


_FAST = (("1h", "5m", 14.4), ("6h", "30m", 6.0))
_SLOW = (("1d", "2h", 3.0), ("3d", "6h", 1.0))
_HOURS = Timeline(well=120, fault=60, after=120)
_DAYS = Timeline(well=24 * 60, fault=24 * 60, after=36 * 60, step=10)
_CHECKS = 'authz_checks_total{job="authz",outcome="allow",reason="",route="/v1/servers"}'
_ERRORS = 'authz_checks_total{job="authz",outcome="error",reason="store_unavailable",route="/v1/servers"}'
_FEW = (Series(_CHECKS, 6000, 6000, Kind.COUNTER), Series(_ERRORS, 0, 12, Kind.COUNTER))
_MANY = (Series(_CHECKS, 6000, 4000, Kind.COUNTER), Series(_ERRORS, 0, 2000, Kind.COUNTER))
_COUNTED = 'authz_check_duration_seconds_count{job="authz"}'
_SOON = f'authz_check_duration_seconds_bucket{{job="authz",le="{SLOW_S}"}}'

_NO_DECISION = Runbook(
    meaning="authz refuses requests with 503 because it cannot decide: a store is unavailable, or authz has a fault.",
    clients="Some requests get 503 with `Retry-After`. None is admitted without a decision.",
    confirm='`sum by (reason, route) (rate(authz_checks_total{outcome="error"}[5m]))` names the reason. '
    "`detail` in the decision log names the store and the cause.",
    act="`store_unavailable`: follow AuthzRedisUnavailable or AuthzPostgresUnavailable. `internal`: search the log for "
    "`a check failed`, and go back to the version before if it began with an update.",
    over="The ratio of the short window falls below the threshold. The budget that was spent does not return before 30 "
    "days.",
)
_LATE = Runbook(
    meaning=f"Too many decisions take longer than {SLOW_S * 1000:.0f} ms.",
    clients="Responses are slower. Past Envoy's timeout of 200 ms they are 503.",
    confirm="Compare `authz_store_duration_seconds` of both stores, `authz_event_loop_lag_seconds` and the CPU of the "
    "process.",
    act="Slow store: AuthzRedisSlow, AuthzPostgresSlow. Slow event loop: AuthzEventLoopBlocked. Otherwise add sidecars or "
    "processors: see the capacity table in `docs/operations.md`.",
    over="The ratio of the short window falls below the threshold.",
)

ALERTS = (
    Alert(
        "AuthzErrorBudgetBurnsFast",
        _burns(ERRORS, AVAILABILITY_BUDGET, *_FAST),
        "2m",
        PAGE,
        "authz fails so many checks that the availability budget of 30 days lasts two days at most",
        _NO_DECISION,
        _MANY,
        {"job": "authz"},
        _HOURS,
    ),
    Alert(
        "AuthzErrorBudgetBurnsSlowly",
        _burns(ERRORS, AVAILABILITY_BUDGET, *_SLOW),
        "1h",
        TICKET,
        "authz fails more checks than the availability objective permits",
        _NO_DECISION,
        _FEW,
        {"job": "authz"},
        _DAYS,
    ),
    Alert(
        "AuthzLatencyBudgetBurnsFast",
        _burns(SLOW, LATENCY_BUDGET, *_FAST),
        "2m",
        PAGE,
        "authz decides so many checks late that the latency budget of 30 days lasts two days at most",
        _LATE,
        (Series(_COUNTED, 6000, 6000, Kind.COUNTER), Series(_SOON, 5998, 3000, Kind.COUNTER)),
        {"job": "authz"},
        _HOURS,
    ),
    Alert(
        "AuthzLatencyBudgetBurnsSlowly",
        _burns(SLOW, LATENCY_BUDGET, *_SLOW),
        "1h",
        TICKET,
        "authz decides more checks late than the latency objective permits",
        _LATE,
        (Series(_COUNTED, 6000, 6000, Kind.COUNTER), Series(_SOON, 5998, 5760, Kind.COUNTER)),
        {"job": "authz"},
        _DAYS,
    ),
)
