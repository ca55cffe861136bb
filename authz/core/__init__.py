"""The rules, without I/O: standard library only, so that every rule is tested in microseconds."""
