"""The operator's `authz` command, one module per noun."""
