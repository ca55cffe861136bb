"""Figures: how soon a stream's end frees its slot, by cause, and how many ends a stopping Envoy reports.

`make figures-streams` writes it to `build/streams/figures.json` and `figures.md`. What must hold is
tested in `e2e`; this only measures.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median

from support.clients.sse import LeaseCounts, counted, opened
from support.clients.stream_ends import ENDS, with_short_streams
from support.measurements import Rows, write
from support.servers.stack import ROOMY

from authz.adapters import logs
from authz.demo.stack import Stack

LIMIT = "0.4s"
HEARTBEAT_S = 0.5
KEYS, STREAMS_PER_KEY = 4, 2
ENDED = 'authz_stream_releases_total{cause="end",stream="logs"}'


def latencies(samples: int, progress: Callable[[str], None]) -> Rows:
    """Measure every cause so many times, with two sidecars behind one Envoy."""
    stack = Stack(sidecars=2, ping_s=0.2, heartbeat_s=1)
    path = stack.folder / "envoy.yaml"
    path.write_text(json.dumps(with_short_streams(json.loads(path.read_text()), LIMIT)))
    stack.start()
    rows: Rows = {}
    try:
        leases = LeaseCounts(stack)
        for cause, end in ENDS.items():
            progress(cause)
            account_id = stack.create_account("figures")
            secret = stack.create_key("figures", "servers:read", limit=ROOMY, account_id=account_id).secret
            taken_ms = []
            for _ in range(samples):
                ended_s = end(stack, secret)
                leases.wait_for(account_id, 0)
                taken_ms.append((time.monotonic() - ended_s) * 1000)
            rows[cause] = {"median_ms": median(taken_ms), "worst_ms": max(taken_ms), "ends": samples}
    finally:
        stack.stop()
    return rows


def exits(rounds: int, progress: Callable[[str], None]) -> Rows:
    """Stop Envoy (SIGTERM) with open streams, `rounds` times on each listener; count the ends that were reported."""
    return {
        name: _exits(rounds, progress, name, on_grpc=on_grpc)
        for name, on_grpc in {"check listener": False, "grpc.aio": True}.items()
    }


def _exits(rounds: int, progress: Callable[[str], None], name: str, *, on_grpc: bool) -> dict[str, float]:
    stack = Stack(ping_s=0.2, heartbeat_s=HEARTBEAT_S, on_grpc=on_grpc)
    stack.start()
    heard, freed_s = 0, []
    try:
        secrets = [stack.create_key("k", "servers:read", limit=ROOMY).secret for _ in range(KEYS)]
        for number in range(rounds):
            progress(f"Envoy is stopped, {name}, {number + 1}")
            with ExitStack() as streams:
                for secret in secrets * STREAMS_PER_KEY:
                    streams.enter_context(opened(stack, secret)[0])
                time.sleep(2 * HEARTBEAT_S)  # each is reported
                before = counted(stack.admin_url, ENDED) if number else 0
                stack.envoy.stop()
                freed_s.append(LeaseCounts(stack).wait_for(stack.account_id, 0))
                heard += counted(stack.admin_url, ENDED) - before
            stack.start_envoy()
    finally:
        stack.stop()
    streams_ended = rounds * KEYS * STREAMS_PER_KEY
    return {
        "ends": streams_ended,
        "heard": heard,
        "freed_median_s": median(freed_s),
        "freed_worst_s": max(freed_s),
    }


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    logs.silence()

    def progress(text: str) -> None:
        sys.stderr.write(f"{text}\n")

    found = {
        "the stream's end": latencies(options.samples, progress),
        "Envoy is stopped": exits(options.rounds, progress),
    }
    sys.stdout.write(write("figures", found))


if __name__ == "__main__":
    main()
