"""No forged identity and no key arrives at an HTTP/1.1 or HTTP/2 backend: as header, alias or trailer, on any row.

Each case runs with the shipped configuration, with the smallest block of docs/envoy.md, and with ext_authz alone.
"""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.clients.raw_h2 import Response, send_h2
from support.clients.raw_http import send_settled
from support.servers.echo_backend import echo_backend
from support.servers.envoys import ext_authz, manager, minimal_config, running_envoy, shipped_config
from support.servers.stack import ROOMY

from authz.core.accounts import AuditEvent
from authz.demo.servers import shipped
from authz.demo.stack import Stack

LATE, RESET = 503, 0
FORGED = "acct_forged"
PLAIN = ["x-authz-account-id", "x-authz-key-id", "x-authz-scopes", "x-authz-proxy", "x-authz-1", "x-authz-"]
ALIASES = ["x_authz_account_id", "x-authz_account-id", "x.authz.scopes", "x-authz-key~id", "x_api_key", "x-api.key"]
ROWS = {
    "public": ("POST", "/v1/public/login"),
    "session": ("GET", "/dashboard/keys"),
    "keyed": ("GET", "/v1/servers/s1"),
    "any": ("GET", "/v1/whoami"),
    "shadow": ("GET", "/v1/shadowed"),
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    policy = yaml.safe_load(shipped("policies/truetick.yaml").read_text())
    policy["routes"].append({"scope": "servers:read", "match": "GET /v1/shadowed", "shadow": True})
    file = tmp_path_factory.mktemp("policy") / "policy.yaml"
    file.write_text(yaml.safe_dump(policy, sort_keys=False))
    stack = Stack(env={"AUTHZ_POLICY_FILE": str(file)})
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def secret(stack: Stack) -> str:
    return stack.create_key("forger", "servers:read", limit=ROOMY).secret


@pytest.fixture(scope="module", params=product(["shipped", "smallest", "alone"], ["HTTP/1.1", "HTTP/2"]), ids="-".join)
def edge(request: pytest.FixtureRequest, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    kind, protocol = request.param
    folder: Path = tmp_path_factory.mktemp("envoy")
    with echo_backend() as (_, port):
        if kind == "shipped":
            config: Any = shipped_config(stack.check_ports, port, http2=protocol == "HTTP/2")
        else:
            config = minimal_config(stack.check_ports, port, http2=protocol == "HTTP/2", trailers=kind == "smallest")
        if kind == "alone":
            del ext_authz(manager(config))["encode_raw_headers"]
        with running_envoy(folder, config) as url:
            yield url


def send(edge: str, row: str, secret: str, *headers: tuple[str, str], **parts: Any) -> Response:  # noqa: ANN401
    method, target = ROWS[row]
    key = [("x-api-key", secret)] if secret and row != "session" else []
    while (response := send_h2(edge, method, target, *key, *headers, **parts)).status == LATE:
        pass
    return response


def arrived(response: Response) -> dict[str, list[str]]:
    """Return the headers and trailers that name an identity or a key, without those that Envoy itself adds."""
    assert response.status == 200, response
    document, found = response.document, dict[str, list[str]]()
    for name, value in [*document["headers"], *document["trailers"]]:
        folded = "".join(each if each.isalnum() else "-" for each in name.lower())
        is_envoys = name in {"x-authz-proxy", "x-authz-client-address"} and value not in {FORGED, "forged"}
        if folded.startswith(("x-authz", "x-api-key")) and not is_envoys:
            found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize("row", ROWS)
def test_no_identity_header_of_a_client_arrives(edge: str, stack: Stack, secret: str, row: str) -> None:
    found = arrived(send(edge, row, secret, *[(name, FORGED) for name in PLAIN for _ in range(2)]))
    if row in {"public", "session"}:
        assert found == {}
    else:
        assert found.pop("x-authz-key-id")[0].startswith("key_")
        assert found == {"x-authz-account-id": [stack.account_id], "x-authz-scopes": ["servers:read"]}


@pytest.mark.parametrize("name", ALIASES)
@pytest.mark.parametrize("row", ROWS)
def test_no_alias_arrives(edge: str, secret: str, row: str, name: str) -> None:
    response = send(edge, row, secret, (name, FORGED))
    assert response.status in {RESET, 400, 200}
    if response.status == 200:
        assert FORGED not in str(response.document)
    method, target = ROWS[row]
    key = [("x-api-key", secret)] if row != "session" else []
    answer = send_settled(edge, method, target, *key, (name.title(), FORGED))
    assert answer.status == (400 if response.status == RESET else response.status)
    assert FORGED.encode() not in answer.body


@pytest.mark.parametrize("content_type", ["application/json", "application/grpc"])
@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("has_underscores", [True, False])
def test_no_trailer_of_a_client_arrives(
    request: pytest.FixtureRequest,
    edge: str,
    secret: str,
    row: str,
    content_type: str,
    has_underscores: bool,  # noqa: FBT001
) -> None:
    names = [*PLAIN, *ALIASES, "x-api-key", "authorization", "x-http-method-override"]
    trailers = [(name, FORGED) for name in names if "_" not in name or has_underscores]
    sent = ("content-type", content_type), ("te", "trailers")
    response = send(edge, row, secret, *sent, body=b"{}", trailers=trailers)
    assert response.status == 200 or (has_underscores and response.status == RESET)
    if response.status == 200:
        # ext_authz cannot remove trailers: without the filter they arrive, so this case would notice if they did.
        is_alone = request.node.callspec.params["edge"] == ("alone", "HTTP/2")
        assert (response.document["trailers"] == []) is not is_alone
        assert (FORGED in str(response.document)) is is_alone


@pytest.mark.parametrize("event", [AuditEvent.KEY_REVOKED, AuditEvent.KEY_DISABLED, None])
def test_a_shadow_row_asserts_no_identity_of_a_key_that_is_not_valid(
    edge: str, stack: Stack, event: AuditEvent | None
) -> None:
    made = stack.create_key("stopped", "servers:read", limit=ROOMY)
    assert arrived(send(edge, "shadow", made.secret))["x-authz-key-id"] == [made.key.id]
    if event is None:
        secret = made.secret[:-1] + ("0" if made.secret[-1] != "0" else "1")
    else:
        stack.change_key(made.key.id, event)
        secret = made.secret
    assert arrived(send(edge, "shadow", secret, ("x-authz-account-id", FORGED))) == {}


def test_too_many_identity_headers_are_refused_or_removed(edge: str, secret: str) -> None:
    response = send(edge, "public", secret, *[(f"x-authz-{number}", FORGED) for number in range(60)])
    assert response.status in {400, 200}
    assert FORGED not in str(response.document)
