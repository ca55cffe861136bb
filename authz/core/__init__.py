"""The rules, without I/O. They use the standard library only, so a test of a rule takes microseconds."""
