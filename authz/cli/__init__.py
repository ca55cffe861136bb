"""The operator's `authz` command, one module or package per noun."""
