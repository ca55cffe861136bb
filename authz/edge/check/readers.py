"""The reader of a policy's requests: the forms of its keys, also in the query, and the host where hosts matter.

The usual policy, with one plain header and no hosts, has the reader of `attributes.py` alone.
"""

from typing import Protocol

from msgspec import structs

from authz._pb.check_pb2 import CheckRequest
from authz.core.bindings.key_parameter import KeyParameter
from authz.core.bindings.spellings import Ambiguous
from authz.core.check import RequestAttributes
from authz.core.policy.overrides import Override
from authz.core.policy.policy import Policy
from authz.core.traces.context import Traced
from authz.edge.check.attributes import AttributesReader
from authz.edge.check.key_forms import KeyFormsReader


class Reader(Protocol):
    """Reads the attributes of requests."""

    def read(self, request: CheckRequest, call: Traced | None = None) -> RequestAttributes:
        """Read the attributes of one request, as `AttributesReader.read`."""
        ...


def reader_of(policy: Policy) -> Reader:
    """Return the reader of requests to an API with this policy."""
    reader: Reader = AttributesReader(policy.keys) if policy.keys.is_plain else KeyFormsReader(policy.keys)
    if policy.keys.query_parameter:
        reader = QueryKeyReader(reader, policy.keys.query_parameter)
    return HostReader(reader, policy.host_extension) if policy.router.has_hosts else reader


class HostReader:
    """Adds the host to what another reader reads: the authority, or a context extension."""

    def __init__(self, reader: Reader, extension: str) -> None:
        self._reader, self._extension = reader, extension

    def read(self, request: CheckRequest, call: Traced | None = None) -> RequestAttributes:
        """Read the attributes of one request, as `AttributesReader.read`."""
        attributes, sent = self._reader.read(request, call), request.attributes
        if self._extension:
            return structs.replace(attributes, host=sent.context_extensions.get(self._extension, ""))
        return structs.replace(attributes, host=sent.request.http.host)


class QueryKeyReader:
    """Takes the key out of the query, where another reader has found none in a header."""

    def __init__(self, reader: Reader, parameter: str) -> None:
        self._reader, self._parameter = reader, KeyParameter(parameter)

    def read(self, request: CheckRequest, call: Traced | None = None) -> RequestAttributes:
        """Read the attributes of one request, as `AttributesReader.read`."""
        attributes = self._reader.read(request, call)
        try:
            target, key = self._parameter.split(attributes.target)
        except Ambiguous:
            # The target may hold a key, so nobody sees its query any more.
            path = attributes.target.partition("?")[0]
            return structs.replace(attributes, target=path, overrides=Override.KEY)
        if key is None:
            return attributes
        api_keys = attributes.api_keys or (key.encode(),)
        return structs.replace(attributes, target=target, api_keys=api_keys, key_in_query=True)
