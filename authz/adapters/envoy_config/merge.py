"""Puts the blocks of a policy into a configuration: what is there stays, unless it breaks a rule.

The blocks are `blocks.py`, the settings of routes `routes.py`. A configuration is changed in place.
"""

import copy
from dataclasses import dataclass
from typing import Any

from authz.adapters.envoy_config import blocks, routes
from authz.adapters.envoy_config.fields import put, put_missing, removed, spelled
from authz.adapters.envoy_config.forms import sources_of
from authz.core.envoy_rules.bypass import is_exempt
from authz.core.envoy_rules.guarded import cluster_of, guarded_of
from authz.core.envoy_rules.model import Configuration, Manager, Sources, configuration_of
from authz.core.envoy_rules.needs import Needs
from authz.core.envoy_rules.node import Node
from authz.core.envoy_rules.streams import is_report

_SAFE_ESCAPES = {"REJECT_REQUEST", "UNESCAPE_AND_REDIRECT", "UNESCAPE_AND_FORWARD"}
_OPENING = (
    "clear_route_cache",
    "filter_enabled",
    "filter_enabled_metadata",
    "shadow_mode",
    "disallowed_headers",
    "failure_mode_allow_header_add",
    "http_service",
    "max_denied_response_body_bytes",
)
_OURS = "authz.local_reply."


@dataclass(frozen=True, slots=True)
class Addition:
    """What is put in: the policy's needs, its local replies, and the address of authz."""

    needs: Needs
    local_replies: Any
    address: str


def merge(config: Any, addition: Addition) -> list[str]:  # noqa: ANN401 -- any YAML
    """Put the blocks into a bootstrap; returns what was left as it is and may need a look."""
    configuration = configuration_of(sources_of(config))
    remarks: list[str] = []
    for manager in configuration.managers:
        if not is_exempt(manager, configuration, set()) and isinstance(manager.config.value, dict):
            remarks += _manager(manager, configuration, addition)
    _clusters(config, addition)
    return remarks


def _manager(manager: Manager, configuration: Configuration, addition: Addition) -> list[str]:
    config, needs = manager.config.value, addition.needs
    remarks: list[str] = []
    _settings(config, manager, needs)
    if _OURS in str(replies := spelled(config, "local_reply_config")) or replies is None:
        put(config, "local_reply_config", addition.local_replies)
    else:
        remarks.append(f"{manager.name} keeps its own local_reply_config")
    name = _filters(config, manager, configuration, needs)
    if manager.is_hidden:
        remarks.append(f"{manager.name} gets its routes by discovery: put the routes of the policy there")
    again = next(each for each in configuration_of(_sources(manager)).managers)
    guarded = guarded_of(again, configuration, needs, "")
    if guarded is not None:
        if needs.streams:
            _access_log(config, needs, cluster_of(guarded.authz))
        routes.apply(guarded, name)
    return remarks


def _sources(manager: Manager) -> Sources:
    """Return the parts of one connection manager as it is now."""
    entry = {"typed_config": manager.config.value}
    listener = {"name": manager.listener["name"].text, "filter_chains": [{"filters": [entry]}]}
    return Sources([Node(listener)], tables=list(manager.tables))


def _settings(config: Any, manager: Manager, needs: Needs) -> None:  # noqa: ANN401 -- any YAML
    put(config, "normalize_path", value=True)
    put(config, "merge_slashes", value=True)
    if str(spelled(config, "path_with_escaped_slashes_action")) not in _SAFE_ESCAPES:
        put(config, "path_with_escaped_slashes_action", "REJECT_REQUEST")
    common = put_missing(config, "common_http_protocol_options", {})
    refuses = str(spelled(common, "headers_with_underscores_action")) in {"REJECT_REQUEST", "DROP_HEADER"}
    if not refuses and not any("_" in key for key in needs.key_headers):
        put(common, "headers_with_underscores_action", "REJECT_REQUEST")
    put_missing(common, "idle_timeout", "3600s")
    if not any(True for _ in manager.config["original_ip_detection_extensions"]):
        put(config, "use_remote_address", value=True)
    put_missing(config, "always_set_request_id_in_response", value=True)
    put_missing(config, "request_headers_timeout", "10s")
    put_missing(config, "stream_idle_timeout", "300s")
    http2 = put_missing(config, "http2_protocol_options", {})
    for name, value in (
        ("max_concurrent_streams", 100),
        ("initial_stream_window_size", 65536),
        ("initial_connection_window_size", 1048576),
    ):
        put_missing(http2, name, value)
    extension = blocks.early_extension(needs)
    extensions = put_missing(config, "early_header_mutation_extensions", [])
    ours = next((each for each in extensions if spelled(each, "name") == extension["name"]), None)
    if ours is None:
        extensions.insert(0, extension)
        return
    mutations = put_missing(spelled(ours, "typed_config"), "mutations", [])
    mutations.extend(each for each in extension["typed_config"]["mutations"] if each not in mutations)


def _filters(config: Any, manager: Manager, configuration: Configuration, needs: Needs) -> str:  # noqa: ANN401 -- any YAML
    """Put the filters into the chain; returns the name of ext_authz."""
    filters = put_missing(config, "http_filters", [])
    hops = (manager.config["xff_num_trusted_hops"].number or 0) > 0
    sees_address = hops or any(True for _ in manager.config["original_ip_detection_extensions"])
    found = guarded_of(manager, configuration, needs, "")
    if found is not None and cluster_of(found.authz):
        name = found.authz.name
        _strengthened(found.authz.config.value, blocks.ext_authz(needs, sees_address=sees_address)["typed_config"])
    else:
        name = "authz" if any(each.name == blocks.FILTER for each in manager.filters) else blocks.FILTER
        last = max(len(filters) - 1, 0) if filters and "router" in str(spelled(filters[-1], "name")) else len(filters)
        filters.insert(last, blocks.ext_authz(needs, name=name, sees_address=sees_address))
    if "request_trailers_mutations" not in str(filters) and "requestTrailersMutations" not in str(filters):
        used = {each.name for each in manager.filters}
        trailers = blocks.trailers_filter()
        filters.insert(0, trailers | ({"name": "authz-trailers"} if trailers["name"] in used else {}))
    return name


def _strengthened(config: Any, wanted: dict[str, Any]) -> None:  # noqa: ANN401 -- any YAML
    """Set in an existing filter what the rules require; its service stays."""
    for name in _OPENING:
        removed(config, name)
    for name, value in wanted.items():
        if name == "allowed_headers":
            patterns = put_missing(put_missing(config, name, {}), "patterns", [])
            patterns.extend(each for each in value["patterns"] if each not in patterns)
        elif name == "grpc_service":
            put_missing(config, name, value)
        elif name != "@type":
            _put_deep(config, name, value)


def _put_deep(mapping: Any, name: str, value: Any) -> None:  # noqa: ANN401 -- any YAML
    """Set a field; of a mapping, its fields one by one."""
    current = spelled(mapping, name)
    if isinstance(current, dict) and isinstance(value, dict):
        for field, inner in value.items():
            _put_deep(current, field, inner)
    else:
        put(mapping, name, copy.deepcopy(value))


def _access_log(config: Any, needs: Needs, checks: str) -> None:  # noqa: ANN401 -- any YAML
    options = put_missing(config, "access_log_options", {})
    put(options, "access_log_flush_interval", f"{needs.deadlines.heartbeat_s:g}s")
    removed(config, "access_log_flush_interval")
    logs = put_missing(config, "access_log", [])
    for log in logs:
        if isinstance(log, dict) and not is_report(Node(log), checks) and "types" not in str(spelled(log, "filter")):
            ends, current = {"log_type_filter": {"types": ["DownstreamEnd"]}}, spelled(log, "filter")
            put(log, "filter", ends if current is None else {"and_filter": {"filters": [current, ends]}})
    own = next((log for log in logs if is_report(Node(log), checks)), None)
    if own is None:
        logs.insert(0, blocks.reports())
        return
    wanted = blocks.reports()
    if "lease_id" not in str(spelled(own, "filter")):
        put(own, "filter", wanted["filter"])
    message = Node(own)["typed_config"].message["common_config"].value
    if isinstance(message, dict):
        put(message, "buffer_size_bytes", 0)


def _clusters(config: Any, addition: Addition) -> None:  # noqa: ANN401 -- any YAML
    """Add the clusters that the configuration names and does not have."""
    static = put_missing(config, "static_resources", {})
    existing = put_missing(static, "clusters", [])
    known = {str(spelled(each, "name")) for each in existing}
    text = str(spelled(static, "listeners"))
    for cluster in blocks.clusters(addition.address, with_reports=bool(addition.needs.streams)):
        if cluster["name"] not in known and f"'{cluster['name']}'" in text:
            existing.append(cluster)
