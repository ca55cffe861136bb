"""The operator's commands about policy files: check, explain, test, compare and import."""
