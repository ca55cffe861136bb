"""The drill of alerts: real processes, a real Prometheus, and a fault for each alert, which must fire and resolve.

`make drill` writes `build/drill/alerts.md`. Windows and waits of the rules are divided by a factor; the faults and the
thresholds are those of production. What is not drilled is listed with its reason, and proven by promtool only.
"""

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from longrun.alerts.faults import Drill
from support.observability.prometheus import Prometheus, prometheus

ROOT = Path(__file__).parents[3]
# Much longer than any alert takes, because the machine may be busy with something else.
_CALM_S, _FIRES_S, _RESOLVES_S = 180.0, 180.0, 180.0
_POLL_S = 0.2

NOT_DRILLED = {
    "AuthzErrorBudgetBurnsSlowly": "windows of one day and three days, half an hour and more even when shortened",
    "AuthzLatencyBudgetBurnsSlowly": "the same",
    "AuthzPostgresPoolFull": "needs more than five transactions that wait for a minute; the deadline ends them sooner",
    "AuthzLastUsesLost": "needs 100,000 keys in use while PostgreSQL is unavailable",
}


@dataclass(frozen=True, slots=True)
class Result:
    """What happened to one alert; None for what did not happen in time."""

    fault: str
    alert: str
    fired_s: float | None
    resolved_s: float | None


def exercises(drill: Drill) -> list[tuple[str, Callable[[], Iterator[None]], tuple[str, ...]]]:
    """Return each fault with its name and the alerts that must fire. A fault begins, yields, and ends."""
    return [
        ("Redis stopped", drill.redis_stopped, ("AuthzRedisUnavailable", "AuthzErrorBudgetBurnsFast", "AuthzDegraded")),
        ("Redis stopped, a change pending for a minute", drill.outbox_stuck, ("AuthzChangesStuck",)),
        ("Redis slow", drill.redis_slow, ("AuthzRedisSlow", "AuthzLatencyBudgetBurnsFast")),
        ("Redis read-only", drill.redis_read_only, ("AuthzRedisUnavailable",)),
        (
            "PostgreSQL stopped",
            drill.postgres_stopped,
            ("AuthzPostgresUnavailable", "AuthzBackgroundLoopFails", "AuthzKeyLoadsFail", "AuthzPortalFails"),
        ),
        ("PostgreSQL behind", drill.postgres_slow, ("AuthzPostgresSlow",)),
        ("changes effective after 20 s", drill.changes_slow, ("AuthzChangesSlow",)),
        ("an invalid policy", drill.bad_policy, ("AuthzPolicyReloadFailed",)),
        ("one sidecar has another policy", drill.other_policy, ("AuthzPoliciesDiffer",)),
        ("a certificate with one day left", drill.certificate, ("AuthzCertificateExpires",)),
        ("a flood of invalid keys", drill.bad_keys, ("AuthzInvalidKeyFlood",)),
        ("a flood of barred paths", drill.probing, ("AuthzProbing",)),
        ("a revoked key in use", drill.revoked_key, ("AuthzRevokedKeysUsed",)),
        ("leases lost, and their slots taken", drill.streams_over_cap, ("AuthzStreamCapExceeded",)),
        ("streams over the cap", drill.streams_refused, ("AuthzStreamsRefused",)),
        ("passwords tried at the portal", drill.passwords, ("AuthzPasswordsGuessed",)),
        ("connections over the limit", drill.connections, ("AuthzConnectionsRefused",)),
        ("calls of Envoy's access log that break", drill.reports, ("AuthzReportsBreak",)),
        ("few files left", drill.files, ("AuthzFilesNearLimit",)),
        ("a log on a full disk", drill.log_full, ("AuthzLogLinesDropped",)),
        ("a sidecar stopped", drill.sidecar_stopped, ("AuthzDown",)),
        ("a sidecar that gets no CPU", drill.sidecar_starved, ("AuthzEventLoopBlocked",)),
    ]


def run(factor: int, only: str, progress: Callable[[str], None]) -> list[Result]:
    """Drill each fault; return one result for each alert."""
    results = []
    with Drill() as drill, prometheus(drill.folder("prometheus"), drill.targets(), shorten=factor) as watched:
        time.sleep(5)
        for fault, begin, alerts in exercises(drill):
            if only not in fault:
                continue
            progress(fault)
            for found in _exercise(watched, fault, begin, alerts):
                progress(f"  {found.alert}: fired after {found.fired_s} s, resolved after {found.resolved_s} s")
                results.append(found)
    return results


def _exercise(
    watched: Prometheus, fault: str, begin: Callable[[], Iterator[None]], alerts: tuple[str, ...]
) -> list[Result]:
    """Raise a fault until all its alerts fire together, and end it; an alert that fired before it counts as unfired."""
    calm = {alert for alert in alerts if watched.until(alert, fires=False, within_s=_CALM_S)}
    started_s = time.monotonic()
    with contextmanager(begin)():
        deadline_s = started_s + _FIRES_S
        while not watched.firing.issuperset(alerts) and time.monotonic() < deadline_s:
            time.sleep(_POLL_S)
        fired = watched.firing & calm
        ended_s = time.monotonic()
    resolved = {alert for alert in fired if watched.until(alert, fires=False, within_s=_RESOLVES_S)}
    return [
        Result(
            fault,
            alert,
            round(watched.fired_s[alert] - started_s, 1) if alert in fired else None,
            round(watched.resolved_s[alert] - ended_s, 1) if alert in resolved else None,
        )
        for alert in alerts
    ]


def page(results: list[Result], factor: int) -> list[str]:
    """Return the lines of the report."""
    lines = ["# Alerts in a drill", "", f"Windows and waits are divided by {factor}; the scrape interval is 1 s.", ""]
    lines += ["| fault | alert | seconds until it fired | seconds until it resolved |", "|---|---|---|---|"]
    lines += [f"| {one.fault} | {one.alert} | {_shown(one.fired_s)} | {_shown(one.resolved_s)} |" for one in results]
    lines += ["", "Not drilled, but tested by promtool:", ""]
    return [*lines, *(f"- {alert}: {reason}" for alert, reason in NOT_DRILLED.items())]


def _shown(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f}"


def _missing(results: list[Result]) -> set[str]:
    rules = yaml.safe_load((ROOT / "deploy" / "observability" / "rules.yaml").read_text())
    known = {rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    return known - {one.alert for one in results} - NOT_DRILLED.keys()


def main() -> None:
    """Run the drill; exits with 1 if an alert did not fire or did not resolve, or is neither drilled nor excused."""
    parser = argparse.ArgumentParser(description="Drill every alert.")
    parser.add_argument("--shorten", type=int, default=60)
    parser.add_argument("--only", default="", help="Only faults whose name contains this.")
    options = parser.parse_args()

    def progress(text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    results = run(options.shorten, options.only, progress)
    folder = ROOT / "build" / "drill"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "alerts.md").write_text("\n".join(page(results, options.shorten)) + "\n")
    failed = {one.alert for one in results if one.fired_s is None or one.resolved_s is None}
    if not options.only:
        failed |= _missing(results)
    progress(f"{len(results)} results in {folder / 'alerts.md'}")
    if failed:
        sys.exit(f"not as expected: {', '.join(sorted(failed))}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main()
