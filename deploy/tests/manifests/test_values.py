"""Values of the chart: what contradicts itself or Kubernetes is refused in a line that names the value.

What the rendered manifests mean is in `test_manifests.py`. All cases are rendered in one process.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
Values = dict[str, Any]
Rendered = dict[str, Any]

POD: Values = {"containers": [{"name": "web", "image": "web:1"}]}
RELEASES = ["123", "1e3", "0x1f", "true", "null", "a" * 53]
TEXTS = [
    " leading: 1\n",
    "\n\n  indented\n",
    "a: 1",
    "a: 1\n\n\n",
    "a: 1\r\nb: 2\r\n",
    "x: '{{ .Values.env }}' # {{ fail \"no\" }}\n",
    "%YAML 1.2\n---\na: 1\n...\n",
    "# ünï → 😀\u2028\n",
    "trailing   \n   \n  x\n",
    "- '\"\\\n",
    "null",
    "1e3",
    "x: \u0007bell\n",
    "&amp; <script> !!x *a @`\n",
]


def app(pod: Values, **more: object) -> Values:
    return {"mode": "sidecar", "sidecar": {"app": {"name": "web", "pod": pod, **more}}}


# What the line says, and the values.
REFUSED: list[tuple[str, Values]] = [
    ("/standalone/replicas", {"standalone": {"replicas": 0}}),
    ("/standalone/replicas", {"standalone": {"replicas": "3"}}),
    (
        "standalone.replicasMax (2) is less than standalone.replicas (5)",
        {"standalone": {"replicas": 5, "replicasMax": 2}},
    ),
    ("/standalone/clients", {"standalone": {"clients": []}}),
    ("/portal/clients", {"portal": {"clients": []}}),
    # Null takes a default away, and nothing as clients is everybody.
    ("missing property 'clients'", {"standalone": {"clients": None}}),
    ("missing property 'standalone'", {"standalone": None}),
    ("missing property 'ports'", {"stores": {"ports": None}}),
    ("/cpuLimit", {"cpuLimit": 2}),
    ("/standalone/clients/0", {"standalone": {"clients": [{}]}}),
    ("'secret' not allowed", {"standalone": {"tls": {"secret": "authz-tls"}}}),
    ("/standalone/tls/clientNames/0", {"standalone": {"tls": {"clientNames": ["a,b"]}}}),
    ("/stores/secretName", {"stores": {"secretName": "My_Secret"}}),
    ("/stores/secretName", {"stores": {"secretName": "{{ .Release.Name }}"}}),
    ("/adminTls/secretName", {"adminTls": {"secretName": "Not a name"}}),
    ("'clientCa' not allowed", {"adminTls": {"secretName": "authz-admin-tls", "clientCa": True}}),
    ("/image/tag", {"image": {"tag": 1.1}}),
    ("/image/tag", {"image": {"tag": "1 # newest"}}),
    ("/image/digest", {"image": {"digest": "sha256:abc"}}),
    ("/imagePullSecrets/0", {"imagePullSecrets": ["registry"]}),
    ("/imagePullSecrets/0", {"imagePullSecrets": [{"secretName": "registry"}]}),
    ("/resources/cpu", {"resources": {"cpu": "200Mi"}}),
    ("/resources/memory", {"resources": {"memory": "160m"}}),
    ("/resources/memory", {"resources": {"memory": "160"}}),
    ("AUTHZ_ADMIN_CLIENT_CA_FILE", {"env": {"AUTHZ_ADMIN_CLIENT_CA_FILE": "/etc/ca.crt"}}),
    ("env.AUTHZ_DRAIN_GRACE_S is the value drain.graceSeconds", {"env": {"AUTHZ_DRAIN_GRACE_S": "3"}}),
    ("env.AUTHZ_CHECK_PLAIN_TEXT", {"env": {"AUTHZ_CHECK_PLAIN_TEXT": True}}),
    ("/env/AUTHZ_LOG_LEVEL", {"env": {"AUTHZ_LOG_LEVEL": None}}),
    ("teams/orders.yaml", {"policy": {"text": "x", "files": {"teams/orders.yaml": "x"}}}),
    ("..data", {"policy": {"text": "x", "files": {"..data": "x"}}}),
    ("policy.yaml", {"policy": {"text": "x", "files": {"policy.yaml": "x"}}}),
    ("policy.files needs policy.text", {"policy": {"files": {"orders.yaml": "x"}}}),
    ("1000001 bytes", {"policy": {"text": "x" * 999_999, "files": {"orders.yaml": "xx"}}}),
    ("/sidecar/app/name", app(POD, name="a" * 64)),
    ("/sidecar/app/name", app(POD, name="1web")),
    ("sidecar.app.name is authz-portal", app(POD, name="authz-portal")),
    ("sidecar.port and sidecar.app.port are both 8000", app(POD, port=8000)),
    ("sidecar.app.port is 9090", app(POD, port=9090)),
    ("sidecar.app.pod.containers is empty", app({})),
    ("container named envoy", app({"containers": [{"name": "envoy", "image": "web:1"}]})),
    ("volume named authz-stores", app({**POD, "volumes": [{"name": "authz-stores", "emptyDir": {}}]})),
    ("sidecar.app.pod.hostNetwork", app({**POD, "hostNetwork": True})),
    ("sidecar.app.pod.hostPID", app({**POD, "hostPID": True})),
    ("sidecar.app.pod.shareProcessNamespace", app({**POD, "shareProcessNamespace": True})),
    ("/pods/annotations/a", {"pods": {"annotations": {"a": True}}}),
    ("'spec' not allowed", {"pods": {"spec": {}}}),
    ("sidecar.app.pod.terminationGracePeriodSeconds", app({**POD, "terminationGracePeriodSeconds": 5})),
    ("/portal/publicUrl", {"portal": {"publicUrl": "https://api example"}}),
]
ACCEPTED: dict[str, Values] = {
    "numbers": {
        "env": {"AUTHZ_DEGRADE_KEYS_MAX": 1_000_000, "AUTHZ_LOG_ALLOW_SAMPLE": 0.01, "AUTHZ_ADMIN_DEBUG": True}
    },
    "digests": {"image": {"repository": "registry.example:5000/a/authz", "digest": f"sha256:{'a' * 64}"}},
    "secrets": {
        "stores": {"secretName": "123", "caSecretName": "true"},
        "portal": {"enabled": True, "secretName": "1e3"},
    },
    "ports": {"stores": {"ports": [26379, 5432]}, "network": {"dnsPorts": [5353], "egressPorts": [4318]}},
    "pod": {
        **app({**POD, "enableServiceLinks": True, "imagePullSecrets": [{"name": "own"}]}),
        "imagePullSecrets": [{"name": "all"}],
    },
    "pods": {
        "portal": {"enabled": True},
        "pods": {
            "labels": {"team": "1e3", "app.kubernetes.io/name": "mine"},
            "annotations": {"note": '{{ fail "no" }}: "x" # y\n', "sidecar.istio.io/inject": "false"},
            "nodeSelector": {"disk": "true"},
            "tolerations": [{"key": "edge", "operator": "Exists"}],
            "priorityClassName": "high",
        },
    },
    "no delay": {"drain": {"delaySeconds": 0}, "portal": {"enabled": True}},
    "quota": {"cpuLimit": "2", "portal": {"enabled": True}},
    "ipv6": {"mode": "sidecar", "sidecar": {"envoy": {"ipv6": True}}},
    "swapped ports": {"mode": "sidecar", "sidecar": {"port": 8081, "app": {"name": "web", "pod": POD, "port": 3000}}},
    # What `helm upgrade --reuse-values` of 0.2.0 leaves out, and what it keeps.
    "reused": {
        "image": {"digest": None},
        "policy": {"files": None},
        "adminTls": None,
        "network": None,
        "pods": None,
        "cpuLimit": None,
        "portal": {"enabled": True, "image": {"digest": None}, "mailNotices": None, "mailPorts": None},
    },
    "defaults": {"portal": {"enabled": True}},
}


@pytest.fixture(scope="module")
def results() -> list[Rendered]:
    """The results of all cases: those of the lists above, in their order."""
    cases = [{"release": "authz", "values": values} for values in (*(it for _, it in REFUSED), *ACCEPTED.values())]
    cases += [{"release": release, "values": {"portal": {"enabled": True}}} for release in RELEASES]
    policies = [{"text": text, "files": {"orders.yaml": text}} for text in TEXTS]
    cases += [{"release": "authz", "values": {"policy": policy}} for policy in policies]
    command = [ROOT / ".venv/tools/manifests/bin/python", Path(__file__).with_name("render_cases.py")]
    done = subprocess.run(command, input=json.dumps(cases), check=True, capture_output=True, text=True)
    rendered: list[Rendered] = json.loads(done.stdout)
    assert len(rendered) == len(REFUSED) + len(ACCEPTED) + len(RELEASES) + len(TEXTS)
    return rendered


@pytest.fixture(scope="module")
def accepted(results: list[Rendered]) -> dict[str, dict[str, Values]]:
    found = dict(zip(ACCEPTED, results[len(REFUSED) :], strict=False))
    return {name: named(result) for name, result in found.items()}


def named(result: Rendered) -> dict[str, Values]:
    assert "error" not in result, result
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in result["documents"]}


def pod_of(manifest: Values) -> Values:
    pod: Values = manifest["spec"]["template"]["spec"]
    return pod


def environment(manifest: Values) -> dict[str, str]:
    containers = [*pod_of(manifest)["containers"], *pod_of(manifest).get("initContainers", [])]
    return {each["name"]: each.get("value", "") for container in containers for each in container.get("env", [])}


@pytest.mark.parametrize("number", range(len(REFUSED)), ids=[said for said, _ in REFUSED])
def test_values_that_contradict_are_refused_in_a_line_that_names_them(results: list[Rendered], number: int) -> None:
    assert REFUSED[number][0] in results[number].get("error", "")


@pytest.mark.parametrize("number", range(len(RELEASES)), ids=RELEASES)
def test_the_name_of_a_release_is_text_in_every_label(results: list[Rendered], number: int) -> None:
    result = results[len(REFUSED) + len(ACCEPTED) + number]
    assert named(result)
    for each in result["documents"]:
        labels = each["metadata"].get("labels", {})
        assert labels["app.kubernetes.io/instance"] == RELEASES[number]


@pytest.mark.parametrize("number", range(len(TEXTS)))
def test_a_policy_arrives_as_it_is_whatever_characters_it_has(results: list[Rendered], number: int) -> None:
    config = named(results[len(REFUSED) + len(ACCEPTED) + len(RELEASES) + number])["ConfigMap/authz-policy"]
    assert config["data"] == {"policy.yaml": TEXTS[number], "orders.yaml": TEXTS[number]}


def test_numbers_arrive_as_they_are_written(accepted: dict[str, dict[str, Values]]) -> None:
    seen = environment(accepted["numbers"]["Deployment/authz"])
    assert [seen[name] for name in ACCEPTED["numbers"]["env"]] == ["1000000", "0.01", "true"]


def test_a_digest_takes_the_place_of_the_tag(accepted: dict[str, dict[str, Values]]) -> None:
    image = f"registry.example:5000/a/authz@sha256:{'a' * 64}"
    for name in ("Deployment/authz", "Job/authz-migrate"):
        assert pod_of(accepted["digests"][name])["containers"][0]["image"] == image


def test_names_of_secrets_are_texts(accepted: dict[str, dict[str, Values]]) -> None:
    volumes = pod_of(accepted["secrets"]["Deployment/authz-portal"])["volumes"]
    assert {each["secret"]["secretName"] for each in volumes if "secret" in each} == {"123", "true", "1e3"}


def test_the_network_policies_admit_the_ports_that_are_named(accepted: dict[str, dict[str, Values]]) -> None:
    for name in ("NetworkPolicy/authz", "NetworkPolicy/authz-migrate"):
        egress = accepted["ports"][name]["spec"]["egress"]
        assert {port["port"] for rule in egress for port in rule["ports"]} == {5353, 26379, 5432, 4318}


def test_a_pod_of_ones_own_keeps_what_it_has(accepted: dict[str, dict[str, Values]]) -> None:
    pod = pod_of(accepted["pod"]["Deployment/web"])
    assert pod["imagePullSecrets"] == [{"name": "all"}, {"name": "own"}]
    assert (pod["enableServiceLinks"], pod["hostNetwork"]) == (False, False)


def test_the_service_of_an_application_leads_to_envoy_by_number(accepted: dict[str, dict[str, Values]]) -> None:
    (port,) = accepted["swapped ports"]["Service/web"]["spec"]["ports"]
    assert port["targetPort"] == 8081


def test_envoy_listens_on_the_port_that_the_application_has_by_default(accepted: dict[str, dict[str, Values]]) -> None:
    config = accepted["swapped ports"]["ConfigMap/authz-envoy"]["data"]["envoy.yaml"]
    assert config.count("address: 0.0.0.0, port_value: 8081}") == 1
    assert config.count("address: 127.0.0.1, port_value: 3000}") == 2


def test_pods_have_what_the_site_adds_and_keep_the_labels_of_their_selectors(
    accepted: dict[str, dict[str, Values]],
) -> None:
    added = ACCEPTED["pods"]["pods"]
    for name in ("Deployment/authz", "Deployment/authz-portal", "Job/authz-migrate"):
        pod, metadata = pod_of(accepted["pods"][name]), accepted["pods"][name]["spec"]["template"]["metadata"]
        assert {each: pod[each] for each in ("nodeSelector", "tolerations", "priorityClassName")} == {
            each: added[each] for each in ("nodeSelector", "tolerations", "priorityClassName")
        }
        assert metadata["annotations"].items() >= added["annotations"].items()
        assert metadata["labels"]["team"] == "1e3"
        assert metadata["labels"]["app.kubernetes.io/name"] == "authz"


def test_a_drain_without_a_delay_has_no_hook(accepted: dict[str, dict[str, Values]]) -> None:
    # Kubernetes before 1.33 refuses to sleep for no time.
    assert "lifecycle" not in pod_of(accepted["no delay"]["Deployment/authz-portal"])["containers"][0]


def test_a_limit_of_cpu_is_one_of_every_container(accepted: dict[str, dict[str, Values]]) -> None:
    for name in ("Deployment/authz", "Deployment/authz-portal", "Job/authz-migrate"):
        assert {each["resources"]["limits"]["cpu"] for each in pod_of(accepted["quota"][name])["containers"]} == {"2"}
        assert "cpu" not in pod_of(accepted["defaults"][name])["containers"][0]["resources"]["limits"]


def test_envoy_listens_on_both_families_of_addresses_if_asked(accepted: dict[str, dict[str, Values]]) -> None:
    (listener,) = yaml.safe_load(accepted["ipv6"]["ConfigMap/authz-envoy"]["data"]["envoy.yaml"])["static_resources"][
        "listeners"
    ]
    assert listener["address"]["socket_address"] == {"address": "::", "ipv4_compat": True, "port_value": 8000}


def test_the_migration_may_connect_before_it_runs(accepted: dict[str, dict[str, Values]]) -> None:
    policy, job = (
        accepted["defaults"][f"{kind}/authz-migrate"]["metadata"]["annotations"] for kind in ("NetworkPolicy", "Job")
    )
    assert policy["helm.sh/hook"] == job["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert int(policy["helm.sh/hook-weight"]) < int(job.get("helm.sh/hook-weight", "0"))
    assert "hook-succeeded" in policy["helm.sh/hook-delete-policy"]


def test_reused_values_of_the_release_before_give_the_defaults(accepted: dict[str, dict[str, Values]]) -> None:
    assert accepted["reused"] == accepted["defaults"]


def test_every_listener_of_a_pod_is_on_both_families_of_addresses(accepted: dict[str, dict[str, Values]]) -> None:
    for name in ("Deployment/authz", "Deployment/authz-portal"):
        listen = {value for each, value in environment(accepted["defaults"][name]).items() if each.endswith("_LISTEN")}
        assert listen
        assert all(value.startswith("[::]:") for value in listen)
