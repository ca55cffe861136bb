"""Pieces of messages as bytes, as protobuf writes them: lengths, headers, and entries of the metadata.

Only what is made of a caller's own ids is written here, because a key that is new to this process should cost little;
everything else is written by protobuf once and kept (`answers.py`). A test holds all of it against protobuf.
"""

from google.protobuf.struct_pb2 import Struct

from authz.edge.codec import OVERWRITE

_STRING, _SECOND = b"\x0a", b"\x12"  # the heads of fields 1 and 2, of a length
_TEXT = b"\x1a"  # google.protobuf.Value.string_value
_ACTION = bytes((0x18, OVERWRITE))  # HeaderValueOption.append_action


class _Lengths(dict[int, bytes]):
    """Lengths in base 128, the low digits first, each made once."""

    def __missing__(self, size: int) -> bytes:
        """Make the length of a piece of `size` bytes."""
        rest, digit = divmod(size, 128)
        self[size] = length = bytes([digit | 0x80]) + self[rest] if rest else bytes([digit])
        return length


LENGTH = _Lengths()


class HeaderPiece:
    """Writes a header that replaces whatever is there: one of the options in field 2 of an OkHttpResponse."""

    def __init__(self, name: str) -> None:
        self._name = _field(_STRING, name.encode())

    def __call__(self, value: str) -> bytes:
        """Write it with a value."""
        text = value.encode()
        header = self._name + _SECOND + LENGTH[len(text)] + text if text else self._name
        option = _STRING + LENGTH[len(header)] + header + _ACTION
        return _SECOND + LENGTH[len(option)] + option


class EntryPiece:
    """Writes an entry with a text of a google.protobuf.Struct."""

    def __init__(self, name: str) -> None:
        self._name = _field(_STRING, name.encode())

    def __call__(self, value: str) -> bytes:
        """Write it with a value."""
        text = value.encode()
        written = _TEXT + LENGTH[len(text)] + text
        fields = self._name + _SECOND + LENGTH[len(written)] + written
        return _STRING + LENGTH[len(fields)] + fields


def entry(name: str, value: str) -> bytes:
    """Write an entry with a text of a google.protobuf.Struct that will be kept."""
    struct = Struct()
    struct.update({name: value})
    return struct.SerializeToString()


def _field(head: bytes, data: bytes) -> bytes:
    return head + LENGTH[len(data)] + data
