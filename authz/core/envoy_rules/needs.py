"""What a policy and the sidecar's settings need from Envoy.

The rules compare a configuration with these values; `adapters/envoy_config/` writes one from them.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from authz.core.policy.policy import Policy
from authz.core.policy.route import WITHOUT_BODY, Access, BindingLocation, Route
from authz.core.policy.template import ANY_DEPTH, HOLE, ONE, Template, is_grpc

_ANY_METHOD = "*"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the policy: a method ("*" for any), a regular expression of its paths, and one such path.

    `is_grpc` is set for a method of gRPC.
    """

    method: str
    template: str
    regex: str
    sample: str
    is_grpc: bool = False

    @property
    def sample_method(self) -> str:
        """A method that the row has."""
        return "POST" if self.method == _ANY_METHOD else self.method


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Durations of the sidecar's settings: of a load, and between two reports of streams."""

    load_wait_s: float = 0.13
    heartbeat_s: float = 5


@dataclass(frozen=True, slots=True)
class Needs:
    """The headers of keys, the rows that bind bodies, open streams or carry sessions, and the deadlines.

    `stream_ttl_s` is the shortest lease of a stream class, 0 without streams. `has_policy` is unset where no policy is
    known, so that there may be other rows. `key_in_query` is set if a query may hold a key, and
    `has_hosts` if rows have hosts.
    """

    key_headers: tuple[str, ...] = ("x-api-key",)
    bodies: tuple[Row, ...] = ()
    streams: tuple[Row, ...] = ()
    sessions: tuple[Row, ...] = ()
    stream_ttl_s: float = 0
    deadlines: Deadlines = Deadlines()
    has_policy: bool = True
    key_in_query: bool = False
    has_hosts: bool = False


def needs_of(policy: Policy, deadlines: Deadlines) -> Needs:
    """Return what a policy needs from Envoy."""

    def rows(routes: Iterable[Route]) -> tuple[Row, ...]:
        found = {(route.method, route.template): _row(route, policy) for route in routes}
        return tuple(found.values())

    return Needs(
        key_headers=policy.keys.headers,
        bodies=rows(filter(_binds_body, policy.routes)),
        streams=rows(it for it in policy.routes if it.stream),
        sessions=rows(it for it in policy.routes if it.access is Access.SESSION),
        stream_ttl_s=min((stream.ttl_s for stream in policy.streams.values()), default=0),
        deadlines=deadlines,
        has_hosts=policy.router.has_hosts,
        key_in_query=bool(policy.keys.query_parameter),
    )


def _binds_body(route: Route) -> bool:
    """Tell whether authz must see the bodies of a row: to read an account in them, or to refuse those of a GET."""
    unread = BindingLocation.QUERY if route.method in WITHOUT_BODY else BindingLocation.BODY
    return any(at.location in {unread, BindingLocation.BODY} for at in route.accounts)


def _row(route: Route, policy: Policy) -> Row:
    parsed = Template.parse(route.template)
    words = {ONE: "a1", ANY_DEPTH: "a1/a2"}
    parts = (words.get(part) or part.replace(HOLE, "a1") for part in parsed.parts)
    sample = "".join(f"/{part}" for part in parts) + (f":{parsed.verb}" if parsed.verb else "")
    return Row(route.method, route.template, paths_regex(parsed, policy), sample, is_grpc(route.template))


def paths_regex(template: Template, policy: Policy) -> str:
    """Return a regular expression of the paths of a row, with a slash at the end where that is the same."""
    return template.regex + ("/?" if policy.router.ignores_slash and template.takes_slash else "")
