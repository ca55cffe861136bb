"""A newcomer's walk through docs/kubernetes.md: from an application without authz to a protected one, with times.

A kubelet's part is the pod runner's; pulling images and the API server are not in the times.
"""

import asyncio
import re
import time
from collections.abc import Callable
from typing import TypeVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import asyncpg
import pytest
from pods.conftest import Manifest, NewPod
from pods.pod_runner import ROOT, podman

from authz.demo.stack import Stack

REPORT = ROOT / "build/pods/walk.md"
T = TypeVar("T")


class Walk:
    """The steps with their times."""

    def __init__(self) -> None:
        self.rows = ["| step | seconds |", "|---|--:|"]
        self.total_s = 0.0

    def step(self, title: str, done: Callable[[], T]) -> T:
        began_s = time.monotonic()
        result = done()
        took_s = time.monotonic() - began_s
        self.total_s += took_s
        self.rows.append(f"| {title} | {took_s:.1f} |")
        return result

    def report(self) -> None:
        self.rows.append(f"| in all | {self.total_s:.1f} |")
        REPORT.parent.mkdir(parents=True, exist_ok=True)
        REPORT.write_text("\n".join(self.rows) + "\n")
        print("", *self.rows, sep="\n")


def status(port: int, key: str = "", path: str = "/v1/servers") -> int:
    request = Request(f"http://127.0.0.1:{port}{path}", headers={"x-api-key": key} if key else {})
    try:
        with urlopen(request, timeout=5) as answer:  # noqa: S310 -- ours
            return int(answer.status)
    except HTTPError as error:
        return error.code


@pytest.mark.timeout(300)
def test_an_application_becomes_a_protected_one(new_pod: NewPod, manifest: Manifest, stack: Stack) -> None:
    walk = Walk()
    url = walk.step("an empty database", lambda: asyncio.run(empty_database(stack.postgres.url)))
    image = next(image for name, image in manifest.images.items() if name.startswith("authz:"))
    variables = [f"--env=AUTHZ_POSTGRES_URL={url}", f"--volume={stack.folder}:{stack.folder}"]
    walk.step(
        "the migration's Job",
        lambda: podman("run", "--rm", "--network=host", "--read-only", *variables, image, "migrate"),
    )
    pod = walk.step("the pod, until it is ready", lambda: new_pod(postgres_url=url))
    authz = pod.containers["authz"]
    assert walk.step("the first request, without a key: 401", lambda: status(pod.port)) == 401

    def command(*arguments: str) -> str:
        return podman("exec", authz, "/opt/authz/bin/authz", *arguments)

    account = walk.step("`authz accounts create`", lambda: command("accounts", "create", "Ada's app"))
    (account_id,) = set(re.findall(r"acct_\w+", account))
    create = ("keys", "create", account_id, "--name", "first", "--scope", "servers:read")
    printed = walk.step("`authz keys create`", lambda: command(*create))
    (key,) = set(re.findall(r"ttk_\w+", printed))
    assert walk.step("a request with the key: 200", lambda: status(pod.port, key)) == 200
    assert (
        walk.step(
            "another route, for which it has no scope: 403",
            lambda: status(pod.port, key, f"/v1/accounts/{account_id}/wallet"),
        )
        == 403
    )
    walk.report()


async def empty_database(url: str) -> str:
    """Create a database and return its URL."""
    connection = await asyncpg.connect(url)
    await connection.execute("DROP DATABASE IF EXISTS walk")
    await connection.execute("CREATE DATABASE walk")
    await connection.close()
    return url.replace("/postgres?", "/walk?")
