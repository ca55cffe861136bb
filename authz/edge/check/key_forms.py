"""Keys that a policy accepts in several headers, or after a scheme such as Bearer.

The usual form, one header that holds only the key, is read by `attributes.py` at less cost.
"""

import re
from binascii import Error, a2b_base64
from collections.abc import Sequence

from msgspec import structs

from authz._pb.base_pb2 import HeaderValue
from authz._pb.check_pb2 import CheckRequest
from authz.core.check import RequestAttributes
from authz.core.policy.policy import KeyForm, KeyRules, KeyScheme
from authz.core.reserved_headers import COUNT_MAX, may_be_reserved, reserved
from authz.core.traces.context import Traced
from authz.edge.check.attributes import AttributesReader, _headers, _value

_VALUE_BYTES_MAX = 1_024
_UNREADABLE = b""  # no key: refused as a malformed one
_BEARER = re.compile(rb"(?i:bearer) +([!-~]+)")
_BASIC = re.compile(rb"(?i:basic) +([A-Za-z0-9+/]+={0,2})")


class KeyFormsReader:
    """The reader for an API whose keys come in several forms, `keys.forms`, or with several prefixes.

    The first header of the forms that a request has decides, whatever the others say: all of them are removed before
    the backend.
    """

    def __init__(self, keys: KeyRules) -> None:
        self._reader = AttributesReader(keys)
        self._headers = keys.headers
        forms = keys.forms or (KeyForm(keys.header),)
        self._schemes = {name: tuple(it.scheme for it in forms if it.header == name) for name in self._headers}

    def read(self, request: CheckRequest, call: Traced | None = None) -> RequestAttributes:
        """Read the attributes of one request, as `AttributesReader.read`."""
        attributes = self._reader.read(request, call)
        headers = _headers(request.attributes.request.http)
        return structs.replace(
            attributes,
            api_keys=self._presented(headers),
            reserved_headers=self._reserved(headers, attributes.reserved_headers),
        )

    def _presented(self, headers: Sequence[HeaderValue]) -> tuple[bytes, ...]:
        for name in self._headers:
            values = tuple(_value(header) for header in headers if header.key == name)
            if len(values) > 1:  # refused, so none of them is decoded
                return (_UNREADABLE,) * len(values)
            if values:
                return (_key(self._schemes[name], values[0]),)
        return ()

    def _reserved(self, headers: Sequence[HeaderValue], found: tuple[str, ...]) -> tuple[str, ...]:
        """Add the aliases of the other key headers."""
        names = dict.fromkeys(found)
        for other in self._headers[1:]:
            candidates = [header.key for header in headers if may_be_reserved(header.key, other)]
            names |= dict.fromkeys(name for name in reserved(candidates, other) if name not in self._headers)
        return tuple(name for name in names if name not in self._headers)[: COUNT_MAX + 1]


def _key(schemes: Sequence[KeyScheme], value: bytes) -> bytes:
    """Return the key in a header's value; what no scheme can read is no key."""
    if len(value) > _VALUE_BYTES_MAX:
        return _UNREADABLE
    if KeyScheme.BEARER in schemes and (matched := _BEARER.fullmatch(value)):
        return matched[1]
    if KeyScheme.BASIC in schemes and (matched := _BASIC.fullmatch(value)):
        return _user_name(matched[1])
    return value if KeyScheme.PLAIN in schemes else _UNREADABLE


def _user_name(encoded: bytes) -> bytes:
    """Return the user name of Basic credentials whose password is empty."""
    try:
        name, colon, password = a2b_base64(encoded, strict_mode=True).partition(b":")
    except (Error, ValueError):
        return _UNREADABLE
    return name if colon and not password else _UNREADABLE
