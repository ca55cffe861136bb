"""The rules by which an Envoy configuration is safe and useful in front of authz.

Files and addresses are read in `adapters/envoy_config/`.
"""
