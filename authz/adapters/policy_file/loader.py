"""Reads a policy file into the core's frozen values, or says what is wrong with it, with line and column.

`document.py` defines the fields; `including.py` reads files and locates faults in them.
"""

from hashlib import sha256
from pathlib import Path
from sys import intern
from typing import NamedTuple, TypeAlias

from authz.adapters.policy_file.document import Document, Routes
from authz.adapters.policy_file.grammar import newer
from authz.adapters.policy_file.including import Files, read_files
from authz.adapters.policy_file.limits import NamedLimits
from authz.adapters.policy_file.states import Signature
from authz.core.bodies.template import ErrorTemplate, TemplateFaultError
from authz.core.errors import PolicyError, Problem
from authz.core.hosts.table import router_of
from authz.core.limits import NamedLimit
from authz.core.policy.overrides import Overrides
from authz.core.policy.policy import Policy, RateHeaders, Scope
from authz.core.policy.route import ErrorFormat, Route
from authz.core.policy.rules import Declarations, Row, faults, method_and_template
from authz.core.streams import StreamClass

_DIGEST_CHARS = 12
_TEMPLATE = ErrorFormat.TEMPLATE.value

RowKey: TypeAlias = tuple[str, str, tuple[str, ...]]


class Loaded(NamedTuple):
    """A policy, and the state that each of its files had before it was read."""

    policy: Policy
    seen: Signature


def load_policy(path: Path) -> Policy:
    """Read and check a policy; raises `PolicyError` with every fault of the first kind that it meets.

    The kinds, in order: the file cannot be read, it is not plain YAML, its shape is wrong, the same of each file
    that it includes, its rows break the rules.
    """
    return load_files(path).policy


def load_files(path: Path) -> Loaded:
    """Read and check a policy as `load_policy` does, and return it with the state of its files."""
    files = read_files(path)
    try:
        return Loaded(_policy(_whole(files)), files.signature)
    except PolicyError as error:
        raise PolicyError(files.located(error.problems), str(path), files.signature) from None


def row_lines(path: Path) -> dict[RowKey, str]:
    """Find FILE:LINE of each row of a sound policy, by its method, template and hosts."""
    files = read_files(path)
    rows, _ = _unfolded(_whole(files))
    return {row_key(row.route): files.place(row.where) for row in rows}


def _whole(files: Files) -> Document:
    assert files.document is not None  # noqa: S101 -- as it was read
    return files.document


def row_key(route: Route) -> RowKey:
    """Return what tells a row of a policy from all others."""
    return route.method, route.template, route.hosts


def _policy(document: Document) -> Policy:
    rows, problems = _unfolded(document)
    problems += newer(document)
    scopes = {name: Scope(name, scope.description, scope.write) for name, scope in document.scopes.items()}
    streams = {
        name: StreamClass(name, it.per_key, it.per_account, it.ttl_s, it.title) for name, it in document.streams.items()
    }
    limit = document.limit.limit()
    account_limit = None if document.account_limit is None else document.account_limit.limit()
    named = NamedLimits.of(document.limits)
    problems += _undeclared(document, named) + list(named.faults(streams))
    has_rows = any(group.limits for group in document.routes)
    key_limits = named.key_limits(limit, document.key_limits, document.plans, has_rows=has_rows)
    declared = Declarations(scopes, streams, set(document.methods), limit, account_limit, key_limits)
    problems += faults(rows, declared)
    template = _error_template(document, problems)
    if problems:
        raise PolicyError(problems)
    routes = tuple(row.route for row in rows)
    return Policy(
        api=document.api.name,
        domain=document.api.domain,
        keys=document.keys.rules(),
        errors=ErrorFormat(document.errors),
        limit=limit,
        account_limit=account_limit,
        key_limits=key_limits,
        invalid_keys=document.invalid_keys.limit(),
        overrides=Overrides(document.overrides.headers == "strip", document.overrides.query == "refuse"),
        rate_headers=RateHeaders(document.rate_headers.ietf, document.rate_headers.legacy),
        methods=frozenset(document.methods),
        scopes=scopes,
        streams=streams,
        routes=routes,
        router=router_of(
            routes,
            head_follows_get=document.head_follows_get and "HEAD" in document.methods,
            ignores_slash=document.trailing_slash == "same",
        ),
        error_template=template,
        host_extension=document.host_extension(),
        throttles=document.all_throttles(),
        digest=_digest(document),
        version=document.version,
        acknowledges=tuple(document.acknowledge or ()),
    )


def _error_template(document: Document, problems: list[Problem]) -> ErrorTemplate | None:
    """Return the template of refusals; add what is wrong with it to `problems`."""
    section = document.error_template
    if section is None:
        used = [("errors",)] if document.errors == _TEMPLATE else []
        groups = [("routes", number, "errors") for number, it in enumerate(document.routes) if it.errors == _TEMPLATE]
        problems += [Problem(where, "template needs error_template") for where in (*used, *groups)]
        return None
    try:
        return section.template()
    except TemplateFaultError as error:
        problems.append(Problem(("error_template", "body"), f"body {error}"))
        return None


def _undeclared(document: Document, named: NamedLimits) -> list[Problem]:
    """Return the names of limits that are not declared."""
    used: list[tuple[tuple[str | int, ...], list[str] | None]] = [(("key_limits",), document.key_limits)]
    used += [(("plans", name), names) for name, names in document.plans.items()]
    used += [(("routes", number, "limits"), group.limits) for number, group in enumerate(document.routes)]
    found = [(where, named.undeclared(names)) for where, names in used]
    return [Problem(where, fault) for where, fault in found if fault is not None]


def _digest(document: Document) -> str:
    """Name the content; what a file omits and what it sets to the default are the same."""
    text = document.model_dump_json(exclude={"acknowledge", "include"}, exclude_defaults=True)
    return sha256(text.encode()).hexdigest()[:_DIGEST_CHARS]


def _unfolded(document: Document) -> tuple[list[Row], list[Problem]]:
    rows: list[Row] = []
    problems: list[Problem] = []
    named = NamedLimits.of(document.limits)
    for number, group in enumerate(document.routes):
        _unfold(document, group, ("routes", number), (rows, named.buckets(group.limits)), problems)
    return rows, problems


def _unfold(
    document: Document,
    group: Routes,
    where: tuple[str | int, ...],
    into: tuple[list[Row], tuple[NamedLimit, ...]],
    problems: list[Problem],
) -> None:
    """Make one row of each match of a group, with its limits."""
    rows, limits = into
    try:
        accounts = group.bindings()
    except ValueError as error:
        problems.append(Problem((*where, "account"), str(error)))
        return
    hosts = document.hosts_of(group)
    for number, match in enumerate(group.match):
        where_match = (*where, "match", number)
        try:
            method, template = method_and_template(match, group.need(), document.base_path)
        except ValueError as error:
            problems.append(Problem(where_match, f"{match!r}: {error}"))
            continue
        # Interned words are one object for many rows, which is then in the processor's caches.
        route = Route(
            method=intern(method),
            template=template,
            access=group.need(),
            scope=intern(group.scope_text()),
            scopes=group.scopes(),
            accounts=accounts,
            account_required=group.account_required,
            yields_credential=group.yields_credential,
            colon_ids=group.colon_ids,
            cost=group.cost,
            errors=group.error_format() or ErrorFormat(document.errors),
            stream=group.stream,
            shadow=group.shadow,
            hosts=hosts,
            limits=limits,
        )
        rows.append(Row(where_match, route))
