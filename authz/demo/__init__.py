"""The demo stack on one machine: packaged Redis, Postgres and Envoy, a small backend, and a tour of authz."""
