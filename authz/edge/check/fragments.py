"""Fragments of serialised messages, equal to protobuf's output: lengths, headers, and entries of the metadata.

Only values that differ between callers or responses are serialised here, because protobuf would take most of the time
of a check. Everything else is serialised by protobuf once and cached (`responses.py`). A test compares both.
"""

from authz.edge.check.codec import OVERWRITE

_STRING, _SECOND = b"\x0a", b"\x12"  # the tags of fields 1 and 2, length-delimited
HEADERS, TO_ADD = b"\x12", b"\x32"
"""The tags of OkHttpResponse.headers (and DeniedHttpResponse.headers), and of response_headers_to_add."""

_TEXT = b"\x1a"  # google.protobuf.Value.string_value
ACTION = bytes((0x18, OVERWRITE))  # HeaderValueOption.append_action


class _Lengths(dict[int, bytes]):
    """Lengths as base-128 varints, each serialised once."""

    def __missing__(self, size: int) -> bytes:
        """Serialise the length of a fragment of `size` bytes."""
        rest, digit = divmod(size, 128)
        self[size] = length = bytes([digit | 0x80]) + self[rest] if rest else bytes([digit])
        return length


LENGTH = _Lengths()


class HeaderFragment:
    """Serialises a header that overwrites: a HeaderValueOption in a repeated field with the tag `field`."""

    def __init__(self, name: str, field: bytes = HEADERS) -> None:
        self._field = field
        self._name = _sized(_STRING, name.encode())
        # The bytes before a value depend only on its length.
        self._heads: dict[int, bytes] = {}

    def __call__(self, value: str) -> bytes:
        """Serialise the header with a value."""
        text = value.encode()
        return self.head(len(text)) + text + ACTION

    def head(self, size: int) -> bytes:
        """Serialise what precedes a value of `size` bytes; `ACTION` follows it."""
        return self._heads.get(size) or self._head(size)

    def _head(self, size: int) -> bytes:
        value = _SECOND + LENGTH[size] if size else b""  # an empty text is omitted
        header = _STRING + LENGTH[len(self._name) + len(value) + size] + self._name + value
        head = self._field + LENGTH[len(header) + size + len(ACTION)] + header
        return self._heads.setdefault(size, head)


class EntryFragment:
    """Serialises an entry of a google.protobuf.Struct with a text value."""

    def __init__(self, name: str) -> None:
        self._name = _sized(_STRING, name.encode())
        self._heads: dict[int, bytes] = {}

    def __call__(self, value: str) -> bytes:
        """Serialise the entry with a value."""
        text = value.encode()
        return (self._heads.get(len(text)) or self._head(len(text))) + text

    def _head(self, size: int) -> bytes:
        value = _TEXT + LENGTH[size]
        fields = self._name + _SECOND + LENGTH[len(value) + size] + value
        return self._heads.setdefault(size, _STRING + LENGTH[len(fields) + size] + fields)


def _sized(head: bytes, data: bytes) -> bytes:
    return head + LENGTH[len(data)] + data
