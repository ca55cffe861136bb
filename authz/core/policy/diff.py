"""The effect of a policy change: for every class of requests, who was allowed before and who is allowed now.

The comparison is of decisions, not of the text of the files. `cli/policy/text.py` prints it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from authz.core.check import Allow
from authz.core.hosts.table import host_samples
from authz.core.limits import NamedLimit
from authz.core.policy.path import Target, parse
from authz.core.policy.path_classes import PathClass, path_classes
from authz.core.policy.policy import Policy
from authz.core.policy.route import Access, Route
from authz.core.policy.router import Router
from authz.core.policy.simulation import NO_KEY, Caller, callers, decide, naming_account
from authz.core.policy.template import Template

ABSENT = "absent"
"""The entry among account locations for a request that names no account."""

_HOSTS_SHOWN = 3
_APART = frozenset({"routes", "router", "acknowledges", "identity", "key_limits"})
_ATTRIBUTES = (
    "cost",
    "limits",
    "errors",
    "stream",
    "yields_credential",
    "shadow",
    "colon_ids",
)  # everything that decides is compared by its outcome


@dataclass(slots=True)
class Change:
    """A difference between two policies: `old` and `new` are the rows that decide, or None.

    `requests` maps path classes, as shown, to methods. `opens` names the callers who are newly allowed, `closes` those
    who no longer are. `frees` lists the locations where a foreign account is newly accepted, `binds` those where it no
    longer is (`absent`: no account needs to be named). `alters` lists the other differences between the rows. `widens`
    tells whether the new row accepts spellings of its paths that the old one refuses (`colon_ids`).
    """

    old: Route | None
    new: Route | None
    opens: tuple[str, ...] = ()
    closes: tuple[str, ...] = ()
    frees: tuple[str, ...] = ()
    binds: tuple[str, ...] = ()
    alters: tuple[str, ...] = ()
    widens: bool = False
    requests: dict[str, list[str]] = field(default_factory=dict)

    @property
    def is_opening(self) -> bool:
        """Tell whether anything is newly allowed."""
        return bool(self.opens or self.frees or self.widens)

    @property
    def is_grave(self) -> bool:
        """Tell whether it opens a barred path, a credential or a foreign account, or needs a key no longer."""
        if not self.is_opening:
            return False
        credential = self.new is not None and self.new.yields_credential
        foreign = any(location != ABSENT for location in self.frees)
        return credential or foreign or NO_KEY in self.opens or _is_barred(self.old)


@dataclass(frozen=True, slots=True)
class PolicyDiff:
    """Every difference: of the tables, openings first, and of the other sections. `callers` names all callers.

    `loosens` lists what other sections newly accept on every row.
    """

    changes: list[Change]
    surroundings: list[str]
    callers: tuple[str, ...]
    loosens: tuple[str, ...] = ()

    @property
    def is_opening(self) -> bool:
        """Tell whether anything is newly allowed."""
        return bool(self.loosens) or any(change.is_opening for change in self.changes)


def compare(old: Policy, new: Policy) -> PolicyDiff:
    """Compare two policies for every possible request, except for percent-encoded spellings."""
    rows = [route for policy in (old, new) for route in policy.routes]
    barred = {route.template for route in rows if _is_barred(route)}
    others = {route.template for route in rows if not _is_barred(route)}
    classes = tuple(path_classes(map(Template.parse, sorted(others)), map(Template.parse, sorted(barred))))
    compared = _Comparison(old, new)
    for sides, hosts in _hosts(old, new).items():
        for paths in classes:
            compared.add(sides, hosts, paths)
    changes = [change for change in compared.found.values() if change is not None]
    changes.sort(key=lambda change: (not change.is_grave, not change.is_opening, not (change.closes or change.binds)))
    return PolicyDiff(changes, list(_surroundings(old, new)), tuple(compared.everyone), tuple(_loosened(old, new)))


def _hosts(old: Policy, new: Policy) -> dict[tuple[Router, Router], list[tuple[str, str]]]:
    """Return every pair of routers that decides on some host, with samples of these hosts."""
    found: dict[tuple[Router, Router], list[tuple[str, str]]] = {}
    for host, shown in host_samples(old.router, new.router):
        found.setdefault((old.router.for_host(host), new.router.for_host(host)), []).append((host, shown))
    return found


class _Comparison:
    """The differences found so far, by the rows that decide."""

    def __init__(self, old: Policy, new: Policy) -> None:
        self._old, self._new = old, new
        self._methods = sorted(old.methods | new.methods)
        self.everyone = callers(old, new)
        self.found: dict[tuple[Route | None, Route | None, bool, bool], Change | None] = {}

    def add(self, sides: tuple[Router, Router], hosts: list[tuple[str, str]], paths: PathClass) -> None:
        """Compare the decisions of two routers on the requests of a class of paths at some hosts."""
        old, new = self._old, self._new
        target = parse(paths.sample)
        shown = ", ".join(name for _, name in hosts[:_HOSTS_SHOWN]) + (", …" if len(hosts) > _HOSTS_SHOWN else "")
        for method in self._methods:
            before, after = (_row(side, method, target) for side in sides)
            if method == "HEAD" and all(
                _follows_get(*it, target) for it in ((old, sides[0], before), (new, sides[1], after))
            ):
                continue
            # The policy's list of methods applies besides the row.
            key = (before, after, method in old.methods, method in new.methods)
            if key not in self.found:
                self.found[key] = _changed(old, new, self.everyone, (method, paths, hosts[0][0]), (before, after))
            if (change := self.found[key]) is not None:
                change.requests.setdefault(f"{shown} {paths.shown}" if shown else paths.shown, []).append(method)


def _row(router: Router, method: str, target: Target | None) -> Route | None:
    match = router.match(method, target) if target else None
    return match.route if match else None


def _follows_get(policy: Policy, router: Router, row: Route | None, target: Target | None) -> bool:
    """Tell whether a policy decides on HEAD as on GET, so that a comparison of GET suffices."""
    return {"GET", "HEAD"} <= policy.methods and row is _row(router, "GET", target)


def _changed(
    old: Policy,
    new: Policy,
    everyone: Mapping[str, Caller | None],
    request: tuple[str, PathClass, str],
    rows: tuple[Route | None, Route | None],
) -> Change | None:
    before = _admitted(old, everyone, *request, rows[0])
    after = _admitted(new, everyone, *request, rows[1])
    change = Change(
        *rows,
        opens=tuple(name for name in after if name not in before),
        closes=tuple(name for name in before if name not in after),
    )
    if before and after and rows[0] is not None and rows[1] is not None:
        change.frees = tuple(sorted(_bound(rows[0]) - _bound(rows[1])))
        change.binds = tuple(sorted(_bound(rows[1]) - _bound(rows[0])))
        change.widens = rows[1].colon_ids and not rows[0].colon_ids
    change.alters = tuple(_altered(*rows))
    is_any = change.opens or change.closes or change.frees or change.binds or change.alters
    return change if is_any else None


def _admitted(
    policy: Policy, everyone: Mapping[str, Caller | None], method: str, paths: PathClass, host: str, route: Route | None
) -> list[str]:
    target, body = naming_account(paths.sample, route)
    return [
        name for name, it in everyone.items() if isinstance(decide(policy, method, target, it, body, host=host), Allow)
    ]


def _bound(route: Route) -> set[str]:
    locations = {f"{binding.location}:{binding.name}" for binding in route.accounts}
    return locations | {ABSENT} if route.account_required else locations


def _altered(old: Route | None, new: Route | None) -> Iterator[str]:
    if _is_barred(old) != _is_barred(new):
        yield "no longer barred" if _is_barred(old) else "barred"
    if old is not None and new is not None:
        if old.access is not new.access and Access.OPTIONAL in {old.access, new.access}:
            yield f"access: {old.access} → {new.access}"
        for name in _ATTRIBUTES:
            before, after = getattr(old, name), getattr(new, name)
            if before != after:
                yield f"{name}: {_written(before or None)} → {_written(after or None)}"


def _is_barred(route: Route | None) -> bool:
    return route is not None and route.access is Access.BARRED


def _loosened(old: Policy, new: Policy) -> Iterator[str]:
    """Yield what is newly accepted on every row, and no sample of a path shows."""
    if new.overrides.strip and not old.overrides.strip:
        yield "requests with headers that name another method or path, which are removed"
    if old.overrides.in_query and not new.overrides.in_query:
        yield "requests with a query parameter that names another method"
    if old.host_extension != new.host_extension and (old.router.has_hosts or new.router.has_hosts):
        yield "requests whose host is decided by another part of them"


def _surroundings(old: Policy, new: Policy) -> Iterator[str]:
    """Yield the differences outside the table; scopes and stream classes one by one."""
    for name in sorted(item.name for item in fields(Policy) if item.name not in _APART):
        before, after = getattr(old, name), getattr(new, name)
        if isinstance(before, dict):
            for inner in sorted({*before, *after}):
                if before.get(inner) != after.get(inner):
                    yield f"{name}: {_written(before.get(inner))} → {_written(after.get(inner))}"
        elif before != after:
            yield f"{name}: {_written(before)} → {_written(after)}"

    before, after = _buckets(old), _buckets(new)
    for whose in sorted({*before, *after}):
        if before.get(whose) != after.get(whose):
            yield f"{whose}: {_written(before.get(whose))} → {_written(after.get(whose))}"


def _buckets(policy: Policy) -> dict[str, tuple[NamedLimit, ...]]:
    """Return the buckets of keys beside `limit`: of those without a plan, and of each plan."""
    limits = policy.key_limits
    if limits is None:
        return {}
    further = {"key_limits": limits.default[1:]} if limits.default[1:] else {}
    return further | {f"plan {name}": buckets for name, buckets in limits.plans.items()}


def _written(value: Any) -> str:  # noqa: ANN401 -- any part of a policy
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return ", ".join(map(_written, value))
    if isinstance(value, NamedLimit):
        return f"{value.name} ({value.limit.capacity} tokens, {value.limit.refill_per_s:g} per s)"
    if isinstance(value, frozenset):
        return ", ".join(sorted(value))
    if is_dataclass(value):
        return ", ".join(f"{it.name} {_written(getattr(value, it.name))}" for it in fields(value) if it.repr)
    return str(value)
