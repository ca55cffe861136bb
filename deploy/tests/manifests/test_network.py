"""The NetworkPolicies: every pod has one, and every port of a pod may be connected to by somebody who is named.

Whether a network plugin enforces them is the cluster's business.
"""

import re
from typing import Any

import pytest
from manifests.test_manifests import EXAMPLES, ROOT, Manifest, manifests, of_kustomize


def selected(policy: Manifest, labels: dict[str, str]) -> bool:
    return bool(policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items())


def ports_of(pod: Manifest) -> set[int]:
    containers = [*pod["containers"], *pod.get("initContainers", [])]
    return {port["containerPort"] for each in containers for port in each.get("ports", [])}


def numbers(rules: list[dict[str, Any]], pod: Manifest) -> set[int]:
    """Return the ports of rules; names are those of the pod."""
    containers = [*pod["containers"], *pod.get("initContainers", [])]
    named = {port.get("name"): port["containerPort"] for each in containers for port in each.get("ports", [])}
    wanted = [port["port"] for rule in rules for port in rule["ports"]]
    return {port if isinstance(port, int) else named[port] for port in wanted}


@pytest.mark.parametrize("overlay", EXAMPLES)
def test_every_pod_has_a_policy_for_each_of_its_ports(overlay: str) -> None:
    found = manifests(of_kustomize(overlay))
    policies = [each for each in found.values() if each["kind"] == "NetworkPolicy"]
    templates = {name: each["spec"]["template"] for name, each in found.items() if "template" in each.get("spec", {})}
    assert templates
    for name, template in templates.items():
        mine = [each for each in policies if selected(each, template["metadata"]["labels"])]
        assert mine, name
        assert all("Ingress" in each["spec"]["policyTypes"] for each in mine)
        rules = [rule for each in mine for rule in each["spec"].get("ingress", [])]
        assert numbers(rules, template["spec"]) == ports_of(template["spec"]), name
        if name != "Deployment/notes":  # the application's own connections are its own
            assert all("Egress" in each["spec"]["policyTypes"] for each in mine), name


@pytest.mark.parametrize("overlay", EXAMPLES)
def test_only_the_port_of_envoy_is_open_to_everybody(overlay: str) -> None:
    for name, policy in manifests(of_kustomize(overlay)).items():
        for rule in policy["spec"].get("ingress", []) if policy["kind"] == "NetworkPolicy" else []:
            if not rule.get("from"):
                assert (name, rule["ports"]) == ("NetworkPolicy/authz-sidecar", [{"protocol": "TCP", "port": 8000}])


def test_envoy_in_the_pods_of_an_application_may_connect_to_the_portal() -> None:
    protected = manifests(of_kustomize("sidecar"))["Deployment/notes"]["spec"]["template"]["metadata"]["labels"]
    (rule, _) = manifests(of_kustomize("standalone-portal"))["NetworkPolicy/authz-portal"]["spec"]["ingress"]
    peers = [peer["podSelector"]["matchLabels"] for peer in rule["from"]]
    assert any(peer.items() <= protected.items() for peer in peers)


def test_a_pod_monitor_finds_every_sidecar_under_the_names_that_alerts_select() -> None:
    rules = (ROOT / "deploy/observability/rules.yaml").read_text()
    (selected_jobs,) = set(re.findall('job=~"([^"]+)"', rules))
    monitors = [each for each in manifests(of_kustomize("standalone-portal")).values() if each["kind"] == "PodMonitor"]
    assert len(monitors) == 2
    for monitor in monitors:
        assert monitor["spec"]["selector"] == {}  # labels of applications are their own
        (relabeling,) = monitor["spec"]["podMetricsEndpoints"][0]["relabelings"]
        assert relabeling["targetLabel"] == "job"
        assert re.fullmatch(selected_jobs, relabeling["replacement"].replace("$1", "shop"))
