"""The shipped rules and their tests, cut into one pair of files for each alert, so that promtool evaluates few rules.

A test of the shipped files evaluates all rules at each step of each alert. What the tests must prove is decided by the
callers.
"""

import json
import re
import subprocess
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any

import yaml

FOLDER = Path(__file__).parents[3] / "deploy" / "observability"
TEST_FILES = ("rules_test.yaml", "rules_slow_test.yaml")
_RULES = "rules.yaml"
_RECORDED = re.compile(r"\bauthz:[a-z0-9_:]+")
_RESULT = re.compile(r"Unit Testing:\s+(\S+)\n\s+(SUCCESS|FAILED)")

Rule = dict[str, Any]
Change = Callable[[str], str]
"""Returns another expression than that of an alert."""


@cache
def groups() -> list[dict[str, Any]]:
    """Return the groups of the shipped rules."""
    loaded: list[dict[str, Any]] = yaml.safe_load((FOLDER / _RULES).read_text())["groups"]
    return loaded


def alerts() -> list[Rule]:
    """Return the shipped alerts."""
    return [rule for group in groups() for rule in group["rules"] if "alert" in rule]


@cache
def documents() -> list[dict[str, Any]]:
    """Return the shipped files of tests."""
    return [yaml.safe_load((FOLDER / name).read_text()) for name in TEST_FILES]


def results(promtool: str, folder: Path, changes: Mapping[str, Change]) -> dict[tuple[str, str], bool]:
    """Run the tests of all alerts after each change in one process; return for each change and alert if they pass.

    Alerts whose expression a change leaves as it is are left out.
    """
    found: dict[str, tuple[str, str]] = {}
    rules = {rule["alert"]: rule for rule in alerts()}
    for document in documents():
        for test in document["tests"]:
            alert = rules[test["name"]]
            for name, change in changes.items():
                changed = alert | {"expr": change(alert["expr"])}
                file = f"{test['name']}_{len(found)}.yaml"
                if name and changed == alert:
                    continue
                _write(folder, file, changed, document | {"tests": [test]})
                found[file] = name, test["name"]
    command = [promtool, "test", "rules", *found]
    shown = subprocess.run(command, cwd=folder, stdout=PIPE, stderr=STDOUT, text=True, check=False).stdout
    passed = {file: result == "SUCCESS" for file, result in _RESULT.findall(shown)}
    assert passed.keys() == found.keys(), shown
    return {found[file]: passes for file, passes in passed.items()}


def _write(folder: Path, file: str, alert: Rule, test: dict[str, Any]) -> None:
    """Write the test of one alert, and the rules that it needs: those that it records, in their shipped order."""
    used = set(_RECORDED.findall(alert["expr"]))
    kept = []
    for group in groups():
        rules = [alert if rule.get("alert") == alert["alert"] else rule for rule in group["rules"]]
        wanted = [rule for rule in rules if rule is alert or rule.get("record") in used]
        if wanted:
            kept.append(group | {"rules": wanted})
    (folder / f"rules_{file}").write_text(json.dumps({"groups": kept}))
    order = [name for name in test["group_eval_order"] if name in {group["name"] for group in kept}]
    (folder / file).write_text(json.dumps(test | {"rule_files": [f"rules_{file}"], "group_eval_order": order}))
