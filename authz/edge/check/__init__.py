"""The Check RPC: from Envoy's bytes to attributes, and from decisions to response bytes."""
