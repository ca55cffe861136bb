"""Envoy as a child process, with the shipped `envoy.yaml` and the addresses of this machine.

The file itself documents the configuration.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from authz.demo.own_api import OwnApi
from authz.demo.servers import Server, free_port, package_folder, shipped


class EnvoyServer(Server):
    """An Envoy on loopback in front of one backend and the portal, or of one's own API, with the sidecars on ports."""

    def __init__(
        self,
        folder: Path,
        *,
        port: int,
        authz_ports: Sequence[int],
        backend_port: int,
        portal_port: int,
        portal_secret: str,
        heartbeat_s: float,
        own: OwnApi | None = None,
    ) -> None:
        self.url = f"http://127.0.0.1:{port}"
        admin_port = free_port()
        self.admin_url = f"http://127.0.0.1:{admin_port}"
        config = configured(
            yaml.safe_load(own.envoy_text() if own else shipped("envoy.yaml").read_text()),
            port=port,
            admin_port=admin_port,
            clusters={
                "authz": authz_ports,
                "authz-streams": authz_ports,
                **({} if own else {"backend": [backend_port], "backend-grpc": [backend_port], "portal": [portal_port]}),
            },
        )
        (listener,) = config["static_resources"]["listeners"]
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        if "access_log_options" in manager:
            manager["access_log_options"]["access_log_flush_interval"] = f"{heartbeat_s}s"
        # JSON is YAML.
        (folder / "envoy.yaml").write_text(json.dumps(config))
        binary = package_folder("envoy") / "_bin" / "envoy"
        options = [
            "--concurrency",
            "2",
            "--disable-hot-restart",
            "--log-level",
            "warning",
            "--file-flush-interval-msec",
            "200",
        ]
        super().__init__(
            "envoy",
            [binary, "-c", folder / "envoy.yaml", *options],
            folder / "envoy.log",
            env={"AUTHZ_PORTAL_PROXY_SECRET": portal_secret},
        )


def configured(config: Any, *, port: int, admin_port: int, clusters: Mapping[str, Sequence[int]]) -> Any:  # noqa: ANN401 -- YAML
    """Set loopback addresses in a configuration: listener, admin, and one endpoint for each port of a given cluster."""
    config["admin"]["address"] = _address(admin_port)
    (listener,) = config["static_resources"]["listeners"]
    listener["address"] = _address(port)
    for cluster in config["static_resources"]["clusters"]:
        if cluster["name"] not in clusters:
            continue
        endpoints = [{"endpoint": {"address": _address(endpoint)}} for endpoint in clusters[cluster["name"]]]
        cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": endpoints}]
    return config


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
