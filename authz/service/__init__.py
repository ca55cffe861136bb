"""Use cases over ports: what happens, in which order, and what when something is out of reach."""
