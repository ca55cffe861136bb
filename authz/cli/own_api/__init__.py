"""`authz init`, and what it writes for one's own API: a policy, an Envoy configuration, and a stack to try both."""
