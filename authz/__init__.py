"""An authorization sidecar for Envoy: one decision per request, one atomic Redis call per decision."""

from importlib.metadata import version

__version__ = version("authz")
