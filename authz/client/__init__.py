"""The `truetick` command: gets an API key and saves it. It depends on the published wire formats only."""
