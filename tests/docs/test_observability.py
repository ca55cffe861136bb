"""Rules and dashboards: generated, parsed and tested by promtool, and of metrics that the processes export."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from support.observability.alert_tests import FOLDER, Change, Rule, alerts, documents, groups, results
from support.servers.programs import unpacked

from authz.core.errors import DenyReason

ROOT = Path(__file__).parents[2]
DASHBOARDS = sorted((FOLDER / "dashboards").glob("*.json"))
# Of Prometheus itself and of its client library.
OTHERS = {"up", "process_cpu_seconds_total", "process_open_fds", "process_max_fds", "process_resident_memory_bytes"}
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
WORDS = set("by or and le rate sum max min count increase time topk job instance histogram_quantile".split())  # noqa: SIM905
THRESHOLD = re.compile(r"(==|[<>]) [0-9.]+(?: \* [0-9]+)?")
SEPARATOR = "# the other process\n"
EXPORT = f"""
import asyncio, sys
from pathlib import Path
from prometheus_client import generate_latest
from pydantic import SecretStr
from authz.portal_app import Portal
from authz.settings import Settings
from authz.sidecar import Sidecar

async def main():
    settings = Settings(
        policy_file=Path("policies/truetick.yaml"),
        admin_listen="127.0.0.1:0",
        portal_admin_listen="127.0.0.1:0",
        portal_proxy_secret=SecretStr("-" * 32),
    )
    parts = [generate_latest(process(settings).registry.snapshot()).decode() for process in (Sidecar, Portal)]
    sys.stdout.write({SEPARATOR!r}.join(parts))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def promtool() -> str:
    path, _ = unpacked("promtool")
    return path


@pytest.fixture(scope="module")
def expositions() -> list[str]:
    """What the sidecar and the portal export, of a process of their own, because both set up logging."""
    done = subprocess.run([sys.executable, "-c", EXPORT], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split(SEPARATOR)


@pytest.fixture(scope="module")
def exported(expositions: list[str]) -> set[str]:
    """The name of every series that the sidecar and the portal can have."""
    families = [family for text in expositions for family in text_string_to_metric_families(text)]
    return {family.name + suffix for family in families for suffix in SUFFIXES.get(family.type, ("",))} | OTHERS


def test_promtool_finds_no_fault_in_what_is_exported(promtool: str, expositions: list[str]) -> None:
    assert len(expositions) == 2
    for text in expositions:
        assert subprocess.run([promtool, "check", "metrics"], input=text, text=True, check=False).returncode == 0


def rules() -> list[Rule]:
    return [rule for group in groups() for rule in group["rules"]]


def expressions() -> Iterator[str]:
    yield from (str(rule["expr"]) for rule in rules())
    for path in DASHBOARDS:
        yield from (
            str(target["expr"]) for panel in json.loads(path.read_text())["panels"] for target in panel["targets"]
        )


def names(expression: str) -> set[str]:
    """The names of the series in an expression, recording rules excluded."""
    bare = re.sub(r'"[^"]*"|\[[^\]]*\]', "", expression)
    grouped = re.sub(r"\bby \([^)]*\)|\{[^}]*\}", "", bare)
    found = set(re.findall(r"[a-z_:][a-z0-9_:]*", grouped))
    return {name for name in found if ":" not in name} - WORDS


def run(*command: object, cwd: Path = FOLDER) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)


def test_the_files_are_what_their_source_says(tmp_path: Path) -> None:
    subprocess.run([sys.executable, FOLDER / "write_files.py", tmp_path], check=True)
    for path in tmp_path.rglob("*.*"):
        inside = path.relative_to(tmp_path)
        shipped = ROOT / "docs" / inside if path.name == "runbook.md" else FOLDER / inside
        assert shipped.read_text() == path.read_text(), f"{inside} is stale: run `make docs`"
    assert len(DASHBOARDS) == len(list(tmp_path.glob("dashboards/*.json"))) == 3


def test_every_alert_fires_in_its_fault_and_neither_before_nor_after(promtool: str, tmp_path: Path) -> None:
    assert results(promtool, tmp_path, {"": str}) == {("", alert["alert"]): True for alert in alerts()}


def test_the_files_of_tests_are_for_the_shipped_rules() -> None:
    for document in documents():
        assert document["rule_files"] == ["rules.yaml"]
        assert document["group_eval_order"] == [group["name"] for group in groups()]


def test_each_alert_has_a_test_with_all_three_phases() -> None:
    tests = [test for document in documents() for test in document["tests"]]
    tested = {test["name"]: [bool(step["exp_alerts"]) for step in test["alert_rule_test"]] for test in tests}
    assert tested == {alert["alert"]: [False, True, False] for alert in alerts()}
    assert len(tested) > 25


def test_a_rule_that_is_changed_fails_its_test(promtool: str, tmp_path: Path) -> None:
    changes: dict[str, Change] = {
        "too high": lambda expr: THRESHOLD.sub("> 1e12", expr),
        "too low": lambda expr: THRESHOLD.sub("> -1e12", expr),
        "of other series": lambda expr: re.sub(r'(?<!!)=~?"[^"]+"', '="none"', expr),
    }
    found = results(promtool, tmp_path, changes)
    assert [change for change, passes in found.items() if passes] == []
    changed = [{alert for change, alert in found if change == name} for name in changes]
    assert changed[0] == changed[1] == {alert["alert"] for alert in alerts()}
    assert len(changed[2]) > 10


def test_every_expression_is_parsed(promtool: str, tmp_path: Path) -> None:
    group = [{"record": f"a:b{number}", "expr": expr} for number, expr in enumerate(expressions())]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": group}]}))
    done = run(promtool, "check", "rules", tmp_path / "all.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(group)} rules found" in done.stdout
    assert run(promtool, "check", "rules", FOLDER / "rules.yaml").returncode == 0


def test_every_metric_in_a_rule_or_dashboard_is_exported(exported: set[str]) -> None:
    found = {name for expression in expressions() for name in names(expression)}
    assert found - exported == set()
    assert len(found) > 30


def test_a_renamed_metric_is_noticed(exported: set[str]) -> None:
    for name in ("authz_outbox_entries", "authz_store_duration_seconds_bucket", "authz_portal_logins_total"):
        used = {name for expression in expressions() for name in names(expression)}
        assert used - (exported - {name}) == {name}


def test_recordings_that_are_used_exist() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    used = {name for expression in expressions() for name in re.findall(r"\bauthz:[a-z0-9_:]+", expression)}
    assert used
    assert used <= recorded


def test_reasons_in_expressions_exist() -> None:
    patterns = {text for expression in expressions() for text in re.findall(r'reason=~?"([^"]+)"', expression)}
    for alternative in (one for text in patterns for one in text.split("|")):
        assert [reason for reason in DenyReason if re.fullmatch(alternative, reason)], alternative


def test_each_alert_has_its_section_in_the_runbook() -> None:
    page = (ROOT / "docs" / "runbook.md").read_text()
    sections = {part.split("\n")[0]: part for part in page.split("\n### ")[1:]}
    assert set(sections) == {alert["alert"] for alert in alerts()}
    for alert in alerts():
        address, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        assert (address, anchor) == ("docs/runbook.md", alert["alert"].lower())
        for head in ("Meaning", "Clients see", "Confirm", "Do", "Over when"):
            assert f"- **{head}:** " in sections[alert["alert"]]
