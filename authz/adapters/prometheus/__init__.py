"""Prometheus metrics of checks, streams and the portal."""
