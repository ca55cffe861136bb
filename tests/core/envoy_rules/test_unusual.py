"""Forms of configurations that few people write: each has the right finding, or none, or a message."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from support.envoy_faults import base

from authz.adapters.envoy_config.document import UnreadableConfig, parsed
from authz.adapters.envoy_config.forms import sources_of
from authz.adapters.policy_file.loader import load_policy
from authz.cli.envoy.commands import findings_of
from authz.core.envoy_rules.model import configuration_of
from authz.core.envoy_rules.needs import Deadlines, needs_of
from authz.core.envoy_rules.registry import check
from authz.demo.servers import shipped

NEEDS = needs_of(load_policy(shipped("policies/truetick.yaml")), Deadlines())
AUTHZ, MUTATION = "envoy.filters.http.ext_authz", "envoy.filters.http.header_mutation"
OFF = {"@type": "x/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute", "disabled": True}
LUA = {"name": "lua", "typed_config": {"@type": "x/envoy.extensions.filters.http.lua.v3.Lua"}}
Change = Callable[["Parts"], None]


class Parts:
    """The parts of the shipped configuration."""

    def __init__(self) -> None:
        self.config = base()
        self.static = self.config["static_resources"]
        (self.listener,) = self.static["listeners"]
        (self.chain,) = self.listener["filter_chains"]
        self.manager = self.chain["filters"][0]["typed_config"]
        self.host = self.manager["route_config"]["virtual_hosts"][0]
        self.last = self.host["routes"][-1]
        self.filters = self.manager["http_filters"]
        (self.authz,) = (each for each in self.filters if each["name"] == AUTHZ)

    def cluster(self, name: str) -> Any:  # noqa: ANN401 -- YAML
        return next(each for each in self.static["clusters"] if each["name"] == name)


def wrapped(kind: str, config: Any, **more: Any) -> dict[str, Any]:  # noqa: ANN401 -- YAML
    return {"@type": f"x/{kind}", "typed_config": config, **more}


def mutation(**what: Any) -> dict[str, Any]:  # noqa: ANN401 -- YAML
    kind = "x/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
    return {"name": "hm", "typed_config": {"@type": kind, "mutations": {"request_mutations": [what]}}}


def appended(name: str) -> dict[str, Any]:
    return {"append": {"header": {"key": name, "value": "%REQ(x-a)%"}}}


def filter_config(parts: Parts) -> None:
    settings = {"@type": "x/envoy.config.route.v3.FilterConfig", "config": OFF}
    parts.last["typed_per_filter_config"] = {AUTHZ: settings}


def route_list(parts: Parts) -> None:
    route = {**parts.host["routes"].pop(), "typed_per_filter_config": {AUTHZ: OFF}}
    action = {"typed_config": {"@type": "x/envoy.config.route.v3.RouteList", "routes": [route]}}
    parts.host["matcher"] = {"matcher_tree": {"exact_match_map": {"map": {"a": {"action": action}}}}}


def ecds(parts: Parts) -> None:
    kind = parts.authz.pop("typed_config")["@type"]
    parts.authz["config_discovery"] = {"config_source": {"ads": {}}, "type_urls": [kind]}


def composite(parts: Parts) -> None:
    action = wrapped("envoy.extensions.filters.http.composite.v3.ExecuteFilterAction", dict(parts.authz))
    matcher = {"matcher_tree": {"exact_match_map": {"map": {"a": {"action": {"typed_config": action}}}}}}
    kind = "x/envoy.extensions.filters.http.composite.v3.Composite"
    inner = {"name": "composite", "typed_config": {"@type": kind}}
    outer = "x/envoy.extensions.common.matching.v3.ExtensionWithMatcher"
    parts.authz |= {
        "name": "composite",
        "typed_config": {"@type": outer, "extension_config": inner, "xds_matcher": matcher},
    }


def old_types(parts: Parts) -> None:
    parts.authz["typed_config"]["@type"] = "x/envoy.config.filter.http.ext_authz.v2.ExtAuthz"


def upstream_filter(parts: Parts) -> None:
    (options,) = parts.cluster("backend")["typed_extension_protocol_options"].values()
    options["http_filters"] = [LUA]


def second_server(parts: Parts) -> None:
    parts.static["clusters"].append({**parts.cluster("backend"), "name": "raw"})
    proxy = {"@type": "x/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "cluster": "raw"}
    parts.static["listeners"].append(
        {"internal_listener": {}, "filter_chains": [{"filters": [{"typed_config": proxy}]}]}
    )


def http3(parts: Parts) -> None:
    listener = copy.deepcopy(parts.listener)
    listener |= {"name": "h3", "udp_listener_config": {"quic_options": {}}}
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"] = [each for each in manager["http_filters"] if each["name"] != AUTHZ]
    parts.static["listeners"].append(listener)


def per_route_mutation(parts: Parts) -> None:
    parts.filters.insert(-1, mutation(remove="x"))
    own = {"@type": "x/HeaderMutationPerRoute", "mutations": {"request_mutations": [appended("x-authz-scopes")]}}
    parts.last["typed_per_filter_config"] = {"hm": own}


UNUSUAL: dict[str, tuple[Change, str, str]] = {
    "FilterConfig": (filter_config, "EA102", "error"),
    "RouteList": (route_list, "EA102", "error"),
    "ECDS": (ecds, "EA121", "warning"),
    "composite": (composite, "EA110", "error"),
    "v2": (old_types, "EA124", "error"),
    "upstream filter": (upstream_filter, "EA119", "warning"),
    "filter of the router": (
        lambda it: it.filters[-1]["typed_config"].update(upstream_http_filters=[LUA]),
        "EA119",
        "warning",
    ),
    "another name of a server": (second_server, "EA106", "error"),
    "HTTP/3": (http3, "EA101", "error"),
    "VHDS": (lambda it: it.manager["route_config"].update(vhds={"config_source": {}}), "EA107", "note"),
    "LDS": (lambda it: it.config.update(dynamic_resources={"lds_config": {"ads": {}}}), "EA107", "note"),
    "mirror of a route": (
        lambda it: it.last["route"].update(request_mirror_policies=[{"cluster": "b"}]),
        "EA217",
        "note",
    ),
    "mirror of a host": (lambda it: it.host.update(request_mirror_policies=[{"cluster": "b"}]), "EA217", "note"),
    "header before": (lambda it: it.filters.insert(0, mutation(**appended("x-authz-scopes"))), "EA119", "warning"),
    "header after": (lambda it: it.filters.insert(-1, mutation(**appended("x-authz-scopes"))), "EA119", "error"),
    "path after": (lambda it: it.filters.insert(-1, mutation(**appended(":path"))), "EA119", "error"),
    "header of a route": (per_route_mutation, "EA119", "error"),
    "twice": (lambda it: it.filters.insert(-1, copy.deepcopy(it.authz)), "EA122", "warning"),
    "cluster by header": (lambda it: it.last.update(route={"cluster_header": "x-cluster"}), "EA123", "warning"),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_an_unusual_form_has_its_finding_and_no_other_error(name: str) -> None:
    change, rule, severity = UNUSUAL[name]
    parts = Parts()
    change(parts)
    found = {(each.rule.id, str(each.severity)) for each in check(configuration_of(sources_of(parts.config)), NEEDS)}
    assert (rule, severity) in found
    assert [each for each in found if each[1] == "error" and each[0] != rule] == []


def test_sound_forms_have_no_finding() -> None:
    typed = Parts()
    settings = typed.authz["typed_config"]
    typed.authz["typed_config"] = {
        "@type": "x/xds.type.v3.TypedStruct",
        "type_url": settings["@type"],
        "value": settings,
    }
    tunnels = Parts()
    tunnels.manager["http2_protocol_options"]["allow_connect"] = True
    tunnels.manager["http3_protocol_options"] = {"allow_extended_connect": True}
    anchors = "!ignore static_resources:\n  clusters: [{name: x}]\n" + shipped("envoy.yaml").read_text()
    for text in (json.dumps(base()), json.dumps(typed.config), json.dumps(tunnels.config), anchors):
        assert findings_of(text, NEEDS) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a {b: 1}\nc: {<<: *a}\n", "Envoy has no merge keys"),
        ("admin: {}\nadmin: {}\n", "admin appears twice"),
        ('{"admin": {}, "admin": {}}', "admin appears twice"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_envoy_or_another_reader_takes_otherwise_is_refused(text: str, message: str) -> None:
    with pytest.raises(UnreadableConfig, match=message):
        parsed(text)


def test_the_field_config_of_version_2_is_named() -> None:
    parts = Parts()
    (entry,) = parts.chain["filters"]
    entry["config"] = entry.pop("typed_config")
    with pytest.raises(UnreadableConfig, match="version 2 of Envoy's API"):
        findings_of(json.dumps(parts.config), NEEDS)
