"""The whole stack with TLS and client certificates between Envoy and the check listener.

The certificates are `support/certificates.py`.
"""

import json
from pathlib import Path
from typing import Any

from support.certificates import MountedFiles

from authz.demo.stack import Stack

ENVOY = "spiffe://cluster.local/ns/gateway/sa/envoy"


class TlsStack:
    """The stack with TLS between Envoy and the sidecar; Envoy opens a new connection after so many checks."""

    def __init__(self, files: MountedFiles, *, connection_checks: int) -> None:
        self.files = files
        self._connection_checks = connection_checks
        mounted = files.mounted
        variables = {
            "CERTIFICATE_FILE": mounted.certificate,
            "KEY_FILE": mounted.key,
            "CLIENT_CA_FILE": mounted.client_ca,
            "CLIENT_NAMES": ENVOY,
        }
        self.stack = Stack(env={f"AUTHZ_CHECK_{name}": str(value) for name, value in variables.items()})
        self._config = self.stack.folder / "envoy.yaml"
        self._plain = json.loads(self._config.read_text())
        self.connect_with(files.authority.issue(f"URI:{ENVOY}"))

    def connect_with(self, client: tuple[Path, Path] | None) -> None:
        """Make Envoy use a client certificate from its next start on."""
        config = json.loads(json.dumps(self._plain))
        for cluster in config["static_resources"]["clusters"]:
            if cluster["name"].startswith("authz"):
                cluster["transport_socket"] = self._socket(client)
                (options,) = cluster["typed_extension_protocol_options"].values()
                options["common_http_protocol_options"] = {"max_requests_per_connection": self._connection_checks}
        self._config.write_text(json.dumps(config))

    def _socket(self, client: tuple[Path, Path] | None) -> dict[str, Any]:
        files = [] if client is None else [client]
        return {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": "localhost",
                "common_tls_context": {
                    "alpn_protocols": ["h2"],
                    "tls_certificates": [
                        {"certificate_chain": {"filename": str(chain)}, "private_key": {"filename": str(key)}}
                        for chain, key in files
                    ],
                    "validation_context": {
                        "trusted_ca": {"filename": str(self.files.authority.certificate)},
                        "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "localhost"}}],
                    },
                },
            },
        }
