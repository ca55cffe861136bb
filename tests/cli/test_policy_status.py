"""`authz policy status`: it names the policy of each process, and fails where they differ or one is silent."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from authz.adapters.prometheus.checks import Metrics, registry
from authz.cli.app import app
from authz.demo.servers import free_port
from authz.edge.admin.server import AdminServer


class NoMetrics:
    """The metrics of a process that has decided nothing."""

    def snapshot(self) -> CollectorRegistry:
        return registry(Metrics(lambda: {"redis": True})).snapshot()


@pytest.fixture
async def admin() -> AsyncIterator[Callable[..., str]]:
    """Start processes that report a state of their policy; return their addresses."""
    async with AsyncExitStack() as down:

        def start(is_ready: bool = True, **policy: str | int) -> str:  # noqa: FBT001, FBT002 -- the state itself
            server = AdminServer(NoMetrics(), lambda: {"redis": is_ready}, "127.0.0.1:0", policy=lambda: policy)
            server.start()
            down.push_async_callback(server.stop)
            return f"127.0.0.1:{server.port}"

        yield start


async def status(*arguments: str) -> tuple[int, str]:
    result = await asyncio.to_thread(CliRunner().invoke, app, ["policy", "status", *arguments])
    return result.exit_code, result.output


async def test_processes_with_one_policy_agree_also_where_one_is_not_ready(admin: Callable[..., str]) -> None:
    loaded = "2026-03-02T09:14:07+00:00"
    one = admin(digest="aaa", version=2, routes=7, loaded=loaded, last_reload="failed")
    code, out = await status(one, f"http://{admin(False, digest='aaa')}", "--json")
    assert code == 0
    first, other = json.loads(out)
    assert {name: first[name] for name in ("digest", "version", "routes", "loaded", "last_reload")} == {
        "digest": "aaa", "version": 2, "routes": 7, "loaded": loaded, "last_reload": "failed",
    }  # fmt: skip
    assert (other["digest"], other["version"], other["last_reload"]) == ("aaa", None, "")


async def test_other_policies_and_silent_processes_are_a_failure(admin: Callable[..., str]) -> None:
    one = admin(digest="aaa")
    assert (await status(one, admin(digest="bbb")))[0] == 1
    code, out = await status(one, f"127.0.0.1:{free_port()}", admin())
    assert code == 1
    assert "Connection refused" in out
    assert "it does not report its policy" in out
    assert (await status(one, "nonsense"))[0] == 2
