"""The blocks of Envoy's configuration that a policy needs: filters, header lists, access log, clusters, routes.

They have the values of `envoy.yaml`, whose comments name the reasons. Where they are put is `merge.py`.
"""

import re
from ipaddress import ip_address
from typing import Any

from authz.core.envoy_rules.needs import Needs, Row
from authz.core.policy.overrides import HOST_HEADERS, METHOD_HEADERS, PATH_HEADERS

Block = dict[str, Any]

FILTER, CHECKS, REPORTS = "envoy.filters.http.ext_authz", "authz", "authz-streams"
BODY = {"max_request_bytes": 65536, "allow_partial_message": False, "pack_as_bytes": True}
_TYPES = "type.googleapis.com/envoy.extensions."
_RETRY_ON = "connect-failure,refused-stream,reset,reset-before-request,unavailable"
_OTHER, _JOINTS = "[^a-z0-9]", re.compile("[-_]")
_SEEN = (
    "content-type",
    "content-encoding",
    "content-length",
    "transfer-encoding",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-request-id",
)


def typed(name: str, **fields: Any) -> Block:  # noqa: ANN401 -- any field of a message
    """Return a `typed_config` of an extension."""
    return {"@type": f"{_TYPES}{name}", **fields}


def early_mutations(needs: Needs) -> list[Block]:
    """Return the removal of client-sent headers that only Envoy and authz may set."""
    regexes = [f"x{_OTHER}authz{_OTHER}.*", *aliases(needs)]
    return [
        {"remove_on_match": {"key_matcher": {"prefix": "x-authz-", "ignore_case": True}}},
        *({"remove_on_match": {"key_matcher": {"safe_regex": {"regex": regex}}}} for regex in regexes),
        {"remove": "x-envoy-auth-failure-mode-allowed"},
        {"remove": "x-envoy-external-address"},
        {"remove_on_match": {"key_matcher": {"prefix": "x-envoy-", "ignore_case": True}}},
    ]


def aliases(needs: Needs) -> list[str]:
    """Return a regular expression of the other spellings of each key header that has more than one word."""
    parts = [(_JOINTS.split(key), _JOINTS.findall(key)) for key in needs.key_headers]
    return [_alias_regex(words, joints) for words, joints in parts if joints]


def _alias_regex(words: list[str], joints: list[str]) -> str:
    """Return an alternative for each joint: those before it as they are, itself another one, and any behind it."""
    words, forms = [re.escape(word) for word in words], []
    for first in range(1, len(words)):
        before = "".join(f"{word}{joint}" for word, joint in zip(words, joints[: first - 1], strict=False))
        behind = "".join(f"{_OTHER}{word}" for word in words[first + 1 :])
        forms.append(f"{before}{words[first - 1]}[^a-z0-9{joints[first - 1]}]{words[first]}{behind}")
    return "|".join(forms)


def early_extension(needs: Needs) -> Block:
    """Return the extension that removes headers before anything else."""
    kind = "http.early_header_mutation.header_mutation.v3.HeaderMutation"
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": typed(kind, mutations=early_mutations(needs)),
    }


def trailers_filter() -> Block:
    """Return the filter that removes request trailers."""
    removal = {"remove_on_match": {"key_matcher": {"safe_regex": {"regex": ".*"}}}}
    kind = "filters.http.header_mutation.v3.HeaderMutation"
    return {
        "name": "envoy.filters.http.header_mutation",
        "typed_config": typed(kind, mutations={"request_trailers_mutations": [removal]}),
    }


def ext_authz(needs: Needs, *, name: str = FILTER, sees_address: bool = False) -> Block:
    """Return the filter; `sees_address` sends the address that Envoy has determined behind a load balancer."""
    keys = "|".join(map(re.escape, needs.key_headers)).replace("\\-", "-")
    address = ("x-envoy-external-address",) if sees_address else ()
    config = typed(
        "filters.http.ext_authz.v3.ExtAuthz",
        transport_api_version="V3",
        failure_mode_allow=False,
        status_on_error={"code": "ServiceUnavailable"},
        validate_mutations=True,
        encode_raw_headers=True,
        decoder_header_mutation_rules={
            "disallow_all": True,
            "allow_expression": {"regex": f"x-authz-[a-z0-9-]*|{keys}"},
            "disallow_is_error": True,
        },
        allowed_headers={"patterns": [{"exact": header} for header in (*needs.key_headers, *_SEEN, *address)]},
        emit_filter_state_stats=True,
        charge_cluster_response_stats=False,
        enforce_response_header_limits=False,
        grpc_service={"envoy_grpc": {"cluster_name": CHECKS}, "timeout": "0.2s", "retry_policy": _retries()},
    )
    if needs.bodies:
        config["with_request_body"] = dict(BODY)
    return {"name": name, "typed_config": config}


def _retries() -> Block:
    back_off = {"base_interval": "0.01s", "max_interval": "0.15s"}
    return _retry_policy(2, back_off, 20)


def _retry_policy(retries: int, back_off: Block, attempts: int) -> Block:
    predicate = {
        "name": "envoy.retry_host_predicates.previous_hosts",
        "typed_config": typed("retry.host.previous_hosts.v3.PreviousHostsPredicate"),
    }
    return {
        "retry_on": _RETRY_ON,
        "num_retries": retries,
        "retry_back_off": back_off,
        "retry_host_predicate": [predicate],
        "host_selection_retry_max_attempts": attempts,
    }


def reports() -> Block:
    """Return the access log that reports streams with a lease."""
    matcher = {"filter": FILTER, "path": [{"key": "lease_id"}], "value": {"present_match": True}}
    retries = _retry_policy(3, {"base_interval": "0.001s", "max_interval": "0.25s"}, 3)
    service = {"envoy_grpc": {"cluster_name": REPORTS}, "retry_policy": retries}
    common = {"log_name": "streams", "transport_api_version": "V3", "buffer_size_bytes": 0, "grpc_service": service}
    return {
        "name": "envoy.access_loggers.http_grpc",
        "filter": {"metadata_filter": {"matcher": matcher, "match_if_key_not_found": False}},
        "typed_config": typed("access_loggers.grpc.v3.HttpGrpcAccessLogConfig", common_config=common),
    }


def removed_headers(needs: Needs) -> list[str]:
    """Return the headers that no backend gets."""
    hosts = sorted(HOST_HEADERS) if needs.has_hosts else []
    return [*needs.key_headers, *sorted(METHOD_HEADERS), *sorted(PATH_HEADERS), *hosts]


def per_route(**settings: Any) -> Block:  # noqa: ANN401 -- any field of the message
    """Return the settings of ext_authz on a route."""
    return typed("filters.http.ext_authz.v3.ExtAuthzPerRoute", check_settings=settings)


def row_headers(row: Row) -> list[Block]:
    """Return the header matchers by which a route gets the requests of a row only."""
    path = {"name": ":path", "string_match": {"safe_regex": {"regex": f"{row.regex}([?].*)?"}}}
    method = {"name": ":method", "string_match": {"exact": row.method}}
    return [path] if row.method == "*" else [method, path]


def clusters(address: str, *, with_reports: bool) -> list[Block]:
    """Return the clusters of authz at HOST:PORT or unix:/PATH."""
    checks = _cluster(CHECKS, address) | {
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [{"max_requests": 4096, "max_pending_requests": 4096, "max_retries": 256}]},
    }
    if not with_reports:
        return [checks]
    breakers = {"thresholds": [{"max_retries": 256}]}
    return [checks, _cluster(REPORTS, address) | {"lb_policy": "ROUND_ROBIN", "circuit_breakers": breakers}]


def _cluster(name: str, address: str) -> Block:
    http2 = {"http2_protocol_options": {"connection_keepalive": {"interval": "30s", "timeout": "5s"}}}
    times = {"timeout": "0.5s", "interval": "1s", "no_traffic_interval": "1s", "unhealthy_interval": "0.5s"}
    return {
        **endpoint_cluster(name, address),
        "connect_timeout": "0.1s",
        "common_lb_config": {"update_merge_window": "0s"},
        "health_checks": [times | {"unhealthy_threshold": 1, "healthy_threshold": 1, "grpc_health_check": {}}],
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
                "upstreams.http.v3.HttpProtocolOptions", explicit_http_config=http2
            )
        },
    }


def endpoint_cluster(name: str, address: str) -> Block:
    """Return a cluster of one endpoint."""
    cluster = {"name": name, "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{}]}]}}
    set_endpoint(cluster, address)
    return cluster


def set_endpoint(cluster: Any, address: str) -> None:  # noqa: ANN401 -- any YAML
    """Let a cluster of one endpoint connect to HOST:PORT or unix:/PATH; raises `ValueError` for anything else."""
    found = socket_address(address)
    host = found["socket_address"]["address"] if "socket_address" in found else ""
    cluster["type"] = host_type(host) if host else "STATIC"
    (group,) = cluster["load_assignment"]["endpoints"]
    group["lb_endpoints"][0].setdefault("endpoint", {})["address"] = found


def host_type(host: str) -> str:
    """Return how Envoy finds a host: a name by DNS, an address as it is."""
    try:
        ip_address(host)
    except ValueError:
        return "STRICT_DNS"
    return "STATIC"


def socket_address(address: str) -> Block:
    """Return Envoy's form of HOST:PORT or unix:/PATH; raises `ValueError` for anything else."""
    if address.startswith("unix:"):
        return {"pipe": {"path": address.removeprefix("unix:")}}
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65_536:  # noqa: PLR2004 -- ports
        raise ValueError(f"{address} is not HOST:PORT or unix:/PATH")
    return {"socket_address": {"address": host.strip("[]") or "127.0.0.1", "port_value": int(port)}}
