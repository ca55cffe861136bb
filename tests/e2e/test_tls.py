"""A real Envoy over TLS to the check listener: which client certificates work, and a rotation under load."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.certificates import MountedFiles
from support.clients.raw_http import send
from support.servers.stack import ROOMY
from support.servers.tls_stack import ENVOY, TlsStack

from authz.demo.servers import accepts


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsStack]:
    made = TlsStack(MountedFiles(tmp_path_factory.mktemp("tls"), ENVOY), connection_checks=20)
    made.stack.start()
    yield made
    made.stack.stop()


@pytest.fixture(scope="module")
def key(tls: TlsStack) -> str:
    return tls.stack.create_key("reader", "servers:read", limit=ROOMY).secret


def test_certificates_rotate_under_load_without_a_failed_check(tls: TlsStack, key: str) -> None:
    statuses: list[int] = []
    for _ in range(5):
        tls.files.rotate()
        until_s = time.monotonic() + 0.5
        while time.monotonic() < until_s:
            statuses.append(send(tls.stack.url, "GET", "/v1/servers", ("x-api-key", key)).status)
    assert set(statuses) == {200}
    assert len(statuses) > 100
    reloads = tls.stack.sidecars[0].log.read_text().count("certificate reloaded")
    assert reloads == 5


@pytest.mark.parametrize("kind", ["none", "expired", "foreign", "another name"])
def test_an_envoy_without_an_admitted_certificate_refuses_every_request(tls: TlsStack, key: str, kind: str) -> None:
    issued: dict[str, Callable[[], tuple[Path, Path] | None]] = {
        "none": lambda: None,
        "expired": lambda: tls.files.authority.issue(f"URI:{ENVOY}", is_expired=True),
        "foreign": lambda: tls.files.foreign.issue(f"URI:{ENVOY}"),
        "another name": lambda: tls.files.authority.issue(f"URI:{ENVOY}-2"),
    }
    tls.stack.envoy.stop()
    tls.connect_with(issued[kind]())
    port = int(tls.stack.url.rpartition(":")[2])
    tls.stack.envoy.start(lambda: accepts(port))
    answers = [send(tls.stack.url, "GET", "/v1/servers", ("x-api-key", key)) for _ in range(3)]
    assert {answer.status for answer in answers} == {503}
