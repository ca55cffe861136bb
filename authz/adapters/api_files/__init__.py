"""Descriptions of APIs: OpenAPI files and protobuf descriptor sets in, operations or errors out."""
