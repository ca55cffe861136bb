"""Hosts of a policy: one spelling of each, and the table of the rows of each."""
