"""The JSON body of an error, as grpc-gateway writes a google.rpc.Status with one ErrorInfo.

The texts are in `errors.py`. Its users are authz' refusals, Envoy's own responses, and the portal's keyed routes.
"""

from collections.abc import Mapping
from typing import Any


def error_body(domain: str, code: int, message: str, line: str, metadata: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401 -- JSON
    """Return the body; `line` is the text from which the ErrorInfo reason is made, such as "rate limit exceeded"."""
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": line.upper().replace(" ", "_"),
        "domain": domain,
        "metadata": dict(metadata or {}),
    }
    return {"code": code, "message": message, "details": [info]}
