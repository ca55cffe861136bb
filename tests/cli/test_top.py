"""What `authz top` computes of two scrapes, and that it fits the terminal."""

import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from rich.console import Console
from support.clients.raw_http import send, send_settled
from support.servers.stack import ROOMY

from authz.cli.admin_listeners import AdminListeners
from authz.cli.top import view
from authz.cli.top_figures import Labels, Scrape, compared
from authz.demo.stack import Stack


def key(name: str, **labels: str) -> tuple[str, Labels]:
    return name, frozenset(labels.items())


def scrape(allowed: float, denied: float, slow: float) -> Scrape:
    buckets = {"0.001": allowed, "0.01": allowed + denied, "+Inf": allowed + denied + slow}
    return {
        key("authz_checks_total", outcome="allow", reason="", route="/v1/servers"): allowed,
        key("authz_checks_total", outcome="deny", reason="barred", route="/v1/admin/**"): denied,
        **{key("authz_check_duration_seconds_bucket", le=bound): count for bound, count in buckets.items()},
        key("authz_store_duration_seconds_count", store="redis"): allowed,
        key("authz_store_duration_seconds_bucket", store="redis", le="0.005"): allowed,
        key("authz_store_duration_seconds_bucket", store="redis", le="+Inf"): allowed,
        key("authz_store_up", store="redis"): 1,
        key("authz_store_up", store="postgres"): 0,
        key("authz_build_info", version="1.2.3"): 1,
        key("authz_policy_info", digest="abcdef123456"): 1,
        key("authz_streams_open", stream="logs"): 2,
        key("authz_checks_in_flight"): 3,
        key("authz_outbox_entries"): 4,
        key("authz_outbox_oldest_seconds"): 65.04,
    }


def test_rates_and_latencies_are_of_the_time_between_two_scrapes() -> None:
    found = compared(["a:1", "b:1"], [scrape(100, 10, 0), "refused"], [scrape(300, 30, 0), "refused"], 2.0)
    assert found.checks == {"allow": 100, "deny": 10}
    assert found.refusals == {"barred": 10}
    assert found.routes == {"/v1/servers": 100, "/v1/admin/**": 10}
    assert (found.check.p50_ms, found.check.p99_ms) == (1, 10)
    assert found.stores["redis"].p99_ms == 5
    assert (found.streams, found.in_flight, found.pending_changes, found.oldest_change_s) == ({"logs": 2}, 3, 4, 65.0)
    first, second = found.processes
    assert (first.version, first.policy, first.stores) == ("1.2.3", "abcdef123456", {"redis": True, "postgres": False})
    assert (second.address, second.error) == ("b:1", "refused")


def test_processes_add_up_and_a_restarted_one_counts_from_zero() -> None:
    before, after = [scrape(100, 10, 0), scrape(1_000, 0, 0)], [scrape(200, 10, 0), scrape(50, 0, 0)]
    found = compared(["a:1", "b:1"], before, after, 1.0)
    assert found.checks == {"allow": 150}
    assert found.pending_changes == 4  # all of them see the same
    assert found.streams == {"logs": 4}


def test_an_observation_over_the_highest_bound_counts_as_that() -> None:
    found = compared(["a:1"], [scrape(0, 0, 0)], [scrape(0, 0, 5)], 1.0)
    assert found.check.p50_ms == 10


@pytest.mark.parametrize("columns", [80, 40])
def test_the_view_fits_the_terminal_and_obeys_no_text(columns: int) -> None:
    found = compared(["a:1", "b:1"], [scrape(0, 0, 0), "x"], [scrape(300, 30, 0), "refused\x1b[2J" + "x" * 200], 2.0)
    found.routes["/v1/\x1b[31m" + "long/" * 40] = 1
    out = io.StringIO()
    Console(file=out, width=columns, force_terminal=False).print(view(found, columns))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= columns
    assert len(lines) <= 24
    assert "\x1b" not in out.getvalue()
    assert "without postgres" in out.getvalue()
    assert "4 not effective" in out.getvalue()


@pytest.mark.parametrize("text", ["", "localhost", "file:///etc/passwd", "http://u:p@h:1", "ftp://h:1", "h:99999"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|Port|port"):
        AdminListeners().url(text, "/metrics")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    stack = Stack()
    stack.start()
    yield stack
    stack.stop()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "authz", "top", *arguments], capture_output=True, text=True, check=False, timeout=30
    )


@pytest.mark.timeout(90)
def test_a_running_sidecar_is_shown(stack: Stack) -> None:
    secret = stack.create_key("top", "servers:read", limit=ROOMY).secret
    send_settled(stack.url, "GET", "/v1/servers/s1", ("x-api-key", secret))
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            send(stack.url, "GET", "/v1/servers/s1", ("x-api-key", secret))
            send(stack.url, "GET", "/v1/admin/x", ("x-api-key", secret))
            time.sleep(0.01)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        address = f"127.0.0.1:{stack.admin_ports[0]}"
        done = run(address, "127.0.0.1:1", "--interval", "2", "--json")
        shown = run(address, "--once", "--interval", "1")
    finally:
        is_over.set()
        asking.join()
    found = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert found["checks"]["allow"] > 0
    assert found["refusals"]["barred"] > 0
    assert found["routes"]["/v1/servers/{id}"] > 0
    assert found["check"]["p99_ms"] > 0
    assert found["processes"][0]["stores"] == {"redis": True, "postgres": True}
    assert found["processes"][1]["error"]
    assert "/v1/servers/{id}" in shown.stdout
    assert run("127.0.0.1:1", "--once", "--interval", "0.1").returncode == 1
    assert run("nonsense").returncode == 2
