"""Each form of a key through a real Envoy: what is accepted, and what of it the backend sees."""

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.clients.raw_http import send
from support.servers.echo_backend import echo_backend
from support.servers.envoys import ext_authz, manager, running_envoy, shipped_config

from authz.core.accounts import NewApiKey
from authz.demo.stack import ACTOR, Stack
from authz.service.keys.admin import KeyRequest

POLICY = Path(__file__).parents[1] / "data" / "grammar2.yaml"
Header = tuple[str, str]


def documented(config: Any) -> None:  # noqa: ANN401 -- YAML
    """Change the shipped configuration as docs/policy.md says for these headers."""
    connections = manager(config)
    connections["common_http_protocol_options"]["headers_with_underscores_action"] = "ALLOW"
    authorization = ext_authz(connections)
    authorization["allowed_headers"]["patterns"] += [{"exact": "api_key"}, {"exact": "authorization"}]
    rules = authorization["decoder_header_mutation_rules"]
    rules["allow_expression"]["regex"] += "|api_key|authorization"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    stack = Stack(env={"AUTHZ_POLICY_FILE": str(POLICY)})
    stack.settings = stack.settings.model_copy(update={"policy_file": POLICY})
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def url(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ExitStack() as running:
        _, port = running.enter_context(echo_backend())
        config = shipped_config(stack.check_ports, port)
        yield running.enter_context(running_envoy(tmp_path_factory.mktemp("envoy"), config, documented))


def new_key(stack: Stack, environment: str, *scopes: str) -> NewApiKey:
    request = KeyRequest(stack.account_id, "key", frozenset(scopes), environment=environment)
    return stack.administer(lambda admin: admin.create_key(request, ACTOR))


@pytest.fixture(scope="module")
def live(stack: Stack) -> str:
    return new_key(stack, "live", "orders:read").secret


@pytest.fixture(scope="module")
def trial(stack: Stack) -> str:
    return new_key(stack, "test", "orders:read", "orders:write").secret


def basic(name: str, password: str = "") -> str:
    return b64encode(f"{name}:{password}".encode()).decode()


FORMS: dict[str, Callable[[str], Header]] = {
    "plain": lambda key: ("x-api-key", key),
    "underscore": lambda key: ("api_key", key),
    "bearer": lambda key: ("authorization", f"Bearer {key}"),
    "bearer in lower case": lambda key: ("authorization", f"bearer {key}"),
    "basic": lambda key: ("authorization", f"Basic {basic(key)}"),
}


def seen(body: bytes) -> dict[str, str]:
    """Return the headers of the request that the backend got."""
    return {name.lower(): value for name, value in json.loads(body)["headers"]}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_accepted_and_no_form_reaches_the_backend(url: str, live: str, trial: str, form: str) -> None:
    assert live.startswith("sk_live_")
    assert trial.startswith("sk_test_")
    for key, environment in ((live, "live"), (trial, "test")):
        forged = ("x-authz-environment", "root")
        answer = send(url, "GET", "/api/v3/orders", FORMS[form](key), forged)
        assert answer.status == 200, answer.body
        headers = seen(answer.body)
        assert headers["x-authz-environment"] == environment
        assert not {"x-api-key", "api_key", "authorization"} & headers.keys()
        assert key not in answer.body.decode()


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", "Digest {key}")],
        [("authorization", "{key}")],
        [("authorization", "Bearer {key}"), ("authorization", "Bearer {key}")],
        [("authorization", "Basic {password}")],
        [("authorization", "Basic !!!")],
        [("x-api-key", "Bearer {key}")],
        [("x-api-key", "wrong"), ("authorization", "Bearer {key}")],
        [],
    ],
)
def test_no_other_form_is_accepted(url: str, live: str, headers: list[Header]) -> None:
    words = {"key": live, "password": basic(live, "secret")}
    answer = send(url, "GET", "/api/v3/orders", *((name, value.format(**words)) for name, value in headers))
    assert answer.status == 401
    assert dict(answer.headers)["content-type"] == "application/problem+json"
    assert json.loads(answer.body)["status"] == 401
    challenges = 'ApiKey realm="shop", Bearer realm="shop", Basic realm="shop"'
    assert dict(answer.headers)["www-authenticate"] == challenges


def test_the_first_header_decides_and_the_others_go_nowhere(url: str, live: str) -> None:
    answer = send(url, "GET", "/api/v3/orders", ("authorization", "Bearer x"), ("x-api-key", live))
    assert answer.status == 200
    assert "authorization" not in seen(answer.body)


def test_an_optional_key_must_be_valid_and_its_owner_is_named(url: str, live: str, stack: Stack) -> None:
    anonymous = send(url, "GET", "/api/v3/catalog", ("x-authz-account-id", "forged"), ("x-authz-environment", "root"))
    assert anonymous.status == 200
    assert not any(name.startswith("x-authz-") for name in seen(anonymous.body))
    known = send(url, "GET", "/api/v3/catalog", ("x-api-key", live))
    assert seen(known.body)["x-authz-account-id"] == stack.account_id
    assert send(url, "GET", "/api/v3/catalog", ("x-api-key", "wrong")).status == 401
    assert send(url, "GET", "/api/v3/catalog", ("authorization", "Negotiate x")).status == 401


def test_several_scopes_together_or_one_of_them(url: str, live: str, trial: str) -> None:
    assert send(url, "POST", "/api/v3/orders/blue", ("x-api-key", trial), ("content-length", "0")).status == 200
    refused = send(url, "POST", "/api/v3/orders/blue", ("x-api-key", live), ("content-length", "0"))
    assert refused.status == 403
    problem = json.loads(refused.body)
    assert problem["detail"] == "missing scope orders:read and orders:write"
    assert problem["scope"] == "orders:read and orders:write"


def test_the_base_path_is_part_of_every_row(url: str, live: str) -> None:
    assert send(url, "GET", "/orders", ("x-api-key", live)).status == 404
    assert send(url, "GET", "/api/v3/admin/x", ("x-api-key", live)).status == 403
    assert send(url, "GET", "/api/v3/status").status == 200


def test_a_rotated_key_keeps_its_environment(stack: Stack, trial: str) -> None:
    key = new_key(stack, "test", "orders:read")
    rotation = stack.administer(lambda admin: admin.rotate(key.key.id, 0, ACTOR))
    assert rotation.made.secret.startswith("sk_test_")
    found = stack.administer(lambda admin: admin.find(rotation.made.key.hint))
    assert [it.id for it in found] == [rotation.made.key.id]
    assert trial.startswith("sk_test_")
