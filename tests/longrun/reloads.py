"""A thousand reloads under load: valid and faulty files in turn; fails on a wrong response or a process that grows.

The same with 20 reloads is `e2e/hostile/test_reloads.py`.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from support.reloads import POLICIES, publish, reloading
from support.servers.stack import ROOMY

from authz.demo.stack import Stack

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
        finally:
            stack.stop()
    settled = report.rss_bytes[len(report.rss_bytes) // 10 :]
    growth = settled[-1] - settled[0]
    rate = report.responses.total() / took_s
    sys.stdout.write(f"reloads {dict(report.outcomes)} in {took_s:.0f} s\n")
    sys.stdout.write(f"responses {dict(report.responses)}, {rate:.0f}/s, slowest {1000 * report.slowest_s:.1f} ms\n")
    sys.stdout.write(f"resident memory {[it >> 20 for it in report.rss_bytes]} MiB\n")
    sys.stdout.write(f"faults: {len(report.faults)} {report.faults[:5]}\n")
    if report.faults or growth > _GROWTH_BYTES_MAX:
        sys.exit(1)


if __name__ == "__main__":
    main()
