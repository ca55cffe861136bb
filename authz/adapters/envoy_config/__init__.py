"""Reads Envoy configurations of any form, and writes blocks into them.

What is wrong with one is decided in `core/envoy_rules/`.
"""
