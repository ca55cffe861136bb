"""`authz envoy`: check Envoy configurations, and write blocks for them."""
