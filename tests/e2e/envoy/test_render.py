"""What `authz envoy render` writes: Envoy accepts it, `authz envoy check` finds nothing, a renamed key header works."""

import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.clients.raw_http import Answer, send
from support.envoy_faults import DATA
from support.servers.envoys import ext_authz, manager, running_envoy
from support.servers.stack import ROOMY
from typer.testing import CliRunner

from authz.cli.app import app
from authz.demo.servers import free_port, package_folder, shipped
from authz.demo.stack import Stack

HEADER = "x-shop-token"
POLICY = shipped("policies/truetick.yaml")
RUNNER = CliRunner()


def render(*arguments: object, policy: Path = POLICY) -> str:
    result = RUNNER.invoke(app, ["envoy", "render", "--policy", str(policy), *map(str, arguments)])
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout


def assert_sound(file: Path, policy: Path) -> None:
    found = RUNNER.invoke(app, ["envoy", "check", str(file), "--policy", str(policy), "--fail-on", "warning"])
    assert found.exit_code == 0, found.output
    envoy = package_folder("envoy") / "_bin" / "envoy"
    command: list[str | Path] = [envoy, "--mode", "validate", "-c", file]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"AUTHZ_PORTAL_PROXY_SECRET": "x"})
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def renamed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped policy with another header for the key."""
    file = tmp_path_factory.mktemp("policy") / "policy.yaml"
    file.write_text(POLICY.read_text().replace("header: x-api-key", f"header: {HEADER}"))
    return file


@pytest.mark.parametrize("name", ["", "tls-redirect", "shipped"])
def test_envoy_accepts_the_result(name: str, renamed: Path, folder: Path) -> None:
    base = shipped("envoy.yaml") if name == "shipped" else DATA / "sound" / f"{name}.yaml"
    text = render(*(["--merge", base] if name else []), policy=renamed)
    file = folder / "envoy.yaml"
    file.write_text(text)
    assert_sound(file, renamed)
    again = render("--merge", file, policy=renamed)
    assert yaml.safe_load(again) == yaml.safe_load(text)
    if name:
        kept = [line for line in base.read_text().splitlines() if line.lstrip().startswith("#")]
        assert [line for line in kept if line not in text] == []


def test_a_merge_keeps_clusters_and_routes_and_adds_what_is_missing() -> None:
    base = DATA / "sound" / "plain.yaml"
    merged = yaml.safe_load(render("--merge", base))
    (listener,) = merged["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    assert manager["path_with_escaped_slashes_action"] == "UNESCAPE_AND_REDIRECT"
    assert [each["name"] for each in manager["http_filters"]] == [
        "envoy.filters.http.header_mutation",
        "envoy.filters.http.ext_authz",
        "envoy.filters.http.router",
    ]
    assert manager["http_filters"][1]["typed_config"]["grpc_service"]["envoy_grpc"] == {"cluster_name": "sidecar"}
    names = [cluster["name"] for cluster in merged["static_resources"]["clusters"]]
    assert names == ["sidecar", "app", "authz-streams"]
    (host,) = manager["route_config"]["virtual_hosts"]
    assert [route["route"]["cluster"] for route in host["routes"]] == ["app", "app", "app", "app"]
    assert host["routes"][-1] == {"match": {"prefix": "/"}, "route": {"cluster": "app"}}


def test_the_local_replies_are_those_of_the_older_command() -> None:
    policy = str(POLICY)
    older = RUNNER.invoke(app, ["policy", "envoy", policy])
    assert render("--local-replies") == older.stdout


def test_wrong_addresses_and_files_are_named(folder: Path) -> None:
    policy = ["--policy", str(POLICY)]
    (folder / "bad.yaml").write_text("a: [")
    for arguments in (["--authz", "nowhere"], ["--backend", "a:b"], ["--merge", str(folder / "bad.yaml")]):
        assert RUNNER.invoke(app, ["envoy", "render", *policy, *arguments]).exit_code == 2


@pytest.fixture(scope="module")
def stack(renamed: Path) -> Iterator[Stack]:
    stack = Stack(env={"AUTHZ_POLICY_FILE": str(renamed)}, ping_s=0.2)
    # The stack's own Envoy has the shipped header; it is not used.
    stack.start()
    yield stack
    stack.stop()


def rendered(stack: Stack, renamed: Path) -> Any:  # noqa: ANN401 -- YAML
    """Return the rendered configuration for a stack, on free ports."""
    authz, backend = f"127.0.0.1:{stack.check_ports[0]}", stack.backend_url.removeprefix("http://")
    config: Any = yaml.safe_load(render("--authz", authz, "--backend", backend, policy=renamed))
    config["admin"]["address"]["socket_address"]["port_value"] = free_port()
    (listener,) = config["static_resources"]["listeners"]
    listener["address"] = {"socket_address": {"address": "127.0.0.1", "port_value": free_port()}}
    return config


@pytest.fixture(scope="module")
def config(stack: Stack, renamed: Path) -> Any:  # noqa: ANN401 -- YAML
    return rendered(stack, renamed)


@pytest.fixture(scope="module")
def edge(config: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:  # noqa: ANN401 -- YAML
    """A real Envoy with the rendered configuration."""
    with running_envoy(tmp_path_factory.mktemp("envoy"), config) as url:
        yield url


def settled(edge: str, method: str, path: str, *headers: tuple[str, str], body: bytes = b"") -> Answer:
    """Send until authz is in reach of the Envoy."""
    while (answer := send(edge, method, path, *headers, body=body)).status == 503:
        pass
    return answer


def test_a_renamed_key_header_needs_no_second_place(edge: str, stack: Stack) -> None:
    secret = stack.create_key("all", "servers:read", "servers:write", limit=ROOMY).secret
    assert settled(edge, "GET", "/v1/servers", (HEADER, secret)).status == 200
    assert settled(edge, "GET", "/v1/servers").status == 401
    assert settled(edge, "GET", "/v1/servers", ("x-api-key", secret)).status == 401
    alias = HEADER.replace("-", ".", 1)
    assert settled(edge, "GET", "/v1/servers", (alias, secret)).status == 401


def test_the_body_of_the_row_is_checked(edge: str, stack: Stack) -> None:
    secret = stack.create_key("all", "servers:read", "servers:write", limit=ROOMY).secret
    headers = ((HEADER, secret), ("content-type", "application/json"))
    own = json.dumps({"accountId": stack.account_id, "name": "a"}).encode()
    assert settled(edge, "POST", "/v1/servers", *headers, body=own).status in {200, 201}
    other = json.dumps({"accountId": "acct_other", "name": "a"}).encode()
    assert settled(edge, "POST", "/v1/servers", *headers, body=other).status == 403


@pytest.mark.usefixtures("edge")
def test_the_dump_of_the_running_envoy_has_no_finding(config: Any, renamed: Path) -> None:  # noqa: ANN401 -- YAML
    port = config["admin"]["address"]["socket_address"]["port_value"]
    dump = f"http://127.0.0.1:{port}/config_dump"
    found = RUNNER.invoke(app, ["envoy", "check", dump, "--policy", str(renamed), "--fail-on", "warning"])
    assert (found.exit_code, found.output) == (0, f"{dump}: 0 errors, 0 warnings, 0 notes\n")
    other = RUNNER.invoke(app, ["envoy", "check", dump, "--policy", str(POLICY)])
    assert other.exit_code == 1
    assert "authz does not see x-api-key" in other.output


def gaps(stack: Stack) -> dict[str, int]:
    with urllib.request.urlopen(f"{stack.admin_url}/metrics", timeout=5) as page:  # noqa: S310 -- the stack's address
        text = page.read().decode()
    found = re.findall(r'^authz_envoy_gaps_total\{gap="([a-z_]+)"\} ([0-9]+)', text, re.MULTILINE)
    return {name: int(count) for name, count in found}


def test_a_sidecar_says_once_what_envoy_lacks(edge: str, stack: Stack, renamed: Path, folder: Path) -> None:
    secret = stack.create_key("all", "servers:read", limit=ROOMY).secret
    assert settled(edge, "GET", "/v1/servers", (HEADER, secret), ("x-authz-scopes", "a")).status == 200
    assert set(gaps(stack).values()) == {0}
    config = rendered(stack, renamed)
    del manager(config)["early_header_mutation_extensions"]
    del manager(config)["common_http_protocol_options"]
    del ext_authz(manager(config))["allowed_headers"]
    del ext_authz(manager(config))["encode_raw_headers"]
    with running_envoy(folder, config) as url:
        for _ in range(2):
            assert settled(url, "GET", "/v1/servers", (HEADER, secret), ("x-authz-scopes", "a")).status == 200
            assert settled(url, "GET", "/v1/servers", (HEADER, secret), ("x_authz_scopes", "a")).status == 400
            assert settled(url, "GET", "/v1/servers", (HEADER, secret), (HEADER, secret)).status == 401
    counted = gaps(stack)
    assert counted["raw_headers"] >= 6
    assert (counted["identity_header"], counted["header_alias"]) == (2, 2)
    rules, ends_s = ("EA211", "EA221", "EA223"), time.monotonic() + 5
    lines: list[str] = []
    # The log has a thread of its own, which gathers lines before it writes them.
    while time.monotonic() < ends_s and not all(any(rule in line for line in lines) for rule in rules):
        lines = (stack.folder / "authz.log").read_text().splitlines()
    assert [sum(rule in line for line in lines) for rule in rules] == [1, 1, 1]
    assert not any(secret in line for line in lines)
