"""Floods of bad keys through Envoy: throttled by the address that Envoy vouches for, and good keys left alone."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
import redis
import yaml
from support.clients.raw_http import Answer, send
from support.servers.envoys import ext_authz
from support.servers.stack import ROOMY

from authz.core.keys import KeyFormat
from authz.demo.servers import shipped
from authz.demo.stack import Stack

BURST = 20
FLOODER, OTHER = "127.0.0.2", "127.0.0.3"
_FORMAT = KeyFormat("ttk_")


def strict_policy(folder: Path) -> str:
    policy = yaml.safe_load(shipped("policies/truetick.yaml").read_text())
    policy["invalid_keys"] = {"capacity": BURST, "refill_per_s": 0.01}
    file = folder / "policy.yaml"
    file.write_text(yaml.safe_dump(policy, sort_keys=False))
    return str(file)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(env={"AUTHZ_POLICY_FILE": strict_policy(tmp_path_factory.mktemp("policy"))})
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def stack_behind_a_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose Envoy trusts one proxy in front of it and reports that proxy's client to authz."""
    stack = Stack(env={"AUTHZ_POLICY_FILE": strict_policy(tmp_path_factory.mktemp("policy"))})
    file = stack.folder / "envoy.yaml"
    config = json.loads(file.read_text())
    (listener,) = config["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    manager["xff_num_trusted_hops"] = 1
    patterns = ext_authz(manager)["allowed_headers"]["patterns"]
    patterns.append({"exact": "x-envoy-external-address"})
    file.write_text(json.dumps(config))
    stack.start()
    yield stack
    stack.stop()


def guess() -> str:
    return _FORMAT.mint(os.urandom(32))


def request(stack: Stack, key: str, *headers: tuple[str, str], address: str = FLOODER) -> Answer:
    """Send a request with a key; repeat it while Postgres is late, which costs the address nothing."""
    while (
        answer := send(stack.url, "GET", "/v1/servers", ("x-api-key", key), *headers, address=address)
    ).status == 503:
        pass
    return answer


def metric(stack: Stack, name: str, *labels: str) -> float:
    """Add up the samples of a metric that have these labels."""
    lines = httpx.get(f"{stack.admin_url}/metrics", trust_env=False).text.splitlines()
    found = (line for line in lines if line.startswith((f"{name} ", f"{name}{{")) and all(it in line for it in labels))
    return sum(float(line.rpartition(" ")[2]) for line in found)


def test_a_flood_gets_retry_after_and_costs_no_postgres_query(stack: Stack) -> None:
    answers = [request(stack, guess()) for _ in range(100)]
    assert [answer.status for answer in answers] == [401] * BURST + [429] * 80
    refused = answers[-1]
    assert (refused.document["code"], refused.document["message"]) == (8, "rate limit exceeded")
    assert 0 < int(refused.header("retry-after") or 0) <= 100
    assert refused.header("x-ratelimit-limit") is None
    loads = metric(stack, "authz_store_duration_seconds_count", 'store="postgres"')
    assert BURST <= loads < 2 * BURST
    assert metric(stack, "authz_checks_total", 'outcome="deny"', 'reason="address_throttled"') >= 80
    assert metric(stack, "authz_throttled_addresses") == 1
    # Whatever is wrong with a key, and whatever the client says about where it is.
    for key in ("none", "ttk_", guess()[:-1] + "!", guess()):
        assert request(stack, key).status == 429
    for name in ("x-forwarded-for", "x-envoy-external-address", "x-real-ip", "forwarded"):
        assert request(stack, guess(), (name, "203.0.113.77")).status == 429
    assert request(stack, guess(), address=OTHER).status == 401
    assert send(stack.url, "GET", "/v1/servers", address=FLOODER).status == 401  # without a key nothing is guessed


def test_keys_that_work_pass_in_the_middle_of_a_flood_from_their_own_address(stack: Stack) -> None:
    warm = stack.create_key("warm", "servers:read", limit=ROOMY).secret
    cold = stack.create_key("cold", "servers:read", limit=ROOMY).secret
    for _ in range(BURST):
        request(stack, guess())
        assert request(stack, warm).status == 200
    with redis.Redis.from_url(stack.redis.url) as client:
        client.flushall()
    # Redis has lost it, as it may lose any key: asked for again it is no guess.
    assert [request(stack, cold).status for _ in range(3)] == [429, 200, 200]
    assert request(stack, warm, address=OTHER).status == 200


def test_a_throttled_native_grpc_caller_gets_resource_exhausted_not_unavailable(stack: Stack) -> None:
    with grpc.insecure_channel(stack.url.removeprefix("http://")) as channel:
        call = channel.unary_unary("/shop.v1.Orders/Get")
        codes = []
        for _ in range(BURST + 5):
            with pytest.raises(grpc.RpcError) as raised:
                call(b"", metadata=(("x-api-key", "bad"),), timeout=5)
            codes.append(raised.value.code())
    assert codes[-1] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert grpc.StatusCode.UNAVAILABLE not in codes


def test_behind_a_trusted_proxy_each_of_its_clients_is_an_address_and_none_can_name_another(
    stack_behind_a_proxy: Stack,
) -> None:
    stack = stack_behind_a_proxy

    def status(forwarded_for: str, *headers: tuple[str, str]) -> int:
        return request(stack, guess(), ("x-forwarded-for", forwarded_for), *headers).status

    assert [status("198.51.100.7") for _ in range(BURST + 1)][-1] == 429
    # What the client itself wrote stands before what the proxy appended.
    assert status("203.0.113.1, 198.51.100.7") == 429
    assert status("198.51.100.7", ("x-envoy-external-address", "203.0.113.2")) == 429
    assert status("198.51.100.8") == 401
    # Nor can a client use up what another may do.
    for _ in range(BURST + 1):
        status("198.51.100.9, 198.51.100.66", ("x-envoy-external-address", "198.51.100.9"))
    assert status("198.51.100.9") == 401
