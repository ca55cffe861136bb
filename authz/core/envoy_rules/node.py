"""A value of an Envoy configuration with its path, read without trust in its type.

Envoy writes field names in snake case, istioctl in camel case; both are found. What the fields mean is for the rules.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

Path = tuple[str | int, ...]

_DURATION = re.compile(r"(-?[0-9]{1,12}(?:\.[0-9]{1,9})?)s")
_NUMBER = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")
_WRAPPED = ("udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct")


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it is. A missing value is None, with the path that it would have."""

    value: Any = None
    path: Path = ()

    def __getitem__(self, name: str) -> "Node":
        """Return a field, by its snake case name."""
        if isinstance(self.value, dict):
            for spelling in (name, _camel(name)):
                if spelling in self.value:
                    return Node(self.value[spelling], (*self.path, spelling))
        return Node(None, (*self.path, name))

    def at(self, *names: str) -> "Node":
        """Return a field of fields."""
        node = self
        for name in names:
            node = node[name]
        return node

    def __iter__(self) -> Iterator["Node"]:
        """Iterate over the items of a list; anything else has none."""
        if isinstance(self.value, list):
            for index, item in enumerate(self.value):
                yield Node(item, (*self.path, index))

    def __bool__(self) -> bool:
        """Tell whether the value is there, also if it is empty, zero or false."""
        return self.value is not None

    def fields(self) -> Iterator[tuple[str, "Node"]]:
        """Iterate over the fields of a mapping; anything else has none."""
        if isinstance(self.value, dict):
            for name, value in self.value.items():
                if isinstance(name, str):
                    yield name, Node(value, (*self.path, name))

    @property
    def text(self) -> str:
        """The text, or "" for anything else."""
        return self.value if isinstance(self.value, str) else ""

    @property
    def is_on(self) -> bool:
        """Whether the value is true."""
        return self.value is True or self.value == "true"

    @property
    def number(self) -> float | None:
        """The number, also of a text as protobuf writes 64 bit numbers, or None."""
        if isinstance(self.value, str) and _NUMBER.fullmatch(self.value):
            return float(self.value)
        if isinstance(self.value, int | float) and not isinstance(self.value, bool):
            return float(self.value) if abs(self.value) <= 2**64 else None
        return None

    @property
    def seconds(self) -> float | None:
        """The duration in seconds, or None."""
        found = _DURATION.fullmatch(self.text)
        return float(found[1]) if found else None

    @property
    def type_name(self) -> str:
        """The message type of a `typed_config`, without its host; also of a wrapped one."""
        name = self["@type"].text.rpartition("/")[2]
        return self["type_url"].text.rpartition("/")[2] if name in _WRAPPED else name

    @property
    def kind(self) -> str:
        """The last word of the message type."""
        return self.type_name.rpartition(".")[2]

    @property
    def message(self) -> "Node":
        """The message of a `typed_config`, out of its wrapper if it has one."""
        return self["value"] if self["@type"].text.rpartition("/")[2] in _WRAPPED else self

    def walk(self) -> Iterator["Node"]:
        """Iterate over this value and everything below it."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += [child for _, child in node.fields()]
            waiting += list(node)


@lru_cache(maxsize=1024)
def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)
