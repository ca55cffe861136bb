"""Account bindings: which accounts a request names, in every spelling that a backend may read."""
