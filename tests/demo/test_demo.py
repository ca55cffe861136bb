"""`authz demo`: says where everything is once it answers, and leaves nothing behind however it ends."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.clients.raw_http import send

from authz.demo.servers import Server, ServerFailed, accepts, free_port, hold_port
from authz.demo.stack import Stack


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_answers_and_stops_without_a_trace(folder: Path, number: signal.Signals) -> None:
    ready = folder / "ready.json"
    command = [sys.executable, "-m", "authz", "demo", "--port", "0", "--ready-file", str(ready)]
    environment = os.environ | {"TMPDIR": str(folder)}
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    while not ready.exists():
        assert demo.poll() is None
        time.sleep(0.02)
    where = json.loads(ready.read_text())
    places = {"envoy", "admin", "portal_admin", "redis", "postgres"}
    assert set(where) == places | {"pids", "account_id", "api_key", "owner"}
    assert stat.S_IMODE(ready.stat().st_mode) == 0o600
    assert all(is_running(pid) for pid in where["pids"].values())
    answer = send(where["envoy"], "GET", "/v1/servers/s1", ("x-api-key", where["api_key"]))
    assert answer.backend_saw("x-authz-account-id") == [where["account_id"]]
    demo.send_signal(number)
    out, _ = demo.communicate(timeout=15)
    assert demo.returncode == 0
    assert f"curl -i -H 'x-api-key: {where['api_key']}' {where['envoy']}/v1/servers" in out
    assert not any(is_running(pid) for pid in where["pids"].values())
    assert list(folder.iterdir()) == [ready]


def test_a_start_that_fails_half_way_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    stack = Stack(env={"AUTHZ_POLICY_FILE": "/none.yaml"})
    with pytest.raises(ServerFailed, match="authz ended"):
        stack.start()
    assert list(folder.iterdir()) == []
    assert set(stack.pids.values()) == {0}


def test_a_server_that_ends_shows_the_end_of_its_log(folder: Path) -> None:
    server = Server("broken", [sys.executable, "-c", "raise SystemExit('no such luck')"], folder / "log")
    assert server.stop() is None
    with pytest.raises(ServerFailed, match="broken ended: no such luck"):
        server.start(lambda: False)
    assert server.pid == 0


def test_a_server_that_ignores_its_end_is_killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("authz.demo.servers._STOP_S", 0.1)
    program = (
        f"import signal, pathlib; signal.signal(15, 1); pathlib.Path({str(folder / 'up')!r}).touch(); signal.pause()"
    )
    server = Server("stubborn", [sys.executable, "-c", program], folder / "log")
    server.start((folder / "up").exists)
    assert server.stop() == -signal.SIGKILL


def test_a_free_port_is_given_once_and_left_to_its_server() -> None:
    port = free_port()
    assert not hold_port(port)
    assert not accepts(port)
    with socket.create_server(("127.0.0.1", port)):
        assert accepts(port)


def test_however_many_ports_are_given_few_are_held() -> None:
    def held() -> int:
        return len(list(Path("/dev/fd").iterdir()))

    free_port()
    before = held()
    for _ in range(200):
        free_port()
    assert held() <= before + 64


def test_the_tour_is_a_command_that_exits_with_its_outcome() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "authz", "demo", "--tour", "--port", "0"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "everything as expected")


def test_a_demo_whose_port_is_taken_says_why(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = subprocess.run(
            [sys.executable, "-m", "authz", "demo", "--port", str(taken.getsockname()[1])],
            env=os.environ | {"TMPDIR": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "envoy ended" in done.stdout
    assert list(folder.iterdir()) == []
