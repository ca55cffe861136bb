"""Postgres: accounts, keys, owners, the audit log, and the migrations."""
