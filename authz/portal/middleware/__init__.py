"""ASGI middleware of the portal: size limits, metrics and response headers."""
