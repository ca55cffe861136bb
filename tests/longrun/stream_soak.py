"""Streams that open and end for a long time, at random, while Envoy and a sidecar are killed: `make soak-streams`.

What must hold: the backend never sees more streams than the caps, and no slot is left taken in the end.
"""

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from support.clients.sse import LeaseCounts, Stream
from support.servers.stack import ROOMY

from authz.adapters import logs
from authz.demo.backend import STREAM_COUNTS
from authz.demo.servers import shipped
from authz.demo.stack import Stack

ACCOUNTS, KEYS = 4, 4
CLIENTS = 32
REPORT = Path("build/streams/report.json")


@dataclass(frozen=True)
class Pace:
    """Durations: of the run, between two opens, of a stream, and the TTL of a lease."""

    seconds: float
    opens_per_s: float
    held_s_max: float
    ttl_s: int
    heartbeat_s: float


@dataclass
class Outcome:
    """What happened. The peaks are what the backend saw; `left` is what Redis still holds."""

    opened: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    peak_of_key: int = 0
    peak_of_account: int = 0
    left: int = 0
    freed_after_s: float = 0
    exceeding_retakes: int = 0


class Soak:
    """One run over a stack of two sidecars. `chance` decides who does what when."""

    def __init__(self, pace: Pace, chance: random.Random) -> None:
        self._pace, self._chance = pace, chance
        self._folder = tempfile.TemporaryDirectory(prefix="authz-policy-")
        policy = Path(self._folder.name) / "policy.yaml"
        policy.write_text(shipped("policies/truetick.yaml").read_text().replace("ttl_s: 60", f"ttl_s: {pace.ttl_s}"))
        env = {"AUTHZ_POLICY_FILE": str(policy), "AUTHZ_REDIS_DEADLINE_S": "0.15"}
        self.stack = Stack(sidecars=2, ping_s=0.2, heartbeat_s=pace.heartbeat_s, env=env)
        self.outcome = Outcome()
        self._lock = threading.Lock()
        self._next_s = 0.0
        self._until_s = 0.0
        self._secrets: list[str] = []
        self._account_ids: list[str] = []

    def run(self) -> Outcome:
        """Run it all; the stack is gone afterwards."""
        try:
            self.stack.start()
            self._make_keys()
            self._until_s = time.monotonic() + self._pace.seconds
            clients = [threading.Thread(target=self._client) for _ in range(CLIENTS)]
            for client in clients:
                client.start()
            self._crash()
            for client in clients:
                client.join()
            self._conclude()
        finally:
            self.stack.stop()
            self._folder.cleanup()
        return self.outcome

    def _make_keys(self) -> None:
        for number in range(ACCOUNTS):
            account_id = self.stack.create_account(f"soak {number}")
            self._account_ids.append(account_id)
            self._secrets += [
                self.stack.create_key("soak", "servers:read", limit=ROOMY, account_id=account_id).secret
                for _ in range(KEYS)
            ]

    def _crash(self) -> None:
        """Kill Envoy after a third of the time and a sidecar after two, and start them again."""
        time.sleep(self._pace.seconds / 3)
        self.stack.envoy.kill()
        self.stack.start_envoy()
        time.sleep(max(0.0, self._until_s - self._pace.seconds / 3 - time.monotonic()))
        self.stack.sidecars[0].kill()
        self.stack.start_sidecar(0)

    def _client(self) -> None:
        while self._awaits_turn():
            with self._lock:
                secret, cause = self._chance.choice(self._secrets), self._chance.choice(list(CAUSES))
                held_s = self._chance.uniform(0, self._pace.held_s_max)
            try:
                self._stream(secret, cause, held_s)
            except OSError:
                with self._lock:
                    self.outcome.ended["cut by the crash"] += 1

    def _awaits_turn(self) -> bool:
        with self._lock:
            now_s = time.monotonic()
            turn_s = self._next_s = max(now_s, self._next_s + 1 / self._pace.opens_per_s)
        if turn_s >= self._until_s:
            return False
        time.sleep(turn_s - now_s)
        return True

    def _stream(self, secret: str, cause: str, held_s: float) -> None:
        query = {"backend ends": f"&ends_after_s={held_s}", "backend breaks": f"&ends_after_s={held_s}&breaks=1"}
        with Stream(self.stack.url, secret, query.get(cause, "")) as stream:
            with self._lock:
                if stream.status != 200:
                    self.outcome.refused[stream.status] += 1
                    return
                self.outcome.opened += 1
            CAUSES[cause](stream, held_s)
        with self._lock:
            self.outcome.ended[cause] += 1

    def _conclude(self) -> None:
        leases, started_s = LeaseCounts(self.stack), time.monotonic()
        while left := sum(leases.count(account_id) for account_id in self._account_ids):
            if time.monotonic() - started_s > self._pace.ttl_s + 5:
                break
            time.sleep(0.05)
        self.outcome.left, self.outcome.freed_after_s = left, round(time.monotonic() - started_s, 2)
        peaks = httpx.get(self.stack.backend_url + STREAM_COUNTS, trust_env=False).json()["peak"]
        self.outcome.peak_of_account = max(peaks[account_id] for account_id in self._account_ids)
        self.outcome.peak_of_key = max(count for name, count in peaks.items() if name.startswith("key_"))
        for url in self.stack.admin_urls:
            text = httpx.get(f"{url}/metrics", trust_env=False).text
            lines = (line for line in text.splitlines() if line.startswith('authz_stream_retakes_total{exceeds="true"'))
            self.outcome.exceeding_retakes += sum(int(float(line.rpartition(" ")[2])) for line in lines)


def _held(stream: Stream, held_s: float) -> None:
    until_s = time.monotonic() + held_s
    while time.monotonic() < until_s and stream.read():
        pass


def _closed(stream: Stream, held_s: float) -> None:
    _held(stream, held_s)
    stream.close()


def _reset(stream: Stream, held_s: float) -> None:
    _held(stream, held_s)
    stream.reset()


CAUSES: dict[str, Callable[[Stream, float], None]] = {
    "client closes": _closed,
    "client resets": _reset,
    "backend ends": lambda stream, _held_s: stream.read_to_the_end(),
    "backend breaks": lambda stream, _held_s: stream.read_to_the_end(),
}


def main() -> None:
    """Run for some minutes and write the report; exits with 1 where something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--opens", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logs.silence()
    # Twice as many attempts as streams that are wanted: some are refused.
    pace = Pace(options.minutes * 60, 2 * options.opens / (options.minutes * 60), 20, ttl_s=60, heartbeat_s=5)
    outcome = Soak(pace, random.Random(options.seed)).run()  # noqa: S311 -- the same run for the same seed
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(vars(outcome), indent=2) + "\n")
    sys.stdout.write(REPORT.read_text())
    sys.exit(outcome.left > 0 or outcome.peak_of_key > 3 or outcome.peak_of_account > 10)


if __name__ == "__main__":
    main()
