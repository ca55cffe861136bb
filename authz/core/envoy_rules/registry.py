"""All rules, and the check of a configuration by them.

The rules are in the modules beside.
"""

from collections.abc import Callable, Iterator

from authz.core.envoy_rules import (
    bodies,
    bypass,
    enforcement,
    headers,
    identity,
    responses,
    streams,
    transport,
)
from authz.core.envoy_rules.finding import Finding, Rule
from authz.core.envoy_rules.guarded import Guarded, guarded_of
from authz.core.envoy_rules.model import Configuration
from authz.core.envoy_rules.needs import Needs

RULES: tuple[Rule, ...] = (
    *bypass.RULES,
    *enforcement.RULES,
    *headers.RULES,
    *identity.RULES,
    *bodies.RULES,
    *streams.RULES,
    *transport.RULES,
    *responses.RULES,
)

_CHECKS: tuple[Callable[[Guarded], Iterator[Finding]], ...] = (
    enforcement.filters,
    bypass.routes,
    enforcement.failures,
    enforcement.protocol,
    enforcement.order,
    headers.paths,
    headers.headers,
    headers.overrides,
    identity.client_headers,
    identity.addresses,
    identity.trailers,
    identity.forged,
    bodies.bodies,
    bodies.not_needed,
    streams.streams,
    transport.deadlines,
    transport.clusters,
    transport.limits,
    responses.local_replies,
    responses.cors,
    responses.logs,
)
_OF_ROUTES = 2
"""How many of the checks need no settings of ext_authz."""


def check(configuration: Configuration, needs: Needs, cluster: str = "") -> list[Finding]:
    """Check a configuration; returns the findings, each once, the gravest first.

    `cluster` names the cluster of authz where a connection manager has several ext_authz filters.
    """
    guarded: list[Guarded] = []
    others = []
    for manager in configuration.managers:
        found = guarded_of(manager, configuration, needs, cluster)
        if found is None:
            others.append(manager)
        else:
            guarded.append(found)
    findings = [*bypass.unguarded(configuration, others, guarded), *transport.admin(configuration)]
    for each in guarded:
        for rule in _CHECKS[:_OF_ROUTES] if each.authz.is_hidden else _CHECKS:
            findings += rule(each)
    unique = {(each.rule.id, each.path, each.what): each for each in findings}
    return sorted(unique.values(), key=lambda it: (it.severity.rank, it.rule.id, [str(step) for step in it.path]))
