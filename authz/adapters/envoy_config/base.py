"""The shipped `envoy.yaml` for one API: with its backend, and without the portal and what belongs to the sample policy.

The blocks of a policy are put into the result by `merge.py`. The shipped file stays the only one that names the reason
of each setting, so its comments stay.
"""

from collections.abc import Callable
from typing import Any

from authz.adapters.envoy_config import blocks
from authz.adapters.envoy_config.backend import Backend, set_backend
from authz.adapters.envoy_config.round_trip import loaded
from authz.core.envoy_rules.needs import Needs, Row

_SAMPLE = Needs()
_CORS = "envoy.filters.http.cors"
_GENERAL = {"grpc", "everything-else"}
_HEAD = """\
Envoy in front of {backend}, with authz at {address} deciding about every request. Written by authz for its policy.
After a change of the policy, write it again: authz envoy render --policy POLICY --merge THIS_FILE. What is marked
SECURITY is needed for what the policy promises; authz envoy check names the reason of each setting.
"""


def base(shipped: str, backend: Backend, address: str, needs: Needs) -> Any:  # noqa: ANN401 -- any YAML
    """Return the configuration; raises `ValueError` for an address that is not HOST:PORT or unix:/PATH.

    `shipped` is the text of the shipped file, `address` is that of authz.
    """
    config = loaded(shipped)
    config.yaml_set_start_comment(_HEAD.format(backend=backend, address=address))
    (listener,) = config["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    _manager(manager, needs)
    (host,) = manager["route_config"]["virtual_hosts"]
    _host(host, needs)
    clusters = config["static_resources"]["clusters"]
    _keep(clusters, lambda each: each["name"] != "portal" and (needs.streams or each["name"] != blocks.REPORTS))
    for cluster in clusters:
        if cluster["name"].startswith("backend"):
            set_backend(cluster, backend, http2=cluster["name"].endswith("-grpc"))
        else:
            blocks.set_endpoint(cluster, address)
    return config


def _manager(manager: Any, needs: Needs) -> None:  # noqa: ANN401 -- any YAML
    (early,) = manager["early_header_mutation_extensions"]
    ours = [{"remove_on_match": {"key_matcher": {"safe_regex": {"regex": regex}}}} for regex in blocks.aliases(_SAMPLE)]
    _keep(early["typed_config"]["mutations"], lambda each: each not in ours)
    (authz,) = (each["typed_config"] for each in manager["http_filters"] if each["name"] == blocks.FILTER)
    keys = [{"exact": header} for header in _SAMPLE.key_headers]
    _keep(authz["allowed_headers"]["patterns"], lambda each: each not in keys)
    if not needs.bodies:
        del authz["with_request_body"]
    if any("_" in key for key in needs.key_headers):
        del manager["common_http_protocol_options"]["headers_with_underscores_action"]
    if not needs.streams:
        del manager["access_log_options"]
        _keep(manager["access_log"], lambda each: each["name"] != "envoy.access_loggers.http_grpc")


def _host(host: Any, needs: Needs) -> None:  # noqa: ANN401 -- any YAML
    _keep(host["routes"], lambda each: each["name"] in _GENERAL)
    for row in needs.sessions:
        host["routes"].insert(len(host["routes"]) - 1, _session(row))
    _keep(host["request_headers_to_remove"], lambda each: each not in _SAMPLE.key_headers)
    settings = host["typed_per_filter_config"]
    if not needs.bodies:
        del settings[blocks.FILTER]
    allowed = dict.fromkeys(("authorization", *needs.key_headers, "content-type"))
    settings[_CORS]["allow_headers"] = ", ".join(allowed)


def _session(row: Row) -> blocks.Block:
    """Return a route for a row that carries sessions: no other page may read its responses."""
    closed = blocks.typed("filters.http.cors.v3.CorsPolicy", allow_origin_string_match=[{"exact": "none"}])
    return {
        "name": "everything-else-session",
        "match": {"prefix": "/", "headers": blocks.row_headers(row)},
        "route": {"cluster": "backend", "timeout": "30s"},
        "typed_per_filter_config": {_CORS: closed},
    }


def _keep(items: Any, is_kept: Callable[[Any], object]) -> None:  # noqa: ANN401 -- any YAML
    """Remove the other items of a list; in place, so that comments stay."""
    for index in reversed(range(len(items))):
        if not is_kept(items[index]):
            del items[index]
