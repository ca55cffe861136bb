"""Behind each load balancer of docs/envoy.md, every client has its own address, and none can name another's."""

import re
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.clients.raw_http import send
from support.servers.echo_backend import echo_backend
from support.servers.envoys import ext_authz, manager, running_envoy, shipped_config

from authz.demo.servers import shipped
from authz.demo.stack import Stack

BURST = 2
_DOCUMENT = Path(__file__).parents[2] / "docs" / "envoy.md"
BLOCKS = dict(re.findall(r"```yaml\n# ([a-z-]+)\n(.*?)```", _DOCUMENT.read_text(), re.DOTALL))
Header = tuple[str, str]
_numbers = count(1)


def forwarded(*after: str, port: str = "") -> Callable[[str, str], list[Header]]:
    """Return the headers of a load balancer that appends the client, and `after`, to what the client sent."""

    def headers(client: str, claimed: str) -> list[Header]:
        text = f"[{client}]" if port and ":" in client else client
        sent = [claimed] if claimed else []
        return [("x-forwarded-for", ", ".join([*sent, f"{text}{port}", *after]))]

    return headers


def azure_front_door(client: str, claimed: str) -> list[Header]:
    return [("x-azure-clientip", client), ("x-forwarded-for", f"{claimed or client}, 203.0.113.200")]


HEADERS = {
    "aws-alb": forwarded(),
    "gcp-alb": forwarded("203.0.113.200"),
    "cloudflare": forwarded(),
    "nginx": forwarded(),
    "azure-front-door": azure_front_door,
    "azure-application-gateway": forwarded(port=":5678"),
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    policy = yaml.safe_load(shipped("policies/truetick.yaml").read_text())
    policy["invalid_keys"] = {"capacity": BURST, "refill_per_s": 0.001}
    file = tmp_path_factory.mktemp("policy") / "policy.yaml"
    file.write_text(yaml.safe_dump(policy, sort_keys=False))
    stack = Stack(env={"AUTHZ_POLICY_FILE": str(file)})
    stack.start()
    yield stack
    stack.stop()


def documented(name: str) -> Callable[[Any], None]:
    """Return the change that docs/envoy.md describes for a load balancer."""

    def change(config: Any) -> None:  # noqa: ANN401 -- YAML
        block = yaml.safe_load(BLOCKS[name])
        (listener,) = config["static_resources"]["listeners"]
        if filters := block.pop("listener_filters", None):
            listener["listener_filters"] = filters
        else:
            ext_authz(manager(config))["allowed_headers"]["patterns"].append({"exact": "x-envoy-external-address"})
        if first := block.pop("first_filter", None):
            manager(config)["http_filters"].insert(0, first)
        manager(config).update(block)

    return change


@pytest.fixture(scope="module")
def edges(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    running, urls = ExitStack(), dict[str, str]()
    with running:
        _, port = running.enter_context(echo_backend())

        def url(name: str) -> str:
            if name not in urls:
                folder = tmp_path_factory.mktemp("envoy")
                config = shipped_config(stack.check_ports, port)
                urls[name] = running.enter_context(running_envoy(folder, config, documented(name)))
            return urls[name]

        yield url


def addresses() -> tuple[str, str]:
    """Return the addresses of two clients that no other test has used."""
    number = next(_numbers)
    return f"198.51.100.{number}", f"203.0.113.{number}"


def test_every_documented_load_balancer_is_tested() -> None:
    assert BLOCKS.keys() - {"connection-manager"} == {*HEADERS, "proxy-protocol"}


@pytest.mark.parametrize("ipv6", [False, True])
@pytest.mark.parametrize("name", HEADERS)
def test_each_client_has_its_own_address_and_none_can_name_another(
    edges: Callable[[str], str],
    name: str,
    ipv6: bool,  # noqa: FBT001
) -> None:
    url = edges(name)
    flooder, other = addresses()
    if ipv6:
        flooder, other = (f"2001:db8:{int(ip_address(each)) & 0xFFFF:x}:1::7" for each in (flooder, other))

    def status(client: str, *headers: Header, claimed: str = "") -> int:
        return send(url, "GET", "/v1/servers", ("x-api-key", "bad"), *HEADERS[name](client, claimed), *headers).status

    assert [status(flooder) for _ in range(BURST + 1)] == [401] * BURST + [429]
    # Neither an entry of its own nor another header gives the client another address.
    assert status(flooder, claimed="192.0.2.99") == 429
    assert status(flooder, ("x-envoy-external-address", "192.0.2.99"), ("x-real-ip", "192.0.2.99")) == 429
    for _ in range(BURST + 1):
        status(flooder, ("x-envoy-external-address", other), claimed=other)
    assert status(other) == 401


def proxied(url: str, source: str) -> int:
    """Send a request with an invalid key over a connection that begins with PROXY protocol version 2."""
    host, _, port = url.removeprefix("http://").partition(":")
    packed = ip_address(source).packed
    family, own = (0x11, bytes([127, 0, 0, 1])) if len(packed) == 4 else (0x21, bytes(15) + b"\1")
    payload = packed + own + struct.pack("!HH", 40_000, 80)
    header = b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", 0x21, family, len(payload)) + payload
    with socket.create_connection((host, int(port)), timeout=5) as peer:
        peer.sendall(header + b"GET /v1/servers HTTP/1.1\r\nhost: x\r\nx-api-key: bad\r\nconnection: close\r\n\r\n")
        received = b""
        while part := peer.recv(65_536):
            received += part
    return int(received.split()[1])


@pytest.mark.parametrize("ipv6", [False, True])
def test_with_proxy_protocol_the_peer_is_the_client(edges: Callable[[str], str], ipv6: bool) -> None:  # noqa: FBT001
    url = edges("proxy-protocol")
    flooder, other = addresses()
    if ipv6:
        flooder, other = "2001:db8:77:1::7", "2001:db8:77:2::7"
    assert [proxied(url, flooder) for _ in range(BURST + 1)] == [401] * BURST + [429]
    assert proxied(url, other) == 401
    with pytest.raises((ConnectionError, OSError)):
        send(url, "GET", "/v1/servers", ("x-api-key", "bad"))
