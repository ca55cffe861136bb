"""Reloads of a running stack under load: two policies and faulty files in turn, and the count of every response.

The long run is `longrun/reloads.py`, the short one `e2e/hostile/test_reloads.py`.
"""

import asyncio
import json
import shutil
import time
import urllib.request
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit

from authz.demo.servers import shipped
from authz.demo.stack import Stack

_TEXT = shipped("policies/truetick.yaml").read_text()
_ONE, _OTHER = "/v1/regions", "/v1/capacity"
_ROW = "      - GET {}\n"
_FAULTY = ("routes: [", _TEXT.replace("version: 1", "version: 7"), _TEXT + "\n  - access: nobody\n", "", "\x00")


def _policy(closed: str, domain: str) -> str:
    """Return a policy of its own domain that lets a reader do everything but one thing."""
    text = _TEXT.replace(_ROW.format(closed), "")
    text = text.replace("\nroutes:\n", f"\nroutes:\n  - scope: billing:read\n    match: GET {closed}\n")
    return text.replace("api.truetick.example", domain)


POLICIES = {"one.example": _policy(_ONE, "one.example"), "other.example": _policy(_OTHER, "other.example")}
_CLOSED = {"one.example": _ONE, "other.example": _OTHER}


@dataclass
class Report:
    """What the clients got, and what the reloads reported. `faults` are responses that no single policy gives."""

    responses: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    rss_bytes: list[int] = field(default_factory=list)


def publish(volume: Path, number: int, text: str, **others: str) -> None:
    """Write a version of a ConfigMap's volume as the kubelet does: a new folder, then one rename of `..data`.

    `others` are the texts of further files, by their names without `.yaml`.
    """
    inner = volume / f"..2026_{number}"
    inner.mkdir()
    texts = {"policy": text, **others}
    for name, content in texts.items():
        (inner / f"{name}.yaml").write_text(content)
    new, data = volume / "..data_tmp", volume / "..data"
    old = data.resolve() if data.is_symlink() else None
    new.symlink_to(inner.name)
    new.rename(data)
    for name in texts:
        if not (volume / f"{name}.yaml").is_symlink():
            (volume / f"{name}.yaml").symlink_to(f"..data/{name}.yaml")
    if old is not None:
        shutil.rmtree(old)


async def reloading(stack: Stack, volume: Path, key: str, *, reloads: int, connections: int = 8) -> Report:
    """Reload so many times, valid and faulty files in turn, while clients send requests; return what happened."""
    report, stopping = Report(), asyncio.Event()
    async with AsyncExitStack() as down:
        clients = [asyncio.create_task(_send(stack.url, key, report, stopping)) for _ in range(connections)]
        down.callback(lambda: [client.cancel() for client in clients])
        domains = list(POLICIES)
        for number in range(reloads):
            is_valid = number % 2 == 0
            text = POLICIES[domains[number // 2 % 2]] if is_valid else _FAULTY[number // 2 % len(_FAULTY)]
            publish(volume, number + 1, text)
            outcome = await asyncio.to_thread(_reload, stack.admin_url)
            report.outcomes[outcome] += 1
            if outcome != ("reloaded" if is_valid else "failed"):
                report.faults.append(f"reload {number}: {outcome}")
            if number % 20 == 0:
                report.rss_bytes.append(_rss_bytes(stack.pids["authz"]))
        stopping.set()
        await asyncio.gather(*clients)
    return report


def _reload(admin_url: str) -> str:
    request = urllib.request.Request(f"{admin_url}/policy/reload", method="POST")  # noqa: S310 -- our own
    try:
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 -- our own
            fields = json.load(response)
    except HTTPError as error:
        fields = json.load(error)
    return str(fields["outcome"])


async def _send(url: str, key: str, report: Report, stopping: asyncio.Event) -> None:
    port = urlsplit(url).port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    number = 0
    while not stopping.is_set():
        path = (_ONE, _OTHER)[number % 2]
        number += 1
        started_s = time.perf_counter()
        writer.write(f"GET {path} HTTP/1.1\r\nhost: a\r\nx-api-key: {key}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        body = await reader.readexactly(length)
        report.slowest_s = max(report.slowest_s, time.perf_counter() - started_s)
        status = head.split(b" ", 2)[1].decode()
        report.responses[status] += 1
        if status != "200" and not _is_whole(path, status, body):
            report.faults.append(f"{path} {status} {body[:200]!r}")
    writer.close()


def _is_whole(path: str, status: str, body: bytes) -> bool:
    """Tell whether one policy alone refuses so: the domain is that of the policy that closes the path."""
    return (
        status == "403"
        and b"billing:read" in body
        and any(domain.encode() in body and path == closed for domain, closed in _CLOSED.items())
    )


def _rss_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024
