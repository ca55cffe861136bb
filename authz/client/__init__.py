"""The `truetick` command: gets an API key for the person at the terminal and keeps it; all it shares is the wire."""
