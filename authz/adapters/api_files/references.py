"""Follows `$ref`s within one document, and takes mappings and lists for what they are.

A reference to another file or address is never opened: an import reads the one file that it was given.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

_HOPS_MAX = 32
_POINTER_CHARS_MAX = 2_000


class Resolver:
    """Finds the values that references of one document name."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root

    def followed(self, value: Any) -> Any:  # noqa: ANN401 -- any part of a document
        """Return a value, or what its `$ref` names; None for a reference that leads nowhere or to another file."""
        for _ in range(_HOPS_MAX):
            if not isinstance(value, dict) or "$ref" not in value:
                return value
            value = self._named(value["$ref"])
        return None

    def _named(self, reference: object) -> Any:  # noqa: ANN401 -- any part of a document
        if not isinstance(reference, str) or not reference.startswith("#/") or len(reference) > _POINTER_CHARS_MAX:
            return None
        value: Any = self._root
        for step in reference[2:].split("/"):
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(value, dict) and name in value:
                value = value[name]
            elif isinstance(value, list) and name.isascii() and name.isdecimal() and int(name[:9]) < len(value):
                value = value[int(name[:9])]
            else:
                return None
        return value


def mapping(value: Any) -> Mapping[str, Any]:  # noqa: ANN401 -- any part of a document
    """Return a mapping as it is, and anything else as an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> Sequence[Any]:  # noqa: ANN401 -- any part of a document
    """Return a list as it is, and anything else as an empty one."""
    return value if isinstance(value, list) else ()
