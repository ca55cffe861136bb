"""Wire protocols: bytes and messages in, attributes to the service, decisions back out."""
