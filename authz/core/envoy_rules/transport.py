"""Rules: deadlines agree with those of authz, clusters find a sidecar, and HTTP/2 is bounded.

The reports of streams are `streams.py`.
"""

from collections.abc import Iterator

from authz.core.envoy_rules.finding import Finding, Rule, Severity
from authz.core.envoy_rules.guarded import Guarded, cluster_of
from authz.core.envoy_rules.model import Configuration, addresses_of, is_open_address
from authz.core.envoy_rules.node import Node

TIMEOUT = Rule(
    "EA501",
    Severity.ERROR,
    "a check has a timeout",
    "With `timeout: 0s` requests wait for ever for a sidecar that hangs.",
    "grpc_service: {…, timeout: 0.2s}",
)
TOO_SHORT = Rule(
    "EA502",
    Severity.WARNING,
    "Envoy waits longer than authz",
    "A check may wait AUTHZ_LOAD_WAIT_S for a key to load. If Envoy gives up earlier, new keys get errors, and a retry "
    "can take a second token. `max_interval` of the retries is the timeout of each try.",
    "timeout: 0.2s, retry_back_off: {base_interval: 0.01s, max_interval: 0.15s}",
)
TOO_LONG = Rule(
    "EA503",
    Severity.NOTE,
    "Envoy does not wait much longer than authz",
    "authz answers within its own deadlines. A longer timeout only holds requests while a sidecar hangs.",
    "grpc_service: {…, timeout: 0.2s}",
)
NO_CLUSTER = Rule(
    "EA511",
    Severity.ERROR,
    "the cluster of authz exists",
    "Every check fails.",
    "clusters: [{name: authz, …}]",
)
NOT_HTTP2 = Rule(
    "EA512",
    Severity.ERROR,
    "Envoy speaks HTTP/2 to authz",
    "gRPC needs HTTP/2. Every check fails.",
    "explicit_http_config: {http2_protocol_options: {connection_keepalive: {interval: 30s, timeout: 5s}}}",
)
HEALTH = Rule(
    "EA513",
    Severity.WARNING,
    "Envoy checks the health of several sidecars",
    "Without health checks, a sidecar that restarts costs requests.",
    "health_checks: [{timeout: 0.5s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1, grpc_health_check: "
    "{}}]",
)
KEEPALIVE = Rule(
    "EA514",
    Severity.WARNING,
    "Envoy does not ping authz often",
    "authz closes connections with many pings. Checks then wait for a new one.",
    "connection_keepalive: {interval: 30s, timeout: 5s}",
)
STREAMS_MAX = Rule(
    "EA521",
    Severity.WARNING,
    "a connection of HTTP/2 is bounded",
    "One client could open so many streams or windows that the memory of Envoy is used up.",
    "http2_protocol_options: {max_concurrent_streams: 100, initial_stream_window_size: 65536, "
    "initial_connection_window_size: 1048576}",
)
HEADER_LIMITS = Rule(
    "EA522",
    Severity.WARNING,
    "Envoy accepts no more headers than authz",
    "authz refuses a check with more than 512 headers.",
    "common_http_protocol_options: {max_headers_count: 100}",
)
SLOW_CLIENTS = Rule(
    "EA523",
    Severity.WARNING,
    "slow clients end",
    "Without a timeout for headers and idle streams, a client holds connections for ever.",
    "request_headers_timeout: 10s, stream_idle_timeout: 300s",
)
RESPONSE_LIMITS = Rule(
    "EA524",
    Severity.WARNING,
    "rate limit headers break no response",
    "With the limit, a backend's response with many headers becomes a 500 when authz adds its own.",
    "enforce_response_header_limits: false",
)
BODY_CUT = Rule(
    "EA525",
    Severity.WARNING,
    "refusals arrive whole",
    "A shortened body of a refusal is not JSON any more.",
    "Remove `max_denied_response_body_bytes`, or set at least 4096.",
)
SMUGGLING = Rule(
    "EA526",
    Severity.ERROR,
    "a request has one length",
    "With both lengths, Envoy and the backend can see different ends of a request, and the rest is not checked.",
    "Remove `allow_chunked_length`.",
)
ADMIN = Rule(
    "EA531",
    Severity.ERROR,
    "the admin interface is not open to other machines",
    "It shows the configuration with its secrets, changes runtime values and stops Envoy.",
    "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 9901}}}",
)
RULES: tuple[Rule, ...] = (
    TIMEOUT,
    TOO_SHORT,
    TOO_LONG,
    NO_CLUSTER,
    NOT_HTTP2,
    HEALTH,
    KEEPALIVE,
    STREAMS_MAX,
    HEADER_LIMITS,
    SLOW_CLIENTS,
    RESPONSE_LIMITS,
    BODY_CUT,
    SMUGGLING,
    ADMIN,
)

_DEFAULT_TIMEOUT_S, _LONG_S = 0.2, 2.0
_DEFAULT_BASE_S, _TRIES = 0.025, 10
_KEEPALIVE_MIN_S = 5
_STREAMS_MAX, _WINDOW_MAX = 2048, 268_435_456
_HEADERS_MAX = 512
_REFUSAL_BYTES = 4096
_FIXED = {"", "STATIC", "STRICT_DNS", "LOGICAL_DNS"}


def deadlines(guarded: Guarded) -> Iterator[Finding]:
    """Find timeouts of checks that contradict those of authz."""
    service, wait_s = guarded.authz.config["grpc_service"], guarded.needs.deadlines.load_wait_s
    timeout = service["timeout"]
    seconds = timeout.seconds if timeout.seconds is not None else _DEFAULT_TIMEOUT_S
    if seconds <= 0:
        yield TIMEOUT.at(timeout, f"the timeout is {timeout.text}")
        return
    if seconds <= wait_s:
        yield TOO_SHORT.at(timeout, f"the timeout of {seconds:g} s is not longer than AUTHZ_LOAD_WAIT_S, {wait_s:g} s")
    if seconds > _LONG_S:
        yield TOO_LONG.at(timeout, f"the timeout is {seconds:g} s")
    if policy := service["retry_policy"]:
        back_off = policy["retry_back_off"]
        base = back_off["base_interval"].seconds or _DEFAULT_BASE_S
        each = back_off["max_interval"].seconds or base * _TRIES
        if back_off and each <= wait_s:
            what = f"a try of {each:g} s is not longer than AUTHZ_LOAD_WAIT_S, {wait_s:g} s"
            yield TOO_SHORT.at(back_off["max_interval"], what)


def clusters(guarded: Guarded) -> Iterator[Finding]:
    """Find a cluster of authz that cannot work, or not through a restart."""
    name, configuration = cluster_of(guarded.authz), guarded.configuration
    cluster = configuration.clusters.get(name, Node())
    if not name or not configuration.has_clusters:
        return
    if not cluster:
        where = guarded.authz.config.at("grpc_service", "envoy_grpc", "cluster_name")
        yield NO_CLUSTER.at(where, f"there is no cluster {name}")
        return
    options = next((each.message for _, each in cluster["typed_extension_protocol_options"].fields()), Node())
    forms = [options[form] for form in ("explicit_http_config", "auto_config", "use_downstream_protocol_config")]
    http2 = next((found for form in forms if (found := form["http2_protocol_options"])), Node())
    http2 = http2 or cluster["http2_protocol_options"]
    if not (http2 or options["auto_config"]):
        yield NOT_HTTP2.at(cluster["typed_extension_protocol_options"], f"cluster {name} does not speak HTTP/2")
    interval = http2.at("connection_keepalive", "interval")
    if interval.seconds is not None and interval.seconds < _KEEPALIVE_MIN_S:
        yield KEEPALIVE.at(interval, f"a ping every {interval.seconds:g} s")
    if not any(True for _ in cluster["health_checks"]) and cluster["type"].text in _FIXED:
        severity = None if len(addresses_of(cluster)) > 1 or cluster["type"].text.endswith("DNS") else Severity.NOTE
        yield HEALTH.at(cluster, f"cluster {name} has no health checks", severity)


def limits(guarded: Guarded) -> Iterator[Finding]:
    """Find limits that a client or a large response can exceed."""
    config, authz = guarded.config, guarded.authz.config
    yield from _http2(config)
    common = config["common_http_protocol_options"]
    count = common["max_headers_count"].number
    if count is not None and count > _HEADERS_MAX:
        yield HEADER_LIMITS.at(common["max_headers_count"], f"max_headers_count is {count:.0f}")
    if config["stream_idle_timeout"].seconds == 0:
        yield SLOW_CLIENTS.at(config["stream_idle_timeout"], "stream_idle_timeout is 0s")
    if not config["request_headers_timeout"].seconds:
        where = config["request_headers_timeout"]
        yield SLOW_CLIENTS.at(where, "request_headers_timeout is not set", Severity.NOTE)
    if authz["enforce_response_header_limits"].is_on:
        yield RESPONSE_LIMITS.at(authz["enforce_response_header_limits"], "enforce_response_header_limits is true")
    size = authz["max_denied_response_body_bytes"].number
    if size is not None and 0 < size < _REFUSAL_BYTES:
        yield BODY_CUT.at(authz["max_denied_response_body_bytes"], f"refusals are cut after {size:.0f} bytes")
    if config.at("http_protocol_options", "allow_chunked_length").is_on:
        where = config.at("http_protocol_options", "allow_chunked_length")
        yield SMUGGLING.at(where, "allow_chunked_length is true")


def _http2(config: Node) -> Iterator[Finding]:
    options = config["http2_protocol_options"]
    count = options["max_concurrent_streams"].number
    if count is None:
        yield STREAMS_MAX.at(options, "max_concurrent_streams is not set", Severity.NOTE)
    elif count > _STREAMS_MAX:
        yield STREAMS_MAX.at(options["max_concurrent_streams"], f"max_concurrent_streams is {count:.0f}")
    for name in ("initial_stream_window_size", "initial_connection_window_size"):
        if (options[name].number or 0) > _WINDOW_MAX:
            yield STREAMS_MAX.at(options[name], f"{name} is {options[name].number:.0f}")


def admin(configuration: Configuration) -> Iterator[Finding]:
    """Find an admin interface that other machines can use."""
    address = configuration.admin["address"]
    if is_open_address(address):
        host = address.at("socket_address", "address").text
        yield ADMIN.at(address, f"the admin interface listens on {host or 'every address'}")
