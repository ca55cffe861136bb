"""A real Prometheus with the rules of this repository, shortened, and a watch on its alerts."""

import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from support.servers.programs import unpacked

from authz.demo.servers import Server, free_port

_WRITE_FILES = Path(__file__).parents[3] / "deploy" / "observability" / "write_files.py"
_POLL_S = 0.5


@dataclass
class Prometheus:
    """A running Prometheus. `states` holds when each alert last began to fire and to be silent, in monotonic time."""

    url: str
    fired_s: dict[str, float] = field(default_factory=dict)
    resolved_s: dict[str, float] = field(default_factory=dict)
    firing: set[str] = field(default_factory=set)

    def query(self, path: str, **parameters: str | float) -> Any:  # noqa: ANN401 -- any JSON
        """Return the data of one call of the HTTP API."""
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urlencode(parameters)}", timeout=5) as answer:  # noqa: S310 -- our own address
            return json.load(answer)["data"]

    def look(self) -> None:
        """Note which alerts fire now, and what has changed."""
        found = {alert["labels"]["alertname"] for alert in self.query("alerts")["alerts"] if alert["state"] == "firing"}
        now_s = time.monotonic()
        for name in found - self.firing:
            self.fired_s[name] = now_s
        for name in self.firing - found:
            self.resolved_s[name] = now_s
        self.firing = found

    def until(self, name: str, *, fires: bool, within_s: float) -> bool:
        """Wait until an alert fires or is silent; return whether that happened in time."""
        deadline_s = time.monotonic() + within_s
        while time.monotonic() < deadline_s:
            if (name in self.firing) is fires:
                return True
            time.sleep(_POLL_S / 2)
        return False


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, str], *, shorten: int) -> Iterator[Prometheus]:
    """Run Prometheus over targets by job, with windows and waits of the rules divided by `shorten`."""
    command = [sys.executable, str(_WRITE_FILES), str(folder), "--shorten", str(shorten)]
    subprocess.run(command, check=True)
    configuration = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "900ms", "evaluation_interval": "1s"},
        "rule_files": [str(folder / "rules.yaml")],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": address.split(",")}]} for job, address in targets.items()
        ],
    }
    (folder / "prometheus.yaml").write_text(json.dumps(configuration))
    port = free_port()
    running = Prometheus(f"http://127.0.0.1:{port}")
    options = [f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}"]
    binary, _ = unpacked("prometheus")
    server = Server(
        "prometheus",
        [binary, *options, f"--web.listen-address=127.0.0.1:{port}"],
        folder / "prometheus.log",
    )
    server.start(lambda: _is_ready(running))
    is_over = threading.Event()
    watch = threading.Thread(target=_watch, args=(running, is_over), daemon=True)
    watch.start()
    try:
        yield running
    finally:
        is_over.set()
        watch.join()
        server.stop()


def _is_ready(running: Prometheus) -> bool:
    try:
        running.query("alerts")
    except OSError:
        return False
    return True


def _watch(running: Prometheus, is_over: threading.Event) -> None:
    while not is_over.wait(_POLL_S):
        try:
            running.look()
        except OSError:
            continue
