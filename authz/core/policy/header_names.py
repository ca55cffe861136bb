"""Header names that cannot carry an API key, because HTTP, Envoy or authz itself owns them.

The grammar of names is the schema's (`adapters/policy_file/document.py`).
"""

from authz.core.policy.overrides import HOST_HEADERS, METHOD_HEADERS, PATH_HEADERS

_HTTP = frozenset(
    """
    accept age allow cache-control connection cookie cookie2 date dnt early-data etag expect expires forwarded from host
    http2-settings idempotency-key keep-alive last-event-id link location max-forwards origin pragma prefer priority
    range referer retry-after server set-cookie te trailer transfer-encoding upgrade upgrade-insecure-requests
    user-agent vary via warning www-authenticate x-csrf-token x-request-id x-requested-with x-xsrf-token
    """.split()  # noqa: SIM905 -- a list of strings would take 50 lines
)
_TRACING = frozenset(
    """
    b3 baggage traceparent tracestate uber-trace-id x-amzn-trace-id x-client-trace-id x-cloud-trace-context
    """.split()  # noqa: SIM905 -- as above
)
_ADDRESSES = frozenset(
    """
    client-ip fastly-client-ip true-client-ip x-client-ip x-cluster-client-ip x-original-forwarded-for x-real-ip
    """.split()  # noqa: SIM905 -- as above
)
_PREFIXES = {
    "x-authz-": "authz sets headers of this prefix",
    "x-envoy-": "Envoy owns headers of this prefix",
    "x-forwarded-": "proxies own headers of this prefix",
    "cf-": "proxies own headers of this prefix",
    "x-azure-": "proxies own headers of this prefix",
    "x-b3-": "tracing owns headers of this prefix",
    "x-ot-": "tracing owns headers of this prefix",
    "x-ratelimit-": "authz sets headers of this prefix",
    "ratelimit": "authz sets headers of this prefix",
    "grpc-": "gRPC owns headers of this prefix",
    "accept-": "HTTP owns headers of this prefix",
    "access-control-": "HTTP owns headers of this prefix",
    "content-": "HTTP owns headers of this prefix",
    "if-": "HTTP owns headers of this prefix",
    "proxy-": "HTTP owns headers of this prefix",
    "sec-": "browsers own headers of this prefix",
}


def key_header_fault(name: str, *, has_scheme: bool = False) -> str | None:
    """Return why a lower-case header name cannot carry API keys, or None. Backends may fold underscores."""
    name = name.replace("_", "-")
    if has_scheme:
        return None if name == "authorization" else "only authorization has a scheme"
    if name == "authorization":
        return "authorization carries a scheme beside the key: list it in headers as `authorization bearer`"
    if name in _HTTP:
        return f"{name} has a meaning of its own in HTTP"
    if name in _TRACING:
        return f"{name} belongs to tracing"
    if name in _ADDRESSES:
        return f"proxies put the client's address into {name}"
    if name in HOST_HEADERS:
        return f"{name} names another host to some backends"
    if name in METHOD_HEADERS | PATH_HEADERS:
        return f"{name} names another method or path to some backends"
    return next((f"{name}: {fault}" for prefix, fault in _PREFIXES.items() if name.startswith(prefix)), None)
