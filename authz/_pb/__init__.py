"""Generated from `protos/` by `make protos`; nothing here is edited by hand."""
