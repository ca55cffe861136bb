"""What TLS with client certificates between Envoy and authz costs: CPU for each check, with and without, by turns.

The load is wrk's; figures for one machine and one connection pool, not a limit.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from support.certificates import MountedFiles
from support.servers.stack import ROOMY
from support.servers.tls_stack import ENVOY, TlsStack

from authz.demo.stack import Stack

_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure in turns, and print medians and their ratio."""
    parser = argparse.ArgumentParser(description="Measure what TLS costs.")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="authz-tls-") as folder:
        stacks = {
            "plain text": Stack(),
            "TLS": TlsStack(MountedFiles(Path(folder), ENVOY), connection_checks=1_000_000).stack,
        }
        try:
            for stack in stacks.values():
                stack.start()
            report(stacks, given.turns, given.seconds)
        finally:
            for stack in stacks.values():
                stack.stop()


def report(stacks: dict[str, Stack], turns: int, seconds: int) -> None:
    keys = {name: stack.create_key("load", "servers:read", limit=ROOMY).secret for name, stack in stacks.items()}
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in stacks}
    for _ in range(turns):
        for name, stack in stacks.items():
            seen[name].append(cpu_us(stack, keys[name], seconds))
    middle = {name: [sorted(column)[turns // 2] for column in zip(*rows, strict=True)] for name, rows in seen.items()}
    _say(f"{'':10} {'authz':>12} {'Envoy':>12}   CPU for each check, median of {turns} turns")
    for name, (authz_us, envoy_us) in middle.items():
        _say(f"{name:10} {authz_us:9.1f} us {envoy_us:9.1f} us")
    authz, envoy = (tls / plain for tls, plain in zip(middle["TLS"], middle["plain text"], strict=True))
    _say(f"{'ratio':10} {authz:12.2f} {envoy:12.2f}")


def cpu_us(stack: Stack, key: str, seconds: int) -> tuple[float, float]:
    """Return the CPU time of authz and of Envoy for each request of one run, in microseconds."""
    pids = [stack.pids["authz"], stack.pids["envoy"]]
    before = [cpu_s(pid) for pid in pids]
    command = ["wrk", "-t1", "-c32", f"-d{seconds}s", "-H", f"x-api-key: {key}", f"{stack.url}/v1/servers"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+) requests in", shown)
    if found is None or "Non-2xx" in shown:
        raise SystemExit(f"error: {shown}")
    used = [cpu_s(pid) - start_s for pid, start_s in zip(pids, before, strict=True)]
    authz_us, envoy_us = (each * 1e6 / int(found.group(1)) for each in used)
    return authz_us, envoy_us


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
