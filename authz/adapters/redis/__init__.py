"""Redis: key records and buckets, leases, sessions, device grants, throttles; one Lua script per operation."""
