"""The formats of findings: text for people, JSON, and SARIF 2.1.0 for code scanning.

What is found is `core/envoy_rules/`.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

from authz import __version__
from authz.cli.output import safe
from authz.core.envoy_rules.finding import Finding, Rule, Severity
from authz.core.envoy_rules.node import Path as Steps
from authz.core.envoy_rules.registry import RULES

PAGE = "docs/reference/envoy-rules.md"
_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_INDENT = "    "
_TEXT_CHARS_MAX = 300


def text(found: list[Finding], source: str) -> str:
    """Return findings as text: a line for each, as compilers do, then the place, the reason and the fix."""
    lines: list[str] = []
    for each in found:
        where = f"{source}:{each.line}" if each.line else source
        lines += [
            f"{where}: {each.severity} {each.rule.id}: {_short(each.what)}",
            f"{_INDENT}at   {_short(steps(each.path))}",
            f"{_INDENT}why  {each.rule.title}. {each.rule.why}",
            *(f"{_INDENT}{'fix ' if not index else '    '} {line}" for index, line in enumerate(each.fix.splitlines())),
            f"{_INDENT}see  {PAGE}#{each.rule.id.lower()}",
        ]
    counts = Counter(each.severity for each in found)
    tally = ", ".join(f"{counts[it]} {it}{'s' if counts[it] != 1 else ''}" for it in Severity)
    return "\n".join(map(safe, [*lines, f"{source}: {tally}"]))


def as_json(found: list[Finding], source: str) -> str:
    """Return findings as JSON."""
    items = [
        {
            "rule": each.rule.id,
            "severity": each.severity,
            "line": each.line or None,
            "path": steps(each.path),
            "what": each.what,
            "title": each.rule.title,
            "why": each.rule.why,
            "fix": each.fix,
            "see": f"{PAGE}#{each.rule.id.lower()}",
        }
        for each in found
    ]
    counts = Counter(each.severity for each in found)
    return json.dumps({"source": source, "findings": items} | {f"{it}s": counts[it] for it in Severity}, indent=2)


def sarif(found: list[Finding], source: str) -> str:
    """Return findings as a SARIF log of one run."""
    driver = {"name": "authz", "semanticVersion": __version__, "rules": [_rule(rule) for rule in RULES]}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(each, source) for each in found],
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def steps(path: Steps) -> str:
    """Return a path as people write it, `static_resources.listeners[0]`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step.replace("_", "").isalnum():
            text += f".{step}"
        else:
            text += f"[{json.dumps(step)}]"
    return text.removeprefix(".") or "."


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.why},
        "help": {"text": f"{rule.fix}\n{PAGE}#{rule.id.lower()}"},
        "defaultConfiguration": {"level": rule.severity.value},
    }


def _result(each: Finding, source: str) -> dict[str, Any]:
    region = {"region": {"startLine": each.line}} if each.line else {}
    location = {
        "physicalLocation": {"artifactLocation": {"uri": _uri(source)}} | region,
        "logicalLocations": [{"fullyQualifiedName": steps(each.path)}],
    }
    return {
        "ruleId": each.rule.id,
        "ruleIndex": RULES.index(each.rule),
        "level": each.severity.value,
        "message": {"text": f"{each.what}. {each.rule.why} Fix: {each.fix}"},
        "locations": [location],
    }


def _uri(source: str) -> str:
    if "://" in source:
        return quote(source, safe=":/?#[]@!$&'()*+,;=%")
    return "stdin" if source == "-" else quote(Path(source).as_posix())


def _short(text: str) -> str:
    return text if len(text) <= _TEXT_CHARS_MAX else f"{text[:_TEXT_CHARS_MAX]}…"
