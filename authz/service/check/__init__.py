"""What happens around one check: lookups, loads of missing keys, leases, limits on bad keys, failure modes."""
