"""The output of `authz policy`: fields for `--json`, and lines for people.

The commands are `app.py`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from authz.adapters.policy_file.loader import RowKey, row_key
from authz.cli.output import safe
from authz.core.check import Allow, Decision, Deny
from authz.core.errors import DENIALS, DenyReason
from authz.core.limits import NamedLimit
from authz.core.policy.diff import ABSENT, Change, PolicyDiff
from authz.core.policy.expectations import Mismatch, outcomes
from authz.core.policy.expectations import row as deciding_row
from authz.core.policy.policy import Policy
from authz.core.policy.route import Access, ErrorFormat, Route
from authz.core.policy.simulation import ANY_KEY, NO_KEY, Caller, callers, decide

_SHOWN_MAX = 3
_METHODS_MAX = 4
_INDENT = "    "
_ERRORS = {
    ErrorFormat.JSON: "",
    ErrorFormat.PROBLEM: "problem details",
    ErrorFormat.TEXT: "one line of text",
    ErrorFormat.TEMPLATE: "the policy's template",
}
_WHY = {
    DenyReason.PATH_NOT_CANONICAL: "the path is ambiguous or never accepted (docs/policy.md)",
    DenyReason.METHOD_REFUSED: "the method is never allowed",
    DenyReason.ROUTE_UNKNOWN: "no route matches this path",
}


class Lines(Console):
    """Prints lines that are never folded; text from users is no markup, and its control characters are escaped."""

    def __init__(self) -> None:
        super().__init__(highlight=False, soft_wrap=True, emoji=False, markup=False)

    def print(self, *objects: Any, **options: Any) -> None:  # noqa: ANN401 -- as the base class has it
        """Print as the base class does."""
        super().print(*(_escaped(each) for each in objects), **options)


@dataclass(frozen=True, slots=True)
class RowLocations:
    """The file and line of each route of a policy."""

    lines: dict[RowKey, str]

    def of(self, route: Route) -> str:
        """Return FILE:LINE."""
        return self.lines[row_key(route)]


def row(route: Route) -> dict[str, Any]:
    """Return the identity of a route and its requirement."""
    return {"method": route.method, "template": route.template, "needs": _needs(route)}


def explained(
    policy: Policy,
    method: str,
    target: str,
    scopes: Sequence[str] | None,
    locations: RowLocations,
    host: str = "",
) -> dict[str, Any]:
    """Return the route that decides on a request, and the decision for each kind of caller."""
    route = deciding_row(policy, method, target, host)
    asking = dict(callers(policy))
    if scopes:
        asking[f"this key: {' '.join(scopes)}"] = Caller(frozenset(scopes))
    decisions = {name: decide(policy, method, target, caller, host=host) for name, caller in asking.items()}
    found = decide(policy, method, target, Caller(frozenset(policy.scopes)), host=host)
    return {
        "request": f"{method} {host}{target}",
        "row": None if route is None else row(route) | {"at": locations.of(route)} | _extras(route),
        "why": "" if route else _why(found),
        "callers": {name: _outcome(decision) for name, decision in decisions.items()},
    }


def print_explained(console: Console, policy: Policy, fields: dict[str, Any]) -> None:
    """Print an explanation: the route, its requirement, and the callers that it admits."""
    console.print(Text(fields["request"], style="bold"))
    if (found := fields["row"]) is None:
        console.print(f"  row      none: {fields['why']}")
    else:
        console.print(f"  row      {found['method']} {found['template']}  ({found['at']})")
        console.print(f"  needs    {_needs_in_words(policy, found['needs'])}")
        for name, value in found.items():
            if name not in {"method", "template", "needs", "at"}:
                console.print(f"  {name:<8} {value}")
    groups: dict[str, list[str]] = {}
    for name, outcome in fields["callers"].items():
        groups.setdefault(outcome, []).append(name)
    for outcome, names in sorted(groups.items(), key=lambda it: not it[0].startswith("allow")):
        style = "green" if outcome.startswith("allow") else "red"
        console.print(Text("  ").append(outcome, style=style).append(f"  {_people(names, fields['callers'])}"))


def _needs(route: Route) -> str:
    return route.scope if route.access is Access.SCOPE else route.access.value


def _needs_in_words(policy: Policy, needs: str) -> str:
    if (scope := policy.scopes.get(needs)) is not None:
        return f"{needs}{', which writes' if scope.write else ''}: {scope.description}"
    if needs not in set(Access):
        return needs
    return {
        Access.ANY: "any valid key",
        Access.OPTIONAL: "no key; one that is given must be valid",
        Access.PUBLIC: "no key",
        Access.SESSION: "no key: its backend checks the session, and a key is refused",
        Access.BARRED: "barred: no key is admitted",
    }[Access(needs)]


def _extras(route: Route) -> dict[str, str]:
    """Return the other properties of a route, by names of at most eight letters."""
    account = ", ".join(f"{it.location}:{it.name}" for it in route.accounts)
    extras = {
        "hosts": ", ".join(route.hosts),
        "account": f"{account} must be the key's own{', and given' if route.account_required else ''}"
        if account
        else "",
        "cost": f"{route.cost} tokens" if route.cost > 1 else "",
        "limits": ", ".join(map(_bucket, route.limits)),
        "stream": route.stream,
        "errors": _ERRORS[route.errors],
        "yields": "a credential" if route.yields_credential else "",
        "shadow": "decided and counted, but every request is allowed" if route.shadow else "",
    }
    return {name: value for name, value in extras.items() if value}


def _bucket(it: NamedLimit) -> str:
    return f"{it.name}: {it.limit.capacity} tokens, {it.limit.refill_per_s:g} per second"


def _why(decision: Decision) -> str:
    if isinstance(decision, Deny) and decision.methods:
        return f"the path allows {', '.join(decision.methods)} only"
    return _WHY.get(decision.reason, "") if isinstance(decision, Deny) else ""


def _outcome(decision: Decision) -> str:
    if isinstance(decision, Allow):
        return "allow" if decision.would_deny is None else f"allow (shadow; would be {decision.would_deny})"
    message = DENIALS[decision.reason].message.format(scope=decision.route.scope if decision.route else "")
    return f"{' '.join(outcomes(decision))}: {message}"


def request(surprising: Mismatch) -> str:
    """Return the request of an expectation and its caller, as text."""
    it = surprising.expectation
    if it.needs:
        return f"{it.method} {it.host}{it.target}"
    if it.caller is None:
        return f"{it.method} {it.host}{it.target} without a key"
    owner = f" of {it.caller.account_id}" if it.caller.account_id else ""
    return f"{it.method} {it.host}{it.target} with a key{owner} for {' '.join(sorted(it.caller.scopes)) or 'nothing'}"


def surprise(surprising: Mismatch, line: int) -> dict[str, Any]:
    """Return an unmet expectation, as fields."""
    return {
        "line": line,
        "request": request(surprising),
        "expected": surprising.expected,
        "found": surprising.found,
    }


def tally(expectations: int, failures: int, rows_without: int) -> str:
    """Return the summary line of a test."""
    met = f"{expectations - failures} of {expectations} expectations met"
    return f"{met}; rows without any: {rows_without}" if rows_without else met


def print_diff(console: Console, found: PolicyDiff, old: RowLocations, new: RowLocations) -> None:
    """Print each change: what it opens or closes, for which callers, by which routes; then other changes."""
    for change in found.changes:
        for style, line in _headlines(change, found.callers):
            console.print(Text(line, style=style))
        console.print(f"{_INDENT}{_requests(change)}")
        console.print(Text(f"{_INDENT}was {_located(change.old, old)}", style="dim"))
        console.print(Text(f"{_INDENT}now {_located(change.new, new)}", style="dim"))
    for line in found.loosens:
        console.print(Text(f"+ opens: {line}", style="red"))
    for line in found.surroundings:
        console.print(f"~ {line}")
    opening = sum(change.is_opening for change in found.changes) + len(found.loosens)
    closing = sum(bool(change.closes or change.binds) for change in found.changes)
    console.print(
        f"changes that open: {opening}, that close: {closing}"
        if found.changes or found.loosens
        else "no request is decided differently"
    )


def _headlines(change: Change, everybody: Collection[str]) -> list[tuple[str, str]]:
    mark, style = ("!", "bold red") if change.is_grave else ("+", "red")
    lines = []
    if change.opens:
        lines.append((style, f"{mark} opens to {_people(change.opens, everybody)}"))
    if change.frees:
        lines.append((style, f"{mark} no longer checks: {_bindings(change.frees)}"))
    if change.closes:
        lines.append(("green", f"- closes to {_people(change.closes, everybody)}"))
    if change.binds:
        lines.append(("green", f"- now checks: {_bindings(change.binds)}"))
    lines += [("yellow", f"~ {alteration}") for alteration in change.alters]
    return lines


def _people(names: Sequence[str], everybody: Collection[str]) -> str:
    """Return the names of some callers: a key without scopes stands for all keys that are not distinguished."""
    if set(names) == set(everybody):
        return "anybody"
    scopes = [name for name in names if name not in {NO_KEY, ANY_KEY}]
    keys = f"keys for {', '.join(scopes)}" if scopes else ""
    if ANY_KEY in names:
        keys = "every key" if set(everybody) - set(names) <= {NO_KEY} else "every other key"
    return " and ".join(part for part in (keys, "callers without a key" if NO_KEY in names else "") if part)


def _bindings(bindings: Sequence[str]) -> str:
    return ", ".join("that an account is named" if it == ABSENT else it for it in bindings)


def _requests(change: Change) -> str:
    kinds = list(change.requests.items())
    shown = [
        f"{','.join(methods) if len(methods) <= _METHODS_MAX else '*'} {path}" for path, methods in kinds[:_SHOWN_MAX]
    ]
    more = len(kinds) - _SHOWN_MAX
    return "  ".join(shown) + (f"  and {more} more kinds of path" if more > 0 else "")


def _located(route: Route | None, locations: RowLocations) -> str:
    if route is None:
        return "no route decides"
    at = f" at {', '.join(route.hosts)}" if route.hosts else ""
    return f"{route.method} {route.template}{at}: {_needs(route)}  ({locations.of(route)})"


def _escaped(line: object) -> object:
    if isinstance(line, Text):
        return line if line.plain == safe(line.plain) else Text(safe(line.plain), style=line.style)
    return "\n".join(map(safe, str(line).split("\n")))
