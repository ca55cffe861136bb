"""Rules: Envoy sends the bodies that the policy binds accounts to or refuses, whole and as bytes, and no others.

How authz reads a body is `core/bindings/`.
"""

from collections.abc import Iterator

from authz.core.envoy_rules.finding import Finding, Rule, Severity
from authz.core.envoy_rules.guarded import Guarded
from authz.core.envoy_rules.matching import Match, route_matches
from authz.core.envoy_rules.model import Entry
from authz.core.envoy_rules.needs import Row
from authz.core.envoy_rules.node import Node

MISSING = Rule(
    "EA301",
    Severity.ERROR,
    "authz gets the bodies of rows that bind an account to the body, or to the query of a GET",
    "Without the body, authz refuses every request of the row that has one, and does not see that a GET over HTTP/2 "
    "has one, which some backends read.",
    "with_request_body: {max_request_bytes: 65536, allow_partial_message: false, pack_as_bytes: true}",
)
TEXT = Rule(
    "EA302",
    Severity.ERROR,
    "bodies are sent as bytes",
    "As text, Envoy replaces what is not UTF-8, so authz and the backend read different bodies. Envoy takes "
    "pack_as_bytes from the filter alone, also where a route sets its own size.",
    "with_request_body: {…, pack_as_bytes: true}, in the filter",
)
CUT = Rule(
    "EA303",
    Severity.ERROR,
    "bodies are sent whole",
    "authz refuses a request whose body it sees in part.",
    "with_request_body: {…, allow_partial_message: false}",
)
NOT_NEEDED = Rule(
    "EA304",
    Severity.WARNING,
    "other routes do not wait for a body",
    "With a body setting, uploads and gRPC streams wait until they are complete, and fail if they are larger.",
    "check_settings: {disable_request_body_buffering: true}, for all routes but those of the rows",
)
SIZE = Rule(
    "EA305",
    Severity.ERROR,
    "the size of a body is bounded",
    "authz holds at most 32 MiB of incomplete checks. Large bodies from few clients would use that up.",
    "max_request_bytes: 65536",
)
RULES = (MISSING, TEXT, CUT, NOT_NEEDED, SIZE)

BODY_BYTES_MAX = 1_048_576


def bodies(guarded: Guarded) -> Iterator[Finding]:
    """Find rows without a body, and bodies that authz cannot use."""
    for row in guarded.needs.bodies:
        without = [entry for entry in entries_of(guarded, row) if not body_of(guarded, entry)]
        if without and len(without) == len(list(entries_of(guarded, row))):
            where = without[0].route
            yield MISSING.at(where, f"the route of {row.method} {row.template} sends no body to authz")
    found = {node.path: node for node in _settings(guarded)}
    own = guarded.authz.config["with_request_body"]
    if found and guarded.needs.bodies and not own["pack_as_bytes"].is_on:
        yield TEXT.at(own, "pack_as_bytes is not set in the filter")
    for node in found.values():
        if node["allow_partial_message"].is_on:
            yield CUT.at(node["allow_partial_message"], "allow_partial_message is true")
        size = node["max_request_bytes"].number
        if size is None or not 0 < size <= BODY_BYTES_MAX:
            what = "not set" if size is None else f"{size:.0f}"
            yield SIZE.at(node["max_request_bytes"], f"max_request_bytes is {what}")


def not_needed(guarded: Guarded) -> Iterator[Finding]:
    """Find routes that wait for a body which no row reads: one finding for each virtual host."""
    if not guarded.needs.has_policy:
        return
    reported: set[tuple[str | int, ...]] = set()
    for entry in guarded.manager.entries():
        is_read = any(_reads(entry, row) for row in guarded.needs.bodies)
        if not entry.clusters or is_read or not guarded.is_checked(entry) or entry.host.path in reported:
            continue
        if settings := body_of(guarded, entry):
            reported.add(entry.host.path)
            name = entry.route["name"].text or "of this virtual host"
            yield NOT_NEEDED.at(settings, f"route {name} waits for the body, which no row of the policy reads")


def entries_of(guarded: Guarded, row: Row) -> Iterator[Entry]:
    """Iterate over the routes that may get a request of a row: of each virtual host, up to one that surely does."""
    done: set[tuple[str | int, ...]] = set()
    for entry in guarded.manager.entries():
        found = _matches(entry, row)
        if found is Match.NO or entry.host.path in done:
            continue
        if found is Match.YES:
            done.add(entry.host.path)
        if entry.clusters and guarded.is_checked(entry):
            yield entry


def body_of(guarded: Guarded, entry: Entry) -> Node:
    """Return the body settings in force on a route; a missing value where authz gets no body."""
    settings = entry.per_filter(guarded.authz.name)
    settings = settings["config"] if settings.kind == "FilterConfig" else settings
    check = settings.message["check_settings"]
    if check["with_request_body"]:
        return check["with_request_body"]
    if check["disable_request_body_buffering"].is_on:
        return Node()
    return guarded.authz.config["with_request_body"]


def _settings(guarded: Guarded) -> Iterator[Node]:
    """Iterate over the body settings that are in force somewhere."""
    for entry in guarded.manager.entries():
        if guarded.is_checked(entry) and (found := body_of(guarded, entry)):
            yield found


def _reads(entry: Entry, row: Row) -> bool:
    return _matches(entry, row) is not Match.NO


def _matches(entry: Entry, row: Row) -> Match:
    return route_matches(entry.route["match"], row.sample_method, row.sample, is_grpc=row.is_grpc)
