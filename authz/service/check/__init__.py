"""The steps around one check: lookups, loads of missing keys, leases, limits on invalid keys, failure modes."""
