"""Rules: authz learns of open streams and of their ends, and streams last as long as they should.

What authz does with the reports is described in docs/streams.md.
"""

from collections.abc import Iterator

from authz.core.envoy_rules.bodies import entries_of
from authz.core.envoy_rules.finding import Finding, Rule, Severity
from authz.core.envoy_rules.guarded import Guarded, cluster_of
from authz.core.envoy_rules.node import Node

REPORTS = Rule(
    "EA401",
    Severity.ERROR,
    "Envoy reports streams to authz",
    "Without the gRPC access log, authz does not learn that a stream lives or ends: its slot expires while it is open.",
    "access_log: [{name: envoy.access_loggers.http_grpc, …}], as in envoy.yaml",
)
FLUSH = Rule(
    "EA402",
    Severity.ERROR,
    "Envoy reports as often as authz expects",
    "The interval is AUTHZ_STREAM_HEARTBEAT_S, and at most a third of the smallest `ttl_s`. Rarer reports let leases "
    "of open streams expire.",
    "access_log_options: {access_log_flush_interval: 5s}",
)
SELECTED = Rule(
    "EA403",
    Severity.WARNING,
    "Envoy reports streams with a lease only",
    "Otherwise every request costs a message to authz.",
    "filter: {metadata_filter: {matcher: {filter: envoy.filters.http.ext_authz, path: [{key: lease_id}], value: "
    "{present_match: true}}, match_if_key_not_found: false}}",
)
BUFFER = Rule(
    "EA404",
    Severity.WARNING,
    "the end of a stream is reported at once",
    "Buffered reports free a slot up to a second late, and are lost when Envoy stops.",
    "buffer_size_bytes: 0",
)
REPORT_CLUSTER = Rule(
    "EA405",
    Severity.WARNING,
    "reports of streams reach a sidecar again after a restart",
    "Envoy drops reports that wait for a retry longer than a millisecond, or go to the sidecar that has left.",
    "a cluster of its own with lb_policy: ROUND_ROBIN, and retry_policy with base_interval: 0.001s",
)
STREAM_TIMEOUT = Rule(
    "EA406",
    Severity.ERROR,
    "a route for streams has no timeout",
    "The default of 15 s for a response ends every stream.",
    "route: {timeout: 0s, idle_timeout: 60s, max_stream_duration: {max_stream_duration: 1860s}}",
)
STREAM_BOUND = Rule(
    "EA407",
    Severity.WARNING,
    "a stream has a maximum duration",
    "A revoked key keeps its open streams until they end.",
    "max_stream_duration: {max_stream_duration: 1860s}",
)
EVERY_REPORT = Rule(
    "EA408",
    Severity.WARNING,
    "other access logs have a line for each request only",
    "With access_log_flush_interval, a log without a filter has a line for each report of a stream.",
    "filter: {log_type_filter: {types: [DownstreamEnd]}}",
)
RULES = (REPORTS, FLUSH, SELECTED, BUFFER, REPORT_CLUSTER, STREAM_TIMEOUT, STREAM_BOUND, EVERY_REPORT)

_GRPC_LOG = "HttpGrpcAccessLogConfig"
_HEARTBEATS_PER_LEASE = 3
_BACK_OFF_MAX_S = 0.005


def streams(guarded: Guarded) -> Iterator[Finding]:
    """Find missing reports and wrong timeouts, if the policy has streams."""
    if not guarded.needs.streams:
        return
    logs = list(guarded.config["access_log"])
    reports = [each for each in logs if is_report(each, cluster_of(guarded.authz))]
    if not reports:
        yield REPORTS.at(guarded.config["access_log"], "there is no gRPC access log for authz")
    else:
        yield from _interval(guarded)
        yield from _report(guarded, reports[0])
        yield from _others(guarded, [each for each in logs if each["typed_config"].kind != _GRPC_LOG])
    for row in guarded.needs.streams:
        for entry in entries_of(guarded, row):
            yield from _route(entry.route, f"{row.method} {row.template}")


def is_report(log: Node, checks: str) -> bool:
    """Tell whether an access log reports to authz, and not to a service of the operator's own.

    `checks` is the cluster of the checks.
    """
    if log["typed_config"].kind != _GRPC_LOG:
        return False
    keys = [each["key"].text for each in log.at("filter", "metadata_filter", "matcher", "path")]
    config = log["typed_config"].message["common_config"]
    name = config.at("grpc_service", "envoy_grpc", "cluster_name").text
    return "lease_id" in keys or "authz" in name or name == checks


def interval_of(config: Node) -> Node:
    """Return how often Envoy reports a request that lasts."""
    options = config["access_log_options"]
    return options["access_log_flush_interval"] or config["access_log_flush_interval"]


def _interval(guarded: Guarded) -> Iterator[Finding]:
    needs, interval = guarded.needs, interval_of(guarded.config)
    found = interval.seconds
    heartbeat = needs.deadlines.heartbeat_s
    fix = f"access_log_options: {{access_log_flush_interval: {heartbeat:g}s}}"
    if found is None:
        yield FLUSH.at(interval, "access_log_flush_interval is not set", fix=fix)
    elif needs.stream_ttl_s and found * _HEARTBEATS_PER_LEASE > needs.stream_ttl_s:
        yield FLUSH.at(interval, f"{found:g}s is more than a third of ttl_s {needs.stream_ttl_s:g}", fix=fix)
    elif abs(found - heartbeat) > heartbeat / 100:
        what = f"{found:g}s is not AUTHZ_STREAM_HEARTBEAT_S, {heartbeat:g} s"
        yield FLUSH.at(interval, what, Severity.WARNING, fix)


def _report(guarded: Guarded, log: Node) -> Iterator[Finding]:
    metadata = log.at("filter", "metadata_filter")
    keys = [each["key"].text for each in metadata.at("matcher", "path")]
    if keys != ["lease_id"] or metadata["match_if_key_not_found"].value is not False:
        is_wrong = bool(metadata) and keys != ["lease_id"]
        severity = Severity.ERROR if is_wrong else None
        yield SELECTED.at(log["filter"], "the filter does not select requests with a lease_id", severity)
    config = log["typed_config"].message["common_config"]
    if config["buffer_size_bytes"].number != 0:
        yield BUFFER.at(config["buffer_size_bytes"], "buffer_size_bytes is not 0")
    service = config["grpc_service"]
    name = service.at("envoy_grpc", "cluster_name").text
    cluster = guarded.configuration.clusters.get(name, Node())
    base = service.at("retry_policy", "retry_back_off", "base_interval")
    if name == cluster_of(guarded.authz):
        yield REPORT_CLUSTER.at(service, "reports share the cluster of the checks", Severity.NOTE)
    elif cluster and cluster["lb_policy"].text not in {"", "ROUND_ROBIN"}:
        yield REPORT_CLUSTER.at(cluster["lb_policy"], f"lb_policy of {name} is {cluster['lb_policy'].text}")
    if (base.seconds or 1) > _BACK_OFF_MAX_S:
        yield REPORT_CLUSTER.at(base, "a retry of reports does not start at once")


def _others(guarded: Guarded, logs: list[Node]) -> Iterator[Finding]:
    if interval_of(guarded.config):
        for log in logs:
            if not any(node["types"] for node in log["filter"].walk()):
                yield EVERY_REPORT.at(log, f"{log['name'].text or 'an access log'} has no log_type_filter")


def _route(route: Node, row: str) -> Iterator[Finding]:
    action = route["route"]
    timeout = action["timeout"]
    if timeout.seconds != 0:
        what = f"is {timeout.text}" if timeout else "is not set, so 15 s"
        yield STREAM_TIMEOUT.at(timeout, f"the timeout of {row} {what}")
    bound = action.at("max_stream_duration", "max_stream_duration")
    if not bound.seconds:
        yield STREAM_BOUND.at(bound, f"max_stream_duration of {row} is not set")
