"""One outside system each: Redis, Postgres, the policy file, Prometheus."""
