"""Each form of a key through a real Envoy: what is accepted, and what of it the backend sees."""

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from support.clients.raw_http import send, send_settled
from support.servers.echo_backend import echo_backend
from support.servers.envoys import running_envoy
from typer.testing import CliRunner

from authz.adapters.envoy_config.backend import Backend
from authz.adapters.policy_file.loader import load_policy
from authz.cli.app import app
from authz.cli.envoy.rendering import rendered
from authz.core.accounts import NewApiKey
from authz.demo.envoy import configured
from authz.demo.servers import free_port
from authz.demo.stack import ACTOR, Stack
from authz.service.keys.admin import KeyRequest

GRAMMAR_2 = Path(__file__).parents[1] / "data" / "grammar2.yaml"
MORE = """trailing_slash: same
routes:
  - {scope: orders:write, match: POST /drafts, account: "body:account_id", errors: text}
"""
Header = tuple[str, str]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("policy") / "policy.yaml"
    file.write_text(GRAMMAR_2.read_text().replace("routes:\n", MORE))
    return file


@pytest.fixture(scope="module")
def stack(policy: Path) -> Iterator[Stack]:
    stack = Stack(env={"AUTHZ_POLICY_FILE": str(policy)})
    stack.settings = stack.settings.model_copy(update={"policy_file": policy})
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def url(stack: Stack, policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Envoy with the configuration that `authz envoy render`, `authz init` and `authz demo --policy` write."""
    folder = tmp_path_factory.mktemp("envoy")
    with ExitStack() as running:
        _, port = running.enter_context(echo_backend())
        text = rendered(load_policy(policy), Backend("127.0.0.1", port), address=f"127.0.0.1:{stack.check_ports[0]}")
        assert_sound(text, policy, folder)
        config = configured(yaml.safe_load(text), port=free_port(), admin_port=free_port(), clusters={})
        url = running.enter_context(running_envoy(folder, config))
        send_settled(url, "GET", "/")
        yield url


def assert_sound(text: str, policy: Path, folder: Path) -> None:
    """`authz envoy check` has no error and no warning, and only the notes that underscores and Basic deserve."""
    file = folder / "envoy.yaml"
    file.write_text(text)
    checked = CliRunner().invoke(app, ["envoy", "check", str(file), "--policy", str(policy), "--format", "json"])
    found = json.loads(checked.stdout)
    assert [(it["rule"], it["severity"]) for it in found["findings"]] == [("EA223", "note")]


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


def test_a_slash_at_the_end_is_the_same_row_for_authz_and_envoy(url: str, trial: str, stack: Stack) -> None:
    headers = (("x-api-key", trial), ("content-type", "application/json"))
    for path in ("/api/v3/drafts", "/api/v3/drafts/"):
        own = json.dumps({"account_id": stack.account_id}).encode()
        assert send(url, "POST", path, *headers, body=own).status == 200
        other = send(url, "POST", path, *headers, body=b'{"account_id":"acct_other"}')
        assert (other.status, dict(other.headers)["content-type"]) == (403, "text/plain; charset=utf-8")
    assert send(url, "GET", "/api/v3/orders/", ("x-api-key", trial)).status == 200


def test_envoys_own_responses_are_problems(url: str) -> None:
    answer = send(url, "GET", "/api/v3/orders%2F")
    assert (answer.status, dict(answer.headers)["content-type"]) == (400, "application/problem+json")


def test_another_spelling_of_a_key_header_is_not_passed_on(url: str, live: str) -> None:
    for alias in ("x.api-key", "api.key", "api~key", "x-api.key"):
        assert send(url, "GET", "/api/v3/orders", (alias, live)).status in {400, 401}
        answer = send(url, "GET", "/api/v3/orders", (alias, live), ("x-api-key", live))
        assert answer.status == 400 or alias not in seen(answer.body)
