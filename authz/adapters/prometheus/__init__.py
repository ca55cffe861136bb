"""Metrics in Prometheus' format: of checks, of streams, of the portal."""
