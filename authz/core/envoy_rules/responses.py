"""Rules: responses and logs: local replies, CORS, and what access logs contain.

What Envoy answers is written by `edge/check/local_replies.py`.
"""

import re
from collections.abc import Iterator

from authz.core.envoy_rules.bodies import entries_of
from authz.core.envoy_rules.finding import Finding, Rule, Severity
from authz.core.envoy_rules.guarded import Guarded
from authz.core.envoy_rules.matching import string_matches
from authz.core.envoy_rules.model import Entry
from authz.core.envoy_rules.node import Node

REPLIES = Rule(
    "EA601",
    Severity.NOTE,
    "Envoy's own responses have the format of the API",
    "Otherwise clients get plain text for malformed requests and while nothing answers.",
    "authz envoy render --local-replies",
)
REPLACED = Rule(
    "EA602",
    Severity.ERROR,
    "local replies leave the refusals of authz as they are",
    "The mapper also matches the refusals of authz, whose texts and headers it replaces.",
    "authz envoy render --local-replies",
)
CORS_BEHIND = Rule(
    "EA611",
    Severity.WARNING,
    "cors stands before ext_authz",
    "Preflights carry no key, so authz refuses them, and refusals have no CORS headers.",
    "Put envoy.filters.http.cors before ext_authz.",
)
CORS_CREDENTIALS = Rule(
    "EA612",
    Severity.ERROR,
    "no other page reads what a cookie opens",
    "With credentials for every origin, or on the dashboard, any page reads it in the name of its visitor.",
    "allow_origin_string_match: [{exact: none}], on the routes of the dashboard",
)
LOGGED = Rule(
    "EA621",
    Severity.ERROR,
    "access logs contain neither the key nor the query",
    "Who reads the logs could use the keys. Callers put secrets into queries, too.",
    "path: %PATH(NQ)%, and no %REQ(KEY)%",
)
STATS = Rule(
    "EA622",
    Severity.NOTE,
    "a refusal is no failure of the backend",
    "By default, a 429 of authz counts as a response of the backend's cluster.",
    "charge_cluster_response_stats: false",
)
DURATION = Rule(
    "EA623",
    Severity.WARNING,
    "the duration of a check is known where it is logged",
    "The access log names the filter state of ext_authz, which is empty without the setting.",
    "emit_filter_state_stats: true",
)
RULES = (REPLIES, REPLACED, CORS_BEHIND, CORS_CREDENTIALS, LOGGED, STATS, DURATION)

_HEADER = re.compile(r"%REQ(?:_WITHOUT_QUERY)?\(([^)]*)\)", re.IGNORECASE)
_PATH = re.compile(r"%REQ\([^)]*:PATH[^)]*\)|%PATH\(WQ|request\.(?:path|query)\b(?!_)", re.IGNORECASE)
_STATE = re.compile(r"FILTER_STATE\(envoy\.filters\.http\.ext_authz|filter_state\['envoy\.filters\.http\.ext_authz")
_FOREIGN = "https://foreign.example"
_REFUSALS = {401.0, 403.0, 429.0}


def local_replies(guarded: Guarded) -> Iterator[Finding]:
    """Find responses of Envoy in another format, and mappers that replace the refusals of authz."""
    replies = guarded.config["local_reply_config"]
    if not replies:
        yield REPLIES.at(replies, "local_reply_config is not set")
    for mapper in replies["mappers"]:
        changes = mapper["body"] or mapper["body_format_override"] or mapper["status_code"]
        conditions = list(mapper["filter"].walk())
        statuses = {
            node["value"]["default_value"].number for node in conditions if node["op"].text == "EQ" or not node["op"]
        } - {None}
        is_apart = any(node["metadata_filter"] or node["response_flag_filter"] for node in conditions)
        if changes and not is_apart and (not statuses or statuses & _REFUSALS):
            yield REPLACED.at(mapper, "a mapper does not exclude the refusals of authz")


def cors(guarded: Guarded) -> Iterator[Finding]:
    """Find CORS that refuses preflights or admits other pages to a session."""
    behind = [each for each in guarded.after if each.short == "cors"]
    policies = {each.path: each for entry in guarded.manager.entries() if (each := _policy(guarded, entry))}
    if behind and policies:
        yield CORS_BEHIND.at(behind[0].entry, "cors stands behind ext_authz")
    for policy in policies.values():
        if policy["allow_credentials"].is_on and _admits(policy, _FOREIGN):
            yield CORS_CREDENTIALS.at(policy["allow_credentials"], "every origin gets responses with credentials")
    reported: set[tuple[str | int, ...]] = set()
    for row in guarded.needs.sessions:
        for entry in entries_of(guarded, row):
            policy = _policy(guarded, entry)
            if policy and _admits(policy, _FOREIGN) and policy.path not in reported:
                reported.add(policy.path)
                yield CORS_CREDENTIALS.at(policy, f"any page may read {row.method} {row.template}")


def logs(guarded: Guarded) -> Iterator[Finding]:
    """Find access logs with keys and queries, and figures that are wrong."""
    keys = {name.lower() for name in guarded.needs.key_headers} | {"authorization"}
    query = Severity.ERROR if guarded.needs.key_in_query else Severity.WARNING
    texts = [node for log in guarded.config["access_log"] for node in log["typed_config"].walk() if node.text]
    for node in texts:
        named = {word.partition("?")[0].lower() for found in _HEADER.findall(node.text) for word in found.split("?")}
        if found := sorted(named & keys):
            yield LOGGED.at(node, f"the access log contains {found[0]}")
        elif _PATH.search(node.text):
            yield LOGGED.at(node, "the access log contains the query", query)
    for log in guarded.config["access_log"]:
        config = log["typed_config"].message
        if log["typed_config"].kind in {"FileAccessLog", "StdoutAccessLog"} and not _has_format(config):
            yield LOGGED.at(log, "the default format contains the query", query)
    if guarded.needs.key_in_query and guarded.config["tracing"]:
        yield LOGGED.at(guarded.config["tracing"], "spans contain the query, and so keys", Severity.WARNING)
    authz = guarded.authz.config
    if authz["charge_cluster_response_stats"].value is not False:
        yield STATS.at(authz["charge_cluster_response_stats"], "charge_cluster_response_stats is not false")
    if not authz["emit_filter_state_stats"].is_on and any(_STATE.search(node.text) for node in texts):
        yield DURATION.at(authz["emit_filter_state_stats"], "emit_filter_state_stats is not set")


def _policy(guarded: Guarded, entry: Entry) -> Node:
    names = [each.name for each in guarded.manager.filters if each.short == "cors"]
    found = next((policy for name in names if (policy := entry.per_filter(name))), Node())
    return found["config"].message if found.kind == "FilterConfig" else found.message


def _admits(policy: Node, origin: str) -> bool:
    return any(string_matches(matcher, origin) for matcher in policy["allow_origin_string_match"])


def _has_format(config: Node) -> bool:
    return any(config[name] for name in ("log_format", "format", "json_format", "typed_json_format"))
