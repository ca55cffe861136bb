"""Spans of checks and of portal requests, and their export over OTLP."""
