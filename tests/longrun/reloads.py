"""A thousand reloads under load: valid and faulty files in turn; fails on a wrong response or a process that grows.

The same with 20 reloads is `e2e/hostile/test_reloads.py`.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from http import HTTPStatus
from pathlib import Path

from support.reloads import POLICIES, publish, reloading
from support.servers.stack import ROOMY

from authz.demo.stack import Stack

_TRY_MS, _CHECK_MS = 100, 200
"""Shorter than a try of a check, and the timeout of a check with its tries."""
_GROWTH_BYTES_MAX = 8 * 1024 * 1024


def main() -> None:
    """Run and report; exits with 1 on a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reloads", type=int, default=1_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        volume = Path(folder)
        publish(volume, 0, POLICIES["other.example"])
        env = {"AUTHZ_POLICY_FILE": str(volume / "policy.yaml"), "AUTHZ_ADMIN_RELOAD": "true"}
        stack = Stack(env=env)
        stack.start()
        try:
            key = stack.create_key("reader", "servers:read", limit=ROOMY).secret
            started_s = time.monotonic()
            report = asyncio.run(reloading(stack, volume, key, reloads=arguments.reloads))
            took_s = time.monotonic() - started_s
            errors = _errors(stack.folder / "envoy.log")
        finally:
            stack.stop()
    settled = report.rss_bytes[len(report.rss_bytes) // 10 :]
    growth = settled[-1] - settled[0]
    rate = report.responses.total() / took_s
    sys.stdout.write(f"reloads {dict(report.outcomes)} in {took_s:.0f} s\n")
    sys.stdout.write(f"responses {dict(report.responses)}, {rate:.0f}/s, slowest {1000 * report.slowest_s:.1f} ms\n")
    sys.stdout.write(f"errors in Envoy's access log {dict(errors)}\n")
    sys.stdout.write(f"resident memory {[it >> 20 for it in report.rss_bytes]} MiB\n")
    sys.stdout.write(f"faults: {len(report.faults)} {report.faults[:5]}\n")
    if report.faults or growth > _GROWTH_BYTES_MAX:
        sys.exit(1)


def _errors(log: Path) -> Counter[str]:
    """Return Envoy's reasons for responses with a status of 500 or more: flags, details, and when."""
    found = Counter[str]()
    for line in log.read_text().splitlines():
        entry = json.loads(line) if line.startswith("{") else {}
        if entry.get("status", 0) >= HTTPStatus.INTERNAL_SERVER_ERROR:
            took_ms = entry["duration_ms"]
            waits = "at once" if took_ms < _TRY_MS else "after a try" if took_ms < _CHECK_MS else "at the timeout"
            found[f"{entry['status']} {entry['flags']} {entry['details']} {waits}"] += 1
    return found


if __name__ == "__main__":
    main()
