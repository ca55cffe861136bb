"""The use cases of operators and owners on accounts, keys and open streams."""
