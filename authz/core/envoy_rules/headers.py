"""Rules: authz, Envoy and the backend read the same path and the same headers.

Which headers of a client are removed is `identity.py`.
"""

from collections.abc import Iterator

from authz.core.envoy_rules.finding import Finding, Rule, Severity
from authz.core.envoy_rules.guarded import Guarded
from authz.core.envoy_rules.visible import advice, is_hidden, is_visible
from authz.core.policy.overrides import HOST_HEADERS, METHOD_HEADERS, PATH_HEADERS

NORMALIZE = Rule(
    "EA201",
    Severity.ERROR,
    "Envoy resolves dot segments",
    "Otherwise /public/../servers matches the routes of /public in Envoy, and authz refuses it.",
    "normalize_path: true",
)
SLASHES = Rule(
    "EA202",
    Severity.WARNING,
    "Envoy merges slashes",
    "Otherwise //v1/servers matches other routes in Envoy than at the backend, and authz refuses it.",
    "merge_slashes: true",
)
ESCAPED = Rule(
    "EA203",
    Severity.WARNING,
    "Envoy refuses or decodes encoded slashes",
    "Otherwise %2F is a slash to some backends and not to Envoy's routes, and authz refuses it.",
    "path_with_escaped_slashes_action: REJECT_REQUEST",
)
RAW = Rule(
    "EA211",
    Severity.ERROR,
    "authz sees every copy of a header, byte for byte",
    "Otherwise Envoy joins repeated headers and replaces bytes that are not UTF-8: authz sees other values than the "
    "backend.",
    "encode_raw_headers: true",
)
KEY_HIDDEN = Rule(
    "EA212",
    Severity.ERROR,
    "authz sees the header of the key",
    "authz answers 401 to every request whose key it does not see.",
    "allowed_headers: {patterns: [{exact: KEY}, …]}",
)
FORM_HIDDEN = Rule(
    "EA213",
    Severity.WARNING,
    "authz sees the headers that describe a body",
    "authz recognises gRPC and bodies by content-type, content-length and transfer-encoding. It reads no account in a "
    "body with a content-encoding.",
    "allowed_headers: {patterns: [{exact: content-type}, {exact: content-encoding}, {exact: content-length}, {exact: "
    "transfer-encoding}, …]}",
)
OVERRIDES = Rule(
    "EA214",
    Severity.ERROR,
    "headers that name another method, path or host do not arrive at the backend",
    "Some backends obey x-http-method-override, x-original-url and the like. authz refuses or removes them if it sees "
    "them.",
    "request_headers_to_remove: [x-http-method-override, …], in each virtual host",
)
KEY_PASSED_ON = Rule(
    "EA215",
    Severity.NOTE,
    "the virtual host removes the key as well",
    "authz removes the key. The route removes it too if authz does not, for instance on a route without a check.",
    "request_headers_to_remove: [KEY]",
)
REWRITES = Rule(
    "EA216",
    Severity.NOTE,
    "the backend reads the path that was decided on",
    "A route that rewrites the path gives the backend another path than authz and its logs know.",
    "Use the backend's own paths in the policy, and no rewrite.",
)
MIRRORS = Rule(
    "EA217",
    Severity.NOTE,
    "a copy of a request goes to a server of the same trust",
    "A mirror gets what the backend gets, with the identity headers and the body.",
    "Remove `request_mirror_policies`, or protect the mirror as the backend.",
)
RULES = (NORMALIZE, SLASHES, ESCAPED, RAW, KEY_HIDDEN, FORM_HIDDEN, OVERRIDES, KEY_PASSED_ON, REWRITES, MIRRORS)

_OF_BODY = ("content-type", "content-encoding", "content-length", "transfer-encoding")
_REWRITES = ("prefix_rewrite", "regex_rewrite", "path_rewrite_policy", "path_rewrite")
_SAFE_ESCAPES = {"REJECT_REQUEST", "UNESCAPE_AND_REDIRECT", "UNESCAPE_AND_FORWARD"}


def paths(guarded: Guarded) -> Iterator[Finding]:
    """Find spellings of a path that Envoy leaves as they are."""
    config = guarded.config
    if not config["normalize_path"].is_on:
        yield NORMALIZE.at(config["normalize_path"], "normalize_path is not set")
    if not config["merge_slashes"].is_on:
        yield SLASHES.at(config["merge_slashes"], "merge_slashes is not set")
    action = config["path_with_escaped_slashes_action"]
    if action.text not in _SAFE_ESCAPES:
        yield ESCAPED.at(action, f"path_with_escaped_slashes_action is {action.text or 'not set'}")
    for entry in guarded.manager.entries():
        if name := next((name for name in _REWRITES if entry.route["route"][name]), ""):
            yield REWRITES.at(entry.route["route"][name], f"a route has {name}")
        levels = (entry.table, entry.host, entry.route["route"])
        for mirror in next((found for level in reversed(levels) if (found := level["request_mirror_policies"])), ()):
            target = mirror["cluster"].text or mirror["cluster_header"].text
            yield MIRRORS.at(mirror, f"requests are mirrored to {target or 'another cluster'}")


def headers(guarded: Guarded) -> Iterator[Finding]:
    """Find headers that authz needs and does not see."""
    config = guarded.authz.config
    if not config["encode_raw_headers"].is_on:
        yield RAW.at(config["encode_raw_headers"], "encode_raw_headers is not set")
    where = config["allowed_headers"] or config["disallowed_headers"]
    for name in guarded.needs.key_headers:
        if not is_visible(guarded, name):
            yield KEY_HIDDEN.at(where, f"authz does not see {name}", fix=KEY_HIDDEN.fix.replace("KEY", name))
    unseen = [name for name in _OF_BODY if not is_visible(guarded, name)]
    if unseen:
        yield FORM_HIDDEN.at(where, f"authz does not see {', '.join(unseen)}")


def overrides(guarded: Guarded) -> Iterator[Finding]:
    """Find headers for other methods and paths that pass by authz, and keys that the routes leave in place."""
    unseen = sorted(name for name in METHOD_HEADERS | PATH_HEADERS if is_hidden(guarded, name))
    unseen += sorted(HOST_HEADERS) if guarded.needs.has_hosts else []  # authz looks at none of them
    reported: set[tuple[str | int, ...]] = set()
    for entry in guarded.manager.entries():
        if not entry.clusters or entry.host.path in reported:
            continue
        levels = (entry.table, entry.host, entry.route)
        removed = {each.text.lower() for level in levels for each in level["request_headers_to_remove"]}
        if left := [name for name in unseen if name not in removed]:
            reported.add(entry.host.path)
            yield OVERRIDES.at(
                entry.host["request_headers_to_remove"], f"neither authz nor the routes see {_some(left)}"
            )
        if kept := [name for name in guarded.needs.key_headers if name not in removed]:
            reported.add(entry.host.path)
            where = entry.host["request_headers_to_remove"]
            fix = f"request_headers_to_remove: [{kept[0]}]"
            yield KEY_PASSED_ON.at(where, f"{kept[0]} is not removed", advice(guarded), fix)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")  # noqa: PLR2004
