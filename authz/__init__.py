"""An authorization sidecar for Envoy: one decision per request, one atomic Redis call per decision."""
