"""What a change of policy opens and closes: for every kind of request, who passed before and who passes now.

Compared is what the tables decide, not how they are written. How it is printed is `cli_policy.py`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from authz.core.check import Allow
from authz.core.policy.path import parse
from authz.core.policy.path_kinds import PathKind, path_kinds
from authz.core.policy.policy import Policy
from authz.core.policy.route import Access, Route
from authz.core.policy.template import Template
from authz.core.policy.trial import NO_KEY, Caller, callers, decide, naming_account

ABSENT = "absent"
"""Stands among the places of accounts for none being named."""

_TABLE = frozenset({"routes", "router"})
_ATTRIBUTES = ("cost", "errors", "stream", "yields_credential", "shadow")  # what decides is compared by its outcome


@dataclass(slots=True)
class Change:
    """A difference between two policies: `old` and `new` are the rows that decide, None where none does.

    `requests` maps kinds of paths, as shown, to methods. `opens` and `closes` name the callers who pass now and did
    not, or did and do not; `frees` and `binds` the places where a foreign account may now be named, or no longer
    (`absent`: none need be named). `alters` is what else differs between the rows.
    """

    old: Route | None
    new: Route | None
    opens: tuple[str, ...] = ()
    closes: tuple[str, ...] = ()
    frees: tuple[str, ...] = ()
    binds: tuple[str, ...] = ()
    alters: tuple[str, ...] = ()
    requests: dict[str, list[str]] = field(default_factory=dict)

    @property
    def is_opening(self) -> bool:
        """Tell whether anything becomes reachable that was not."""
        return bool(self.opens or self.frees)

    @property
    def is_grave(self) -> bool:
        """Tell whether it opens what was barred, what needs no key now, a credential, or somebody else's account."""
        if not self.is_opening:
            return False
        credential = self.new is not None and self.new.yields_credential
        foreign = any(place != ABSENT for place in self.frees)
        return credential or foreign or NO_KEY in self.opens or _is_barred(self.old)


@dataclass(frozen=True, slots=True)
class PolicyDiff:
    """Every difference, of the tables, openings first, and of what stands around them. `callers` names them all."""

    changes: list[Change]
    surroundings: list[str]
    callers: tuple[str, ...]


def compare(old: Policy, new: Policy) -> PolicyDiff:
    """Compare two policies for every request there can be, percent-encoded spellings aside."""
    templates = {route.template for policy in (old, new) for route in policy.routes}
    methods = sorted(old.methods | new.methods)
    found: dict[tuple[Route | None, Route | None, bool, bool], Change | None] = {}
    for kind in path_kinds(Template.parse(template) for template in sorted(templates)):
        for method in methods:
            before, after = _row(old, method, kind), _row(new, method, kind)
            # Whether a method passes at all is not the row's to say.
            key = (before, after, method in old.methods, method in new.methods)
            if key not in found:
                found[key] = _changed(old, new, method, kind, (before, after))
            if (change := found[key]) is not None:
                change.requests.setdefault(kind.shown, []).append(method)
    changes = [change for change in found.values() if change is not None]
    changes.sort(key=lambda change: (not change.is_grave, not change.is_opening, not (change.closes or change.binds)))
    return PolicyDiff(changes, list(_surroundings(old, new)), tuple(callers(old, new)))


def _row(policy: Policy, method: str, kind: PathKind) -> Route | None:
    target = parse(kind.sample)
    match = policy.router.match(method, target) if target else None
    return match.route if match else None


def _changed(
    old: Policy, new: Policy, method: str, kind: PathKind, rows: tuple[Route | None, Route | None]
) -> Change | None:
    everyone = callers(old, new)
    before = _admitted(old, everyone, method, kind, rows[0])
    after = _admitted(new, everyone, method, kind, rows[1])
    change = Change(
        *rows,
        opens=tuple(name for name in after if name not in before),
        closes=tuple(name for name in before if name not in after),
    )
    if before and after and rows[0] is not None and rows[1] is not None:
        change.frees = tuple(sorted(_bound(rows[0]) - _bound(rows[1])))
        change.binds = tuple(sorted(_bound(rows[1]) - _bound(rows[0])))
    change.alters = tuple(_altered(*rows))
    is_any = change.opens or change.closes or change.frees or change.binds or change.alters
    return change if is_any else None


def _admitted(
    policy: Policy, everyone: Mapping[str, Caller | None], method: str, kind: PathKind, route: Route | None
) -> list[str]:
    target, body = naming_account(kind.sample, route)
    return [name for name, it in everyone.items() if isinstance(decide(policy, method, target, it, body), Allow)]


def _bound(route: Route) -> set[str]:
    places = {f"{binding.place}:{binding.name}" for binding in route.accounts}
    return places | {ABSENT} if route.account_required else places


def _altered(old: Route | None, new: Route | None) -> Iterator[str]:
    if _is_barred(old) != _is_barred(new):
        yield "no longer barred" if _is_barred(old) else "barred"
    if old is not None and new is not None:
        for name in _ATTRIBUTES:
            before, after = getattr(old, name), getattr(new, name)
            if before != after:
                yield f"{name}: {before or 'none'} → {after or 'none'}"


def _is_barred(route: Route | None) -> bool:
    return route is not None and route.access is Access.BARRED


def _surroundings(old: Policy, new: Policy) -> Iterator[str]:
    """Yield what differs beside the tables, scopes and stream classes one by one."""
    for name in sorted(item.name for item in fields(Policy) if item.name not in _TABLE):
        before, after = getattr(old, name), getattr(new, name)
        if isinstance(before, dict):
            for inner in sorted({*before, *after}):
                if before.get(inner) != after.get(inner):
                    yield f"{name}: {_written(before.get(inner))} → {_written(after.get(inner))}"
        elif before != after:
            yield f"{name}: {_written(before)} → {_written(after)}"


def _written(value: Any) -> str:  # noqa: ANN401 -- any part of a policy
    if value is None:
        return "none"
    if isinstance(value, frozenset):
        return ", ".join(sorted(value))
    if is_dataclass(value):
        return ", ".join(f"{it.name} {_written(getattr(value, it.name))}" for it in fields(value) if it.repr)
    return str(value)
