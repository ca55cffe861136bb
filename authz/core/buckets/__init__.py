"""The buckets that one check takes tokens from, where a key may have several."""
