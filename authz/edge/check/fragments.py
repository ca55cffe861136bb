"""Pieces of messages as bytes, as protobuf writes them: lengths, headers, and entries of the metadata.

Only what differs from caller to caller or from answer to answer is written here, where protobuf would take most of a
check's time; everything else is written by protobuf once and kept (`answers.py`). A test holds all of it to protobuf.
"""

from authz.edge.check.codec import OVERWRITE

_STRING, _SECOND = b"\x0a", b"\x12"  # the heads of fields 1 and 2, of a length
HEADERS, TO_ADD = b"\x12", b"\x32"
"""The heads of OkHttpResponse.headers, which is DeniedHttpResponse.headers too, and of its response_headers_to_add."""

_TEXT = b"\x1a"  # google.protobuf.Value.string_value
ACTION = bytes((0x18, OVERWRITE))  # HeaderValueOption.append_action


class _Lengths(dict[int, bytes]):
    """Lengths in base 128, the low digits first, each made once."""

    def __missing__(self, size: int) -> bytes:
        """Make the length of a piece of `size` bytes."""
        rest, digit = divmod(size, 128)
        self[size] = length = bytes([digit | 0x80]) + self[rest] if rest else bytes([digit])
        return length


LENGTH = _Lengths()


class HeaderPiece:
    """Writes a header that replaces whatever is there: a HeaderValueOption in a repeated field, of the head `field`."""

    def __init__(self, name: str, field: bytes = HEADERS) -> None:
        self._field = field
        self._name = _sized(_STRING, name.encode())
        # All that comes before a value depends on its length alone.
        self._heads: dict[int, bytes] = {}

    def __call__(self, value: str) -> bytes:
        """Write it with a value."""
        text = value.encode()
        return self.head(len(text)) + text + ACTION

    def head(self, size: int) -> bytes:
        """Write all that comes before a value of `size` bytes; behind it comes `ACTION`."""
        return self._heads.get(size) or self._head(size)

    def _head(self, size: int) -> bytes:
        value = _SECOND + LENGTH[size] if size else b""  # an empty text is left out
        header = _STRING + LENGTH[len(self._name) + len(value) + size] + self._name + value
        head = self._field + LENGTH[len(header) + size + len(ACTION)] + header
        return self._heads.setdefault(size, head)


class EntryPiece:
    """Writes an entry with a text of a google.protobuf.Struct."""

    def __init__(self, name: str) -> None:
        self._name = _sized(_STRING, name.encode())
        self._heads: dict[int, bytes] = {}

    def __call__(self, value: str) -> bytes:
        """Write it with a value."""
        text = value.encode()
        return (self._heads.get(len(text)) or self._head(len(text))) + text

    def _head(self, size: int) -> bytes:
        value = _TEXT + LENGTH[size]
        fields = self._name + _SECOND + LENGTH[len(value) + size] + value
        return self._heads.setdefault(size, _STRING + LENGTH[len(fields) + size] + fields)


def _sized(head: bytes, data: bytes) -> bytes:
    return head + LENGTH[len(data)] + data
