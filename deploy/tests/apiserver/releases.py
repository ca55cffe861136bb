"""Takes a release through its life on a server, by Helm's own engine; prints each revision as JSON.

It runs in the environment `.venv/tools/manifests`, which has the engine.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import helm_python


def main(kubeconfig: str, chart: str, namespace: str, former: str = "") -> None:
    """Install, upgrade and roll back; or, with a former chart, upgrade from it with its values, and uninstall."""
    with helm_python.Config(kubeconfig_path=kubeconfig, namespace=namespace) as cluster:
        values = {"mode": "standalone", "portal": {"enabled": True}}
        from_former: list[Callable[[], Any]] = [
            lambda: cluster.install(former, "authz", values, timeout=120),
            lambda: cluster.upgrade(chart, "authz", {}, timeout=120, reuse_values=True),
        ]
        life: list[Callable[[], Any]] = [
            lambda: cluster.install(chart, "authz", {"mode": "standalone"}, timeout=120),
            lambda: cluster.upgrade(chart, "authz", {"mode": "standalone", "portal": {"enabled": True}}, timeout=120),
            lambda: cluster.upgrade(
                chart, "authz", {"mode": "standalone", "drain": {"delaySeconds": 9}}, timeout=120, reset_values=True
            ),
            lambda: cluster.rollback("authz", version=1) or cluster.status("authz"),
        ]
        for step in from_former if former else life:
            release = step()
            print(json.dumps({"revision": release["revision"], "status": release["status"]}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
