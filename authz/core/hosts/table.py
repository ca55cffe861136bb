"""The rows of a policy by host: a router for each kind of host that the policy distinguishes.

What a host is called is `names.py`; within the rows of a host, `core/policy/router.py` finds the row of a path.
"""

from collections.abc import Iterable, Iterator, Sequence

from authz.core.hosts.names import ANY_HOST, host_name
from authz.core.policy.path import Target
from authz.core.policy.route import Route
from authz.core.policy.router import Match, Router

INDEXED_ROWS_MAX = 50_000
"""The most entries of all routers together: rows count once for each kind of host that has them."""

_WILDCARD = "*."
_NOWHERE = Router(())


class HostRouter(Router):
    """The routers of a policy whose rows have hosts; a row without hosts is one of every host that the policy names.

    A host has the rows of every pattern that it matches: of its name, of each `*.` above it, and of `*`. So a barred
    row of a wider pattern holds for it, and nothing more specific overrides that. A host that matches no pattern has
    no rows.
    """

    has_hosts = True

    def __init__(self, routes: Iterable[Route], *, head_follows_get: bool = True, ignores_slash: bool = False) -> None:
        super().__init__((), head_follows_get=head_follows_get, ignores_slash=ignores_slash)
        rows = tuple(routes)
        routers: dict[tuple[int, ...], Router] = {}
        self._routers: dict[str, Router] = {}
        self._rows: dict[Router, tuple[Route, ...]] = {}
        for pattern, members in host_classes(rows):
            router = routers.get(members)
            if router is None:
                own = tuple(rows[number] for number in members)
                router = Router(own, head_follows_get=head_follows_get, ignores_slash=ignores_slash)
                routers[members] = router
                self._rows[router] = own
            self._routers[pattern] = router

    def match(self, method: str, target: Target) -> Match | None:  # noqa: ARG002 -- as the base class has it
        """Find nothing: the host decides first (`match_at`)."""
        return None

    def match_at(self, authority: str, method: str, target: Target) -> Match | None:
        """Find the row of a request to a host, as `Router.match` does among the rows of that host."""
        return self.for_host(authority).match(method, target)

    def for_host(self, authority: str) -> Router:
        """Return the router of a host in any spelling; one without rows if the policy does not serve it."""
        return self._routers.get(self.pattern_of(authority), _NOWHERE)

    def pattern_of(self, authority: str) -> str:
        """Return the most specific pattern that a host matches, or an empty text."""
        name = host_name(authority)
        if not name or name in self._routers:
            return name
        rest = name
        while (dot := rest.find(".")) >= 0:
            rest = rest[dot + 1 :]
            if (pattern := _WILDCARD + rest) in self._routers:
                return pattern
        return ANY_HOST if ANY_HOST in self._routers else ""

    def rows_of(self, authority: str) -> tuple[Route, ...]:
        """Return the rows of a host."""
        return self._rows.get(self.for_host(authority), ())

    def patterns(self) -> tuple[str, ...]:
        """Return every pattern that the policy names."""
        return tuple(self._routers)

    def dismantle(self) -> Iterator[None]:
        """Remove one entry at each step, as the base class does."""
        for router in self._rows:
            yield from router.dismantle()
        while self._rows:
            self._rows.popitem()
            yield


def router_of(routes: Sequence[Route], *, head_follows_get: bool = True, ignores_slash: bool = False) -> Router:
    """Return the router of a policy's rows."""
    kind = HostRouter if any(route.hosts for route in routes) else Router
    return kind(routes, head_follows_get=head_follows_get, ignores_slash=ignores_slash)


def host_classes(routes: Sequence[Route]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield each pattern of hosts with the numbers of the rows of the hosts whose most specific pattern it is.

    Where no row has a host, there is one class of all rows, with an empty pattern.
    """
    patterns = dict.fromkeys(host for route in routes for host in route.hosts)
    if not patterns:
        yield "", tuple(range(len(routes)))
    for pattern in patterns:
        wider = frozenset(it for it in patterns if is_within(pattern, it))
        yield (
            pattern,
            tuple(
                number for number, route in enumerate(routes) if not route.hosts or not wider.isdisjoint(route.hosts)
            ),
        )


def is_within(pattern: str, wider: str) -> bool:
    """Tell whether every host of a pattern is one of a wider or equal pattern."""
    if wider in {pattern, ANY_HOST}:
        return True
    return wider.startswith(_WILDCARD) and pattern != ANY_HOST and pattern.endswith(wider[1:])


def host_samples(*routers: Router) -> list[tuple[str, str]]:
    """Return a host for each kind that some policies distinguish, with its form for people.

    Includes one that no policy names and none at all; without hosts it is none alone, in an empty form.
    """
    patterns = dict.fromkeys(it for router in routers if isinstance(router, HostRouter) for it in router.patterns())
    if not patterns:
        return [("", "")]
    samples = [(_sample(it, patterns), it) for it in patterns if it != ANY_HOST]
    return [*samples, (_other_host(patterns), "another host"), ("", "no host")]


def _sample(pattern: str, patterns: Iterable[str]) -> str:
    return _unnamed(patterns) + pattern[1:] if pattern.startswith(_WILDCARD) else pattern


def _other_host(patterns: Iterable[str]) -> str:
    label = _unnamed(patterns)
    return f"{label}.{label}"


def _unnamed(patterns: Iterable[str]) -> str:
    label = "x"
    while any(label in it for it in patterns):
        label += "x"
    return label
