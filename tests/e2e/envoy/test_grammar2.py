"""Hosts, templates of errors and keys in the query, through a real Envoy.

Each spelling of a host has the rows of that host, and no spelling opens a barred row.
"""

import copy
import json
import socket
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from support.clients.raw_h2 import send_h2
from support.clients.raw_http import Answer, send
from support.servers.echo_backend import echo_backend
from support.servers.envoys import manager, running_envoy, shipped_config

from authz.adapters.policy_file.loader import load_policy
from authz.core.accounts import NewApiKey
from authz.demo.stack import ACTOR, Stack
from authz.edge.check.local_replies import local_reply_config
from authz.service.keys.admin import KeyRequest

Config = Any
TEXT = (Path(__file__).parents[2] / "data" / "hosts.yaml").read_text()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("policy") / "policy.yaml"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def stack(file: Path) -> Iterator[Stack]:
    stack = Stack(env={"AUTHZ_POLICY_FILE": str(file), "AUTHZ_ADMIN_RELOAD": "true"})
    stack.settings = stack.settings.model_copy(update={"policy_file": file})
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def configure(stack: Stack) -> Iterator[Callable[..., Config]]:
    """Make the shipped configuration, with ports of its own."""
    with echo_backend() as (_, port):
        yield partial(shipped_config, stack.check_ports, port)


@pytest.fixture(scope="module")
def url(configure: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_envoy(tmp_path_factory.mktemp("envoy"), configure()) as url:
        yield url


@pytest.fixture(scope="module")
def key(stack: Stack) -> str:
    request = KeyRequest(stack.account_id, "key", frozenset({"orders:read"}))
    made: NewApiKey = stack.administer(lambda admin: admin.create_key(request, ACTOR))
    return made.secret


def sent(url: str, head: str, key: str = "") -> tuple[int, Any]:
    """Send the first lines of a request exactly as given; return the status, and the host that the backend got."""
    where = urlsplit(url)
    keyed = f"x-api-key: {key}\r\n" if key else ""
    with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
        connection.sendall(f"{head}{keyed}connection: close\r\n\r\n".encode("latin-1"))
        response = HTTPResponse(connection)
        response.begin()
        body = response.read()
    if response.status != 200:
        return response.status, None
    return 200, [value for name, value in json.loads(body)["headers"] if name in {"host", ":authority"}]


def get(host: str, path: str) -> str:
    return f"GET {path} HTTP/1.1\r\nhost: {host}\r\n"


SERVED = [
    get("api.shop.example", "/orders"),
    get("API.shop.example.:8000", "/orders"),
    get("  api.shop.example  ", "/orders"),
    get("x.eu.shop.example", "/orders"),
    get("api.shop.example", "/status"),
    "GET http://api.shop.example/status HTTP/1.1\r\nhost: admin.shop.example\r\n",
]
BARRED = [
    get("admin.shop.example", "/status"),
    get("admin.shop.example.", "/status"),
    get("ADMIN.SHOP.EXAMPLE:1", "/status"),
    get("admin.shop.example:", "/status"),
    "GET http://admin.shop.example/status HTTP/1.1\r\nhost: api.shop.example\r\n",
    "GET http://ADMIN.shop.example.:80/status HTTP/1.1\r\nhost: api.shop.example\r\n",
    "GET http://u@admin.shop.example/status HTTP/1.1\r\nhost: api.shop.example\r\n",
    "GET http://api.shop.example@admin.shop.example/status HTTP/1.1\r\nhost: api.shop.example\r\n",
]
UNKNOWN = [
    get("", "/status"),
    get("other.example", "/status"),
    get("shop.example", "/status"),
    get("eu.shop.example", "/status"),
    get("127.0.0.1", "/status"),
    get("[::1]:80", "/status"),
    get("xn--api-.eu.shop.example", "/status"),
    "GET /status HTTP/1.1\r\nhost: api.shop.example\r\nhost: admin.shop.example\r\n",
    "GET /status HTTP/1.1\r\nhost: admin.shop.example\r\nhost: api.shop.example\r\n",
    "GET /status HTTP/1.1\r\nhost: api.shop.example\r\nhost: api.shop.example\r\n",
]
MALFORMED = [
    "GET /status HTTP/1.1\r\n",
    get("admin.shop.example\xe9", "/status"),
    get("api.shop.example, admin.shop.example", "/status"),
    get("api.shop.example/", "/status"),
]


@pytest.mark.parametrize(
    ("heads", "status"),
    [(SERVED, 200), (BARRED, 403), (UNKNOWN, 404), (MALFORMED, 400)],
    ids=["200", "403", "404", "400"],
)
def test_each_spelling_of_a_host_has_the_rows_of_that_host(url: str, key: str, heads: list[str], status: int) -> None:
    assert {head: sent(url, head, key)[0] for head in heads} == dict.fromkeys(heads, status)


def test_no_host_is_known_without_a_key(url: str) -> None:
    for head in (*BARRED, *UNKNOWN):
        assert sent(url, head)[0] == 401


@pytest.mark.parametrize(
    ("authority", "host", "status"),
    [
        ("api.shop.example", None, 200),
        ("API.shop.example.:443", None, 200),
        ("admin.shop.example.", None, 403),
        ("api.shop.example", "admin.shop.example", 200),
        ("admin.shop.example", "api.shop.example", 403),
        (None, "admin.shop.example", 403),
    ],
)
def test_http2_decides_by_what_the_backend_gets(
    url: str, key: str, authority: str | None, host: str | None, status: int
) -> None:
    headers = [("x-api-key", key), *([] if host is None else [("host", host)])]
    answer = send_h2(url, "GET", "/status", *headers, authority=authority)
    assert answer.status in {status, 400}
    if answer.status == 200:
        assert [value for name, value in answer.document["headers"] if name == "host"] == [authority]


def reload(stack: Stack, file: Path, text: str) -> None:
    file.write_text(text)
    request = urllib.request.Request(f"{stack.admin_url}/policy/reload", method="POST")  # noqa: S310 -- our own
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 -- our own
        assert json.load(response)["outcome"] == "reloaded"


def test_an_operator_may_name_hosts_by_a_context_extension(
    stack: Stack, file: Path, configure: Callable[..., Config], key: str, folder: Path
) -> None:
    def named(config: Config) -> None:
        (host,) = manager(config)["route_config"]["virtual_hosts"]
        settings = host["typed_per_filter_config"]["envoy.filters.http.ext_authz"]["check_settings"]
        admin = copy.deepcopy(host) | {"name": "admin", "domains": ["admin.internal"]}
        inner = admin["typed_per_filter_config"]["envoy.filters.http.ext_authz"]["check_settings"]
        settings["context_extensions"] = {"site": "api.shop.example"}
        inner["context_extensions"] = {"site": "admin.shop.example"}
        manager(config)["route_config"]["virtual_hosts"] = [admin, host]

    reload(stack, file, TEXT.replace("hosts: [api", "host_from: extension site\nhosts: [api"))
    try:
        with running_envoy(folder, configure(), named) as url:
            assert sent(url, get("anything.example", "/status"), key)[0] == 200
            assert sent(url, get("admin.shop.example", "/status"), key)[0] == 200
            assert sent(url, get("admin.internal", "/status"), key)[0] == 403
        with running_envoy(folder, configure()) as url:
            assert sent(url, get("api.shop.example", "/status"), key)[0] == 404
    finally:
        reload(stack, file, TEXT)


ANYWHERE = TEXT.partition("  - hosts: admin")[0].replace('"*.eu.shop.example"', '"*"')
OWN = 'error_template:\n  content_type: application/json\n  documentation_url: "https://shop.example/100%"\n  body: '
OWN_BODY = (
    '\'{"error": {"http": ${status}, "why": "${reason}", "text": ${message}, "id": "${request_id}", '
    '"see": "${documentation_url}"}}\'\n'
)


def answered(url: str, path: str, *headers: tuple[str, str]) -> Answer:
    return send(url, "GET", path, *headers)


def test_refusals_of_authz_and_of_envoy_have_the_operators_form(
    stack: Stack, file: Path, configure: Callable[..., Config], key: str, folder: Path
) -> None:
    reload(stack, file, ANYWHERE.replace("hosts: [api", f"errors: template\n{OWN}{OWN_BODY}hosts: [api"))
    replies = yaml.safe_load(local_reply_config(load_policy(file)))["local_reply_config"]

    def own(config: Config) -> None:
        connections = manager(config)
        connections["local_reply_config"] = replies
        (host,) = connections["route_config"]["virtual_hosts"]
        host["routes"].insert(0, {"match": {"path": "/status"}, "direct_response": {"status": 503}})
        # Only then a client's id arrives, which is the worst case for the template.
        connections["preserve_external_request_id"] = True

    try:
        with running_envoy(folder, configure(), own) as url:
            known = ("x-api-key", key)
            for path, status, why in (
                ("/nowhere", 404, "NOT_FOUND"),
                ("/orders", 401, "UNAUTHORIZED"),
                ("/status", 503, "UNAVAILABLE"),
            ):
                for sent_id, shown in (("7b-a.1", "7b-a.1"), ('x"}<b>%REQ(x-api-key)%', None)):
                    headers = [("x-request-id", sent_id), *([known] if status != 401 else [])]
                    answer = answered(url, path, *headers)
                    assert (answer.status, answer.header("content-type")) == (status, "application/json")
                    error = answer.document["error"]
                    assert set(error) == {"http", "why", "text", "id", "see"}
                    assert (error["http"], error["why"]) == (status, why)
                    assert error["see"] == "https://shop.example/100%"
                    assert key not in answer.body.decode()
                    if shown is not None:
                        assert error["id"] == shown
    finally:
        reload(stack, file, TEXT)


def test_a_key_in_the_query_is_read_once_and_goes_no_further(
    stack: Stack, file: Path, configure: Callable[..., Config], key: str, folder: Path
) -> None:
    accepting = ANYWHERE.replace("active_max: 5", "active_max: 5, query: {parameter: api_key, exposure: accepted}")
    reload(stack, file, accepting)
    log = folder / "access.log"

    def logged(config: Config) -> None:
        (own,) = (it for it in manager(config)["access_log"] if it["name"] == "envoy.access_loggers.stdout")
        own["name"] = "envoy.access_loggers.file"
        own["typed_config"]["@type"] = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"
        own["typed_config"]["path"] = str(log)

    try:
        with running_envoy(folder, configure(http2=True), logged) as url:
            for path, seen in ACCEPTED:
                answer = answered(url, path.format(key=key))
                assert answer.status == 200, path
                (target,) = answer.backend_saw(":path")
                assert target == seen
                assert key not in answer.body.decode()
            for path in REFUSED:
                assert answered(url, path.format(key=key, escaped="%" + f"{ord(key[0]):x}" + key[1:])).status == 400, (
                    path
                )
            assert answered(url, "/orders?api_key=").status == 401
            assert answered(url, f"/orders?api_key={key[:-1]}").status == 401
            assert answered(url, f"/orders?api_key={key}", ("x-api-key", "wrong")).status == 401
    finally:
        reload(stack, file, TEXT)
    assert key not in log.read_text()
    assert key not in "".join(it.log.read_text() for it in stack.sidecars)


ACCEPTED = [
    ("/orders?api_key={key}", "/orders"),
    ("/orders?b=2&api_key={key}&a=1", "/orders?a=1&b=2"),
    ("/status?z=%41&api_key={key}&empty=&flag", "/status?empty=&flag=&z=%41"),
    ("/status?b=2&a=1", "/status?b=2&a=1"),
]
REFUSED = [
    "/orders?api_key={key}&api_key={key}",
    "/orders?api_key={key}&API_KEY={key}",
    "/orders?Api-Key={key}",
    "/status?api%5Fkey={key}",
    "/status?api_key[]={key}",
    "/status?x=1;api_key={key}",
    "/status?x=1%26api_key={key}",
    "/orders?api_key={escaped}",
    "/orders?%61pi_key={key}",
    "/orders?apikey={key}",
    "/orders?api_key={key}&" + "&".join(f"a{number}=1" for number in range(64)),
    "/orders?api_key={key}&a=" + "1" * 8192,
]
