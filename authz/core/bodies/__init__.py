"""Bodies of refusals in the operator's own form."""
