"""`Value`: what is made anew in every check, frozen, slotted, equal and hashed by its fields.

msgspec's structs, because a check makes eight such values, a dataclass takes twice as long to make, and one that is
frozen takes six times. What is made once is a dataclass as everywhere.
"""

from typing import dataclass_transform

from msgspec import Struct
from msgspec.structs import force_setattr

__all__ = ["Value", "force_setattr"]


@dataclass_transform(frozen_default=True)
class Value(Struct, frozen=True, gc=False):
    """The base of all values. None of them can be part of a cycle, so the garbage collector need not look at them."""
