"""A real Contour reads the recipe from the API server and configures a real Envoy; `authz envoy check` reads that back.

No traffic passes: the endpoints are addresses of pods that do not exist.
"""

import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from apiserver.cluster import ROOT, Cluster
from apiserver.custom_resources import establish
from typer.testing import CliRunner

from authz.cli.app import app
from authz.demo.servers import Server, free_port, package_folder, shipped

CONTOUR = ROOT / "build/gateways/contour"
RECIPE = ROOT / "deploy/kubernetes/recipes/contour.yaml"
NAMESPACE = "contour-run"
# The sample policy has routes with bodies and with streams.
EXPECTED = {
    **dict.fromkeys(("EA115", "EA117", "EA211", "EA301", "EA401", "EA406", "EA526"), "error"),
    **dict.fromkeys(("EA101", "EA112", "EA203", "EA407", "EA621"), "warning"),
    **dict.fromkeys(("EA116", "EA223", "EA225", "EA226", "EA521", "EA523", "EA601", "EA622"), "note"),
}


@pytest.fixture(scope="module")
def applied(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """The recipe with what it refers to, in a namespace."""
    establish(cluster, "contour")
    cluster.namespace(NAMESPACE)
    folder = tmp_path_factory.mktemp("contour-tls")
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=api.example"]
    files = folder / "tls.crt", folder / "tls.key"
    subprocess.run([*new, "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
    secret = ("create", "secret", "tls", "api-example", f"--cert={files[0]}", f"--key={files[1]}", "-n", NAMESPACE)
    assert cluster.kubectl(*secret).returncode == 0
    for file in (ROOT / "deploy/tests/gateways/around-contour.yaml", RECIPE):
        done = cluster.kubectl("apply", "-n", NAMESPACE, "-f", file)
        assert done.returncode == 0, done.stderr
    return cluster


@pytest.fixture(scope="module")
def dump(applied: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The /config_dump of an Envoy that Contour configures."""
    folder = tmp_path_factory.mktemp("contour")
    xds, health, admin = free_port(), free_port(), free_port()
    addresses = {"xds": xds, "health": health, "http": free_port(), "stats": free_port(), "debug-http": free_port()}
    local = [f"--{name}-{kind}" for name in addresses for kind in ("address=127.0.0.1", f"port={addresses[name]}")]
    entry = [f"--envoy-service-{name}" for name in ("http-address=127.0.0.1", "https-address=127.0.0.1")]
    ports = [f"--envoy-service-{name}-port={free_port()}" for name in ("http", "https")]
    alone = ["--insecure", "--disable-leader-election", f"--kubeconfig={applied.kubeconfig}"]
    contour = Server("contour", [CONTOUR, "serve", *alone, *local, *entry, *ports], folder / "contour.log")
    bootstrap = folder / "bootstrap.json"
    options = ["--xds-address=127.0.0.1", f"--xds-port={xds}", f"--admin-address={folder / 'admin.sock'}"]
    subprocess.run([CONTOUR, "bootstrap", *options, bootstrap], check=True, capture_output=True)
    _open_admin(bootstrap, admin)
    envoy = package_folder("envoy") / "_bin" / "envoy"
    command: list[str | Path] = [
        envoy,
        "-c",
        bootstrap,
        "--service-node",
        "test",
        "--service-cluster",
        "test",
        "--base-id",
        str(xds),
    ]
    server = Server("envoy", command, folder / "envoy.log")
    found = folder / "config_dump.json"

    def is_configured() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{admin}/config_dump", timeout=5) as answer:
                found.write_bytes(answer.read())
        except OSError:
            return False
        configs = list(_with(json.loads(found.read_text()), "route_config"))
        names = {each["route_config"].get("name") for each in configs if "version_info" in each}
        return {"ingress_http", "https/api.example"} <= names

    contour.start(lambda: _answers(f"http://127.0.0.1:{health}/healthz"))
    try:
        server.start(is_configured)
        yield found
    finally:
        server.stop()
        contour.stop()


def test_contour_finds_the_recipe_valid(applied: Cluster, dump: Path) -> None:
    assert dump.exists()
    done = applied.kubectl("get", "httpproxy", "api", "-n", NAMESPACE, "-o", "json")
    assert json.loads(done.stdout)["status"]["currentStatus"] == "valid", done.stdout


def test_every_guarantee_that_the_recipe_names_is_in_envoy(dump: Path) -> None:
    managers = list(_with(json.loads(dump.read_text()), "http_filters"))
    guarded = [each for each in managers if any(one["name"].endswith("ext_authz") for one in each["http_filters"])]
    assert guarded
    for manager in guarded:
        (filter_,) = (each["typed_config"] for each in manager["http_filters"] if each["name"].endswith("ext_authz"))
        assert not filter_.get("failure_mode_allow")
        assert filter_["grpc_service"]["timeout"] == "0.200s"
        assert manager["normalize_path"]
        assert manager["merge_slashes"]


def test_the_checker_reports_exactly_what_the_recipe_does_not_guarantee(dump: Path) -> None:
    policy = str(shipped("policies/truetick.yaml"))
    done = CliRunner().invoke(app, ["envoy", "check", str(dump), "--policy", policy, "--format", "json"])
    findings = json.loads(done.stdout)["findings"]
    assert {finding["rule"]: finding["severity"] for finding in findings} == EXPECTED
    comment = "".join(line for line in RECIPE.read_text().splitlines() if line.startswith("#"))
    assert set(re.findall("EA[0-9]{3}", comment)) == set(EXPECTED)


def _open_admin(bootstrap: Path, port: int) -> None:
    """Give the bootstrap's Envoy an admin interface on loopback."""
    config = yaml.safe_load(bootstrap.read_text())
    config["admin"] = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}
    bootstrap.write_text(json.dumps(config))


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 -- ours
            return int(answer.status) == 200
    except OSError:
        return False


def _with(value: Any, name: str) -> Iterator[dict[str, Any]]:  # noqa: ANN401 -- any JSON
    if isinstance(value, dict):
        if name in value:
            yield value
        for inner in value.values():
            yield from _with(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _with(inner, name)
