"""Real Envoys with a given configuration in front of one backend and the sidecars of a stack."""

import copy
import json
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from authz.demo.envoy import configured
from authz.demo.servers import Server, accepts, free_port, package_folder, shipped

_DOCUMENT = Path(__file__).parents[3] / "docs" / "envoy.md"
HTTP2 = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
}
Change = Callable[[Any], None]


def manager(config: Any) -> Any:  # noqa: ANN401 -- YAML
    """Return the HTTP connection manager of a configuration with one listener."""
    (listener,) = config["static_resources"]["listeners"]
    return listener["filter_chains"][0]["filters"][0]["typed_config"]


def ext_authz(connections: Any) -> Any:  # noqa: ANN401 -- YAML
    """Return the settings of the ext_authz filter in a connection manager."""
    (found,) = (each for each in connections["http_filters"] if each["name"] == "envoy.filters.http.ext_authz")
    return found["typed_config"]


def shipped_config(check_ports: Sequence[int], backend_port: int, *, http2: bool = False, portal_port: int = 0) -> Any:  # noqa: ANN401 -- YAML
    """Return the shipped configuration with one backend, which also gets the portal's requests by default."""
    clusters = {"authz": check_ports, "authz-streams": check_ports, "backend": [backend_port]}
    clusters |= {"backend-grpc": [backend_port], "portal": [portal_port or backend_port]}
    config = yaml.safe_load(shipped("envoy.yaml").read_text())
    config = configured(config, port=free_port(), admin_port=free_port(), clusters=clusters)
    for cluster in config["static_resources"]["clusters"]:
        if http2 and cluster["name"] in {"backend", "portal"}:
            cluster["typed_extension_protocol_options"] = HTTP2
        if not http2 and cluster["name"] == "backend-grpc":
            cluster.pop("typed_extension_protocol_options")
    return config


def minimal_config(check_ports: Sequence[int], backend_port: int, *, http2: bool = False, trailers: bool = True) -> Any:  # noqa: ANN401 -- YAML
    """Return a configuration with no more than the filters that docs/envoy.md shows as the smallest block.

    Without `trailers`, only ext_authz and the router are left.
    """
    config = shipped_config(check_ports, backend_port, http2=http2)
    block = re.findall(r"```yaml\n(http_filters:.*?)```", _DOCUMENT.read_text(), re.DOTALL)[0]
    filters = yaml.safe_load(block)["http_filters"]
    route = {"match": {"prefix": "/"}, "route": {"cluster": "backend"}}
    whole = manager(config)
    kept = {name: whole[name] for name in ("@type", "stat_prefix", "codec_type")}
    whole.clear()
    whole |= kept | {
        "http_filters": [each for each in filters if trailers or not each["name"].endswith("header_mutation")],
        "route_config": {"virtual_hosts": [{"name": "api", "domains": ["*"], "routes": [route]}]},
    }
    return config


@contextmanager
def running_envoy(folder: Path, config: Any, *changes: Change) -> Iterator[str]:  # noqa: ANN401 -- YAML
    """Run an Envoy with changes to a configuration; yields its URL."""
    config = copy.deepcopy(config)
    for change in changes:
        change(config)
    name = f"envoy-{secrets.token_hex(4)}"
    file = folder / f"{name}.json"
    file.write_text(json.dumps(config))
    binary = package_folder("envoy") / "_bin" / "envoy"
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    server = Server(
        name,
        [binary, "-c", file, *options],
        folder / f"{name}.log",
        env={"AUTHZ_PORTAL_PROXY_SECRET": secrets.token_urlsafe(32)},
    )
    (listener,) = config["static_resources"]["listeners"]
    port = listener["address"]["socket_address"]["port_value"]
    server.start(lambda: accepts(port))
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()
