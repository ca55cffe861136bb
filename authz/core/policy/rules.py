"""Rules about rows, alone and together, that the schema of a file cannot express.

All faults are reported at once. A fault is located by its path in the document.
"""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from authz.core.bindings.spellings import fold
from authz.core.errors import Problem
from authz.core.hosts.names import HOSTS_MAX
from authz.core.hosts.table import INDEXED_ROWS_MAX, host_classes
from authz.core.limits import BUCKETS_MAX, KEY_ITEM, KeyLimits, Limit, NamedLimit
from authz.core.policy.affixes import AFFIXES_MAX, Affix
from authz.core.policy.path import Target
from authz.core.policy.policy import KeyRules, Scope
from authz.core.policy.route import WITHOUT_BODY, Access, BindingLocation, Route
from authz.core.policy.router import ANY_METHOD, Router
from authz.core.policy.template import ANY_DEPTH, HOLE, ONE, Template, TemplateError, is_grpc
from authz.core.streams import StreamClass

_FREE_METHOD = frozenset({Access.BARRED, Access.SESSION})
_KEYED = frozenset({Access.SCOPE, Access.ANY, Access.OPTIONAL})
_WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_SAMPLE = "\x00"  # a segment that no literal can be


@dataclass(frozen=True, slots=True)
class Row:
    """A route and its path in the document."""

    where: tuple[str | int, ...]
    route: Route


@dataclass(frozen=True, slots=True)
class Declarations:
    """The declarations that rows refer to."""

    scopes: Mapping[str, Scope]
    streams: Mapping[str, StreamClass]
    methods: AbstractSet[str]
    limit: Limit
    account_limit: Limit | None = None
    key_limits: KeyLimits | None = None


def method_and_template(match: str, access: Access, base_path: str = "") -> tuple[str, str]:
    """Split `METHOD /template`, or name the method of a gRPC template; raises `TemplateError`.

    Every template but those of gRPC begins with `base_path`.
    """
    method, space, template = match.partition(" ")
    if not space:
        method, template = "", match
    if is_grpc(template):
        if method:
            raise TemplateError("a gRPC method is written without an HTTP method")
        return (ANY_METHOD if access is Access.BARRED else "POST"), template
    if not method:
        raise TemplateError("must be METHOD /template or /package.Service/Method")
    Template.parse(template)
    if base_path:
        template = base_path + ("" if template == "/" else template)
    Template.parse(template)
    return method, template


def faults(rows: Sequence[Row], declared: Declarations) -> list[Problem]:
    """Return every fault of the rows, in their order: of each alone, and of those that one host has together."""
    found = [
        Problem(("plans", plan) if plan else ("key_limits",), text) for plan, text in _limit_faults(None, declared)
    ]
    found += [Problem(row.where, message) for row in rows for message in _row_faults(row.route, declared)]
    classes = list(host_classes([row.route for row in rows]))
    if (fault := _excess(rows, classes)) is not None:
        return [*found, fault]
    together: dict[Problem, None] = {}
    hidden: dict[int, Problem | None] = {}
    for _, members in classes:
        own = [rows[number] for number in members]
        together |= dict.fromkeys([*_repeated(own), *_overlapping(own)])
        problems = {problem.where: problem for problem in _hidden(own)}
        for number in members:
            problem = problems.get(rows[number].where)
            hidden[number] = problem and hidden.get(number, problem)  # a fault on every host that has the row
    return [*found, *together, *(problem for problem in hidden.values() if problem is not None)]


def _excess(rows: Sequence[Row], classes: Sequence[tuple[str, tuple[int, ...]]]) -> Problem | None:
    if len(classes) > HOSTS_MAX:
        return Problem(rows[0].where, f"the rows of a policy have more than {HOSTS_MAX} different hosts")
    entries = sum(len(members) for members in {members for _, members in classes})
    if len(classes) > 1 and entries > INDEXED_ROWS_MAX:
        return Problem(rows[0].where, f"rows times hosts are more than {INDEXED_ROWS_MAX:,}: {entries:,}")
    return None


def warning(route: Route) -> str | None:
    """Return what is suspicious about a sound row: it binds one of query and body, and backends may read the other."""
    bound = {binding.location for binding in route.accounts} - {BindingLocation.PATH}
    if route.method not in _WITH_BODY or len(bound) != 1:
        return None
    (location,) = bound
    other = BindingLocation.BODY if location is BindingLocation.QUERY else BindingLocation.QUERY
    return f"binds the account in the {location} only: a backend that reads the {other}, too, may find another there"


def policy_warning(keys: KeyRules) -> str | None:
    """Return what is suspicious about the forms of keys, whatever the rows are."""
    if not keys.query_parameter:
        return None
    return f"keys in the query parameter {keys.query_parameter} are kept in logs, histories and referrers of others"


def _row_faults(route: Route, declared: Declarations) -> Iterator[str]:
    if route.method == ANY_METHOD:
        if route.access not in _FREE_METHOD:
            yield "the method * is for barred and session routes only"
    elif route.access is Access.BARRED:
        yield "a barred row bars every method: its method must be *"
    elif route.method not in declared.methods:
        yield f"the method {route.method} is not among the policy's methods"
    undeclared = [scope for needed in route.alternatives for scope in needed if scope not in declared.scopes]
    if undeclared:
        yield f"the scope {undeclared[0]} is not declared"
    elif route.yields_credential and not _needs_write(route, declared):
        yield "a route that yields a credential needs a scope declared write: true"
    if route.yields_credential and route.shadow:
        yield "a route that yields a credential cannot be a shadow"
    yield from _extra_faults(route, declared)


def _needs_write(route: Route, declared: Declarations) -> bool:
    """Tell whether no key without a write scope is admitted."""
    alternatives = route.alternatives
    return bool(alternatives) and all(any(declared.scopes[it].write for it in needed) for needed in alternatives)


def _extra_faults(route: Route, declared: Declarations) -> Iterator[str]:
    if route.stream and route.stream not in declared.streams:
        yield f"the stream class {route.stream} is not declared"
    if route.cost > declared.limit.capacity:
        yield f"the cost {route.cost} is more than a bucket holds ({declared.limit.capacity})"
    if declared.account_limit is not None and route.cost > declared.account_limit.capacity:
        yield f"the cost {route.cost} is more than an account's bucket holds ({declared.account_limit.capacity})"
    if route.access not in _KEYED and (route.accounts or route.stream or route.shadow or route.cost != 1):
        yield f"account, cost, stream and shadow mean nothing on a {route.access} route"
    if route.access is Access.OPTIONAL and (route.accounts or route.stream):
        yield "account and stream need a key, which an optional row does not"
    yield from _binding_faults(route)
    if route.limits and route.access not in _KEYED:
        yield f"limits mean nothing on a {route.access} route"
    elif route.limits or route.cost > 1:
        yield from (text for _, text in _limit_faults(route, declared))


def _limit_faults(route: Route | None, declared: Declarations) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the buckets of a check on a row, or (None) on rows without limits and of cost 1.

    With the name of the plan, or "" for keys without one.
    """
    limits = declared.key_limits
    if limits is None:
        return
    row: tuple[NamedLimit, ...] = () if route is None else route.limits
    cost = 1 if route is None else route.cost
    for plan in ("", *limits.plans):
        # With a limit of its own, a key keeps the first bucket of its plan where a row names that limit.
        of_key = max((limits.of(plan, own, row) for own in (None, declared.limit)), key=len)
        count = len(of_key) + (declared.account_limit is not None)
        of_plan = f" with the plan {plan}" if plan else ""
        if count > BUCKETS_MAX:
            yield plan, f"a check of a key{of_plan} takes from {count} buckets, and {BUCKETS_MAX} are the most"
            return
        small = next((it for it in of_key if it.name != KEY_ITEM and it.limit.capacity < cost), None)
        if small is not None:
            yield plan, f"the cost {cost} is more than the limit {small.name} holds ({small.limit.capacity}){of_plan}"
            return


def _binding_faults(route: Route) -> Iterator[str]:
    variables = Template.parse(route.template).names
    for binding in route.accounts:
        if binding.location is BindingLocation.PATH and binding.name not in variables:
            yield f"the template has no variable {{{binding.name}}}"
        if binding.location is BindingLocation.BODY and route.method in WITHOUT_BODY:
            yield f"a {route.method} has no body that every backend reads: bind the query"
        if not fold(binding.name):
            yield f"the account name {binding.name} has no letter or digit"
    if route.account_required and not route.accounts:
        yield "account_required needs an account"


def _shape(route: Route) -> tuple[tuple[str, ...], str]:
    template = Template.parse(route.template)
    return template.parts, template.verb


def _repeated(rows: Sequence[Row]) -> Iterator[Problem]:
    rows_by_key: dict[object, Row] = {}
    for row in rows:
        key = (row.route.method, _shape(row.route))
        first = rows_by_key.setdefault(key, row)
        if first is not row:
            route = first.route
            yield Problem(row.where, f"the same requests as {route.method} {route.template}")


def _overlapping(rows: Sequence[Row]) -> Iterator[Problem]:
    """Yield the rows whose segments have variables and text, and match what those of another row match.

    Of two rows that differ in the kind of a segment one is more specific, so only rows of the same kinds are compared.
    """
    seen: list[tuple[tuple[str, ...], Route]] = []
    count = 0
    for row in rows:
        parts = _shape(row.route)[0]
        if not any(HOLE in part for part in parts):
            continue
        count += 1
        if count > AFFIXES_MAX:
            yield Problem(row.where, f"more than {AFFIXES_MAX} rows with a segment that has a variable and other text")
            return
        if row.route.access is Access.BARRED:
            continue
        for others, route in seen:
            if parts != others and len(parts) == len(others) and all(map(_may_meet, parts, others)):
                yield Problem(row.where, f"some paths match this and {route.method} {route.template}")
                break
        seen.append((parts, row.route))


def _may_meet(part: str, other: str) -> bool:
    """Tell whether two parts are of one kind, and some segment matches both."""
    if HOLE in part and HOLE in other:
        return part == other or Affix(part).overlaps(Affix(other))
    return part == other


def _hidden(rows: Sequence[Row]) -> Iterator[Problem]:
    barred = [row.route for row in rows if row.route.access is Access.BARRED]
    router = Router(barred)
    depth = max((len(_shape(route)[0]) for route in barred), default=0)
    for row in rows:
        if row.route.access is Access.BARRED:
            continue
        matches = [router.match(row.route.method, target) for target in _samples(row.route, depth)]
        templates = [match.route.template for match in matches if match and match.route]
        if len(templates) == len(matches):
            yield Problem(row.where, f"never reached: {templates[0]} is barred")


def _samples(route: Route, depth: int) -> Iterator[Target]:
    """Make a path of each length that the row matches and that rows of `depth` parts distinguish."""
    parts, verb = _shape(route)
    fixed = tuple(_SAMPLE if part == ONE else part.replace(HOLE, _SAMPLE) for part in parts if part != ANY_DEPTH)
    for count in range(depth + 1 if ANY_DEPTH in parts else 1):
        segments = (*fixed, *[_SAMPLE] * count) or ("",)
        if verb:
            segments = (*segments[:-1], f"{segments[-1]}:{verb}")
        yield Target(segments, segments)
