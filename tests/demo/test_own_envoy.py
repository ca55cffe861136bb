"""Envoy's configuration for one's own API: real Envoy accepts it, and nothing of the sample is left in it."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from authz.adapters.envoy_config.backend import Backend, parsed_backend
from authz.adapters.policy_file.loader import load_policy
from authz.cli.envoy.rendering import rendered
from authz.demo.servers import package_folder, shipped

POLICY = """
version: 1
api: {{name: acme, domain: acme.example}}
keys: {{header: {header}, prefix: acme_, active_max: 5}}
limit: {{capacity: 10, refill_per_s: 1}}
scopes:
  a:write: {{description: A., write: true}}
streams:
  events: {{per_key: 1, per_account: 1, ttl_s: 60}}
routes:
  - {{scope: a:write, match: ["GET /v1/{{id}}/events", "GET /v1/all/**"], stream: events, errors: text}}
  - {{scope: a:write, match: ["POST /v1/{{id}}:start", "PUT /v1/x.y"], account: "body:account_id"}}
  - {{scope: a:write, match: /acme.v1.Service/Watch, stream: events}}
  - {{access: public, match: GET /}}
"""
SHIPPED = shipped("envoy.yaml").read_text()


def written(folder: Path, header: str = "x-acme-key", backend: str = "http://127.0.0.1:3000") -> str:
    path = folder / "policy.yaml"
    path.write_text(POLICY.format(header=header))
    text = rendered(load_policy(path), parsed_backend(backend))
    (folder / "envoy.yaml").write_text(text)
    return text


def routes(text: str) -> list[dict[str, Any]]:
    (listener,) = yaml.safe_load(text)["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    found: list[dict[str, Any]] = manager["route_config"]["virtual_hosts"][0]["routes"]
    return found


@pytest.mark.parametrize(
    ("header", "backend"),
    [
        ("x-api-key", "http://127.0.0.1:3000"),
        ("x-acme-key", "http://api.internal:3000"),
        ("token", "https://api.example"),
        ("x-a-b-c-d", "https://[::1]:8443"),
    ],
)
def test_envoy_accepts_the_configuration(header: str, backend: str, tmp_path: Path) -> None:
    text = written(tmp_path, header, backend)
    binary = package_folder("envoy") / "_bin" / "envoy"
    ended = subprocess.run(
        [binary, "--mode", "validate", "-c", tmp_path / "envoy.yaml"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    for word in ("truetick", "portal", "PORTAL", "/v1/servers", *([] if header == "x-api-key" else ["x-api-key"])):
        assert word not in text, word


def test_every_security_comment_outside_the_portal_stays(tmp_path: Path) -> None:
    def comments(text: str) -> set[str]:
        return {line.strip() for line in text.splitlines() if "SECURITY:" in line}

    gone = comments(SHIPPED) - comments(written(tmp_path, "x-api-key"))
    assert all(any(word in line for word in ("portal", "dashboard", "binds this route")) for line in gone), gone


def test_streams_and_bound_bodies_have_routes_of_their_own(tmp_path: Path) -> None:
    found = {matched(route): route for route in routes(written(tmp_path))}
    assert list(found)[-1] == "everything"
    assert found["GET /v1/all(/[^?]*)?([?].*)?"]["route"]["timeout"] == "0s"
    assert found["GET /v1/[^/?]+/events([?].*)?"]["route"]["timeout"] == "0s"
    for path in ("POST /v1/[^/?]+:start([?].*)?", r"PUT /v1/x\.y([?].*)?"):
        settings = found[path]["typed_per_filter_config"]["envoy.filters.http.ext_authz"]["check_settings"]
        assert settings["with_request_body"]["pack_as_bytes"] is True


def matched(route: dict[str, Any]) -> str:
    match = route["match"]
    headers = {each["name"]: each["string_match"] for each in match.get("headers", ())}
    if ":path" in headers:
        return f"{headers[':method']['exact']} {headers[':path']['safe_regex']['regex']}"
    return "grpc" if "grpc" in match else "everything"


def test_other_spellings_of_the_header_are_removed(tmp_path: Path) -> None:
    text = written(tmp_path, "x-acme-key")
    assert 'regex: "x[^a-z0-9-]acme[^a-z0-9]key|x-acme[^a-z0-9-]key"' in text


def test_grpc_streams_go_to_the_grpc_backend(tmp_path: Path) -> None:
    found = {matched(route): route for route in routes(written(tmp_path))}
    watch = found[r"POST /acme\.v1\.Service/Watch([?].*)?"]["route"]
    assert (watch["cluster"], watch["timeout"]) == ("backend-grpc", "0s")
    assert found["GET /v1/[^/?]+/events([?].*)?"]["route"]["cluster"] == "backend"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://127.0.0.1:3000", Backend("127.0.0.1", 3000)),
        ("api.internal:8080", Backend("api.internal", 8080)),
        ("https://api.example/", Backend("api.example", 443, is_tls=True)),
        ("http://[::1]:80", Backend("::1", 80)),
        ("api", Backend("api", 80)),
    ],
)
def test_an_address_is_read(text: str, expected: Backend) -> None:
    assert parsed_backend(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "http://", "ftp://a", "http://a/b", "http://a?b", "http://u:p@a", "http://a:99999", "a b", "http://a\n:1"],
)
def test_any_other_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parsed_backend(text)
