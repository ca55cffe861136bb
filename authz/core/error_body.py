"""The JSON body of an error: a google.rpc.Status with one ErrorInfo as grpc-gateway writes it, or RFC 9457.

The texts are in `errors.py`. Its users are authz' refusals, Envoy's own responses, and the portal's keyed routes.
"""

from collections.abc import Mapping
from typing import Any

from authz.core.errors import Denial, GrpcCode

_QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"


def error_body(domain: str, code: int, message: str, line: str, metadata: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401 -- JSON
    """Return the body; `line` is the text from which the ErrorInfo reason is made, such as "rate limit exceeded"."""
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": line.upper().replace(" ", "_"),
        "domain": domain,
        "metadata": dict(metadata or {}),
    }
    return {"code": code, "message": message, "details": [info]}


def problem_body(domain: str, denial: Denial, message: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the problem details (RFC 9457) of a refusal; members of `metadata` are extensions.

    Exceeded limits have the type of draft-ietf-httpapi-ratelimit-headers.
    """
    problem: dict[str, Any] = {"title": denial.line, "status": denial.http, "detail": message}
    if denial.code is GrpcCode.RESOURCE_EXHAUSTED:
        problem = {"type": _QUOTA_EXCEEDED, **problem}
    return {**problem, "domain": domain, **metadata}
