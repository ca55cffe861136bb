"""What an import adds to a policy that exists, and what the two do not share.

Nothing that the policy decides is changed: a row that it has stays as it is, and a wide row that it has decides on.
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from authz.core.hosts.table import HostRouter
from authz.core.imports.operation import Security
from authz.core.imports.overlaps import Overlaps
from authz.core.imports.rows import Imported, ImportedRow, Shape, shape
from authz.core.imports.scopes import ScopeDraft
from authz.core.policy.path import Target
from authz.core.policy.policy import Policy
from authz.core.policy.route import Access, Route
from authz.core.policy.router import ANY_METHOD
from authz.core.policy.template import ANY_DEPTH, ONE, is_grpc

_Key = tuple[str, Shape]
_SAMPLE = "\x00"  # a segment that no literal can be


@dataclass(frozen=True, slots=True)
class Coverage:
    """A description held against a policy.

    `missing` are rows that no row of the policy decides. `decided` are rows that a wider row of the policy decides,
    with it. `gone` are routes of the policy that the description does not have; barred and session rows and those that
    end in `**` are never gone. `opened` are routes without a key whose operation needs a credential.
    """

    missing: list[ImportedRow]
    decided: list[tuple[ImportedRow, Route]]
    gone: list[Route]
    opened: list[tuple[ImportedRow, Route]]
    rows: int

    @property
    def is_complete(self) -> bool:
        """Tell whether both have the same routes, and none is open that the description protects."""
        return not (self.missing or self.gone or self.opened)


@dataclass(frozen=True, slots=True)
class Merge:
    """The rows and the scopes to add to a policy, and how its routes cover the description."""

    rows: list[ImportedRow]
    scopes: dict[str, ScopeDraft]
    coverage: Coverage
    refused: list[tuple[ImportedRow, str]]


def at_host(policy: Policy, host: str) -> Policy:
    """Return the policy of one host, whose rows have no hosts; the same policy if it does not distinguish hosts."""
    router = policy.router
    if not isinstance(router, HostRouter):
        return policy
    return replace(policy, routes=router.rows_of(host), router=router.for_host(host))


def coverage(policy: Policy, found: Imported) -> Coverage:
    """Compare a policy with a description."""
    own = {_key(route): route for route in policy.routes}
    described = {row.shape for row in found.rows}
    missing: list[ImportedRow] = []
    decided: list[tuple[ImportedRow, Route]] = []
    opened: list[tuple[ImportedRow, Route]] = []
    for row in found.rows:
        route = own.get(row.shape) or _wider(policy, row, described)
        if route is None:
            missing.append(row)
            continue
        if _key(route) != row.shape:
            decided.append((row, route))
        if _opens(route) and any(it.security is not Security.NONE for it in row.operations):
            opened.append((row, route))
    # A description without gRPC methods says nothing about those of the policy.
    has_grpc = any(is_grpc(row.template) for row in found.rows)
    gone = [
        route
        for key, route in own.items()
        if key not in described and not _is_general(route) and (has_grpc or not is_grpc(route.template))
    ]
    return Coverage(missing, decided, gone, opened, len(found.rows))


def merge(policy: Policy, found: Imported) -> Merge:
    """Find what to add. A row that would be public beside a protected row of the policy is not added as such."""
    compared = coverage(policy, found)
    described = {row.shape for row in found.rows}
    existing = Overlaps((*_key(route), route.template) for route in policy.routes)
    general = Overlaps(
        (*_key(route), route.template) for route in policy.routes if _is_general(route) and _key(route) not in described
    )
    added, refused = [], []
    for row in compared.missing:
        others = [it for it in existing.of(row.method, row.shape[1]) if shape(it) != row.shape[1]]
        # The path decides before the method, so a row for one method takes its path from a wide row for another.
        wide = next(general.of(ANY_METHOD, row.shape[1]), None)
        if row.method not in policy.methods:
            refused.append((row, f"{row.method} is not among the policy's methods"))
        elif wide is not None:
            refused.append((row, f"the row {wide} of the policy decides on its path"))
        elif others and not row.scope:
            refused.append((row, f"public in the description, and {others[0]} of the policy decides on a part of it"))
        else:
            row.remarks += [f"beside the row {row.method} {it} of this policy" for it in others[:1]]
            added.append(row)
    used = {row.scope for row in added}
    scopes = {name: it for name, it in found.scopes.items() if name in used and name not in policy.scopes}
    return Merge(added, scopes, compared, refused)


def changed_rows(old: Policy, new: Policy, found: Imported) -> list[Route]:
    """Return the routes of the old policy whose own paths another route decides in the new one.

    A row that an import has widened is left out: operations that the description adds are exceptions from it.
    """
    widened = {row.shape for row in found.rows if row.is_wide}
    changed = []
    for route in old.routes:
        if _key(route) in widened:
            continue
        was, now = (
            _deciding(old, route.method, shape(route.template)),
            _deciding(new, route.method, shape(route.template)),
        )
        if _decision(was) != _decision(now):
            changed.append(route)
    return changed


def _decision(route: Route | None) -> object:
    if route is None:
        return None
    names = [name for name in Route.__dataclass_fields__ if name not in {"fragment", "hosts"}]
    return tuple(getattr(route, name) for name in names)


def _wider(policy: Policy, row: ImportedRow, described: AbstractSet[_Key]) -> Route | None:
    """Return the general row of a policy that decides on a row's paths already, if there is one.

    A row that is as wide as one of the description was imported, and rows beside it are meant to be narrower.
    """
    route = _deciding(policy, row.method, row.shape[1])
    return route if route is not None and _is_general(route) and _key(route) not in described else None


def _deciding(policy: Policy, method: str, sought: Shape) -> Route | None:
    for segments in _samples(sought):
        match = policy.router.match("GET" if method == ANY_METHOD else method, Target(segments, segments))
        if match is not None and match.route is not None:
            return match.route
    return None


def _samples(sought: Shape) -> Iterator[tuple[str, ...]]:
    parts, verb = sought
    segments = tuple(_SAMPLE if part in {ONE, ANY_DEPTH} else part for part in parts) or ("",)
    yield (*segments[:-1], f"{segments[-1]}:{verb}") if verb else segments


def _key(route: Route) -> _Key:
    return route.method, shape(route.template)


def _is_general(route: Route) -> bool:
    """Tell whether a route decides on more than an operation of a description: by access, method or depth."""
    if route.access in {Access.BARRED, Access.SESSION} or route.method == ANY_METHOD:
        return True
    return shape(route.template)[0][-1].endswith(ANY_DEPTH)


def _opens(route: Route) -> bool:
    return route.access in {Access.PUBLIC, Access.SESSION} or route.shadow
