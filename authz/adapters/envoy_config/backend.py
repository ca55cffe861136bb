"""The address of an API behind Envoy, and the cluster settings that follow from it."""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from authz.adapters.envoy_config.blocks import Block, host_type, typed

_HOST = re.compile(r"[0-9A-Za-z.:_-]+")
_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True, slots=True)
class Backend:
    """The address of an API."""

    host: str
    port: int
    is_tls: bool = False

    def __str__(self) -> str:
        """Return host:port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parsed_backend(text: str) -> Backend:
    """Read `http://host:port`, or `host:port`; raises `ValueError` for anything else."""
    parts = urlsplit(text if "//" in text else f"//{text}", scheme="http")
    host = parts.hostname or ""
    known = (
        text.isprintable()
        and parts.scheme in {"http", "https"}
        and not (parts.username or parts.query or parts.fragment)
    )
    if not known or parts.path not in {"", "/"} or not _HOST.fullmatch(host) or parts.port == 0:
        raise ValueError(f"{text!r} is not an address such as http://127.0.0.1:3000, without a path")
    is_tls = parts.scheme == "https"
    return Backend(host, parts.port or (443 if is_tls else 80), is_tls)


def set_backend(cluster: Any, backend: Backend, *, http2: bool) -> None:  # noqa: ANN401 -- any YAML
    """Let a cluster of one endpoint connect to a backend, by TLS if the backend has it."""
    cluster["type"] = host_type(backend.host)
    (group,) = cluster["load_assignment"]["endpoints"]
    group["lb_endpoints"][0]["endpoint"]["address"] = {
        "socket_address": {"address": backend.host, "port_value": backend.port}
    }
    if backend.is_tls:
        cluster["transport_socket"] = _tls(backend.host, "h2" if http2 else "http/1.1")


def _tls(host: str, protocol: str) -> Block:
    """Return the settings by which the certificate must be of the system's authorities, and for the host."""
    name = {"san_type": "IP_ADDRESS" if host_type(host) == "STATIC" else "DNS", "matcher": {"exact": host}}
    context = {"trusted_ca": {"filename": _AUTHORITIES}, "match_typed_subject_alt_names": [name]}
    common = {"alpn_protocols": [protocol], "validation_context": context}
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": typed("transport_sockets.tls.v3.UpstreamTlsContext", sni=host, common_tls_context=common),
    }
