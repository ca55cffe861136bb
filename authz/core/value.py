"""`Value`: the base of values that every check creates: frozen, slotted, compared and hashed by their fields.

They are msgspec structs, because a check creates eight of them; a dataclass takes twice as long to create, a frozen one
six times. Values that are created once are dataclasses.
"""

from typing import dataclass_transform

from msgspec import Struct
from msgspec.structs import force_setattr

__all__ = ["Value", "force_setattr"]


@dataclass_transform(frozen_default=True)
class Value(Struct, frozen=True, gc=False):
    """The base of all values. None of them can be part of a cycle, so the garbage collector need not track them."""
