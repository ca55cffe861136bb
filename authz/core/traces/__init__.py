"""Trace contexts of callers."""
