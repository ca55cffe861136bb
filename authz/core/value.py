"""`@value`: a frozen dataclass for what is made anew in every check.

To the type checker it is frozen, and the type checker reads the tests as well. At run time nothing stands guard: a
dataclass that does takes three times as long to make, and a check makes eight. What is made once is frozen for real.
"""

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]:
    """Make a slotted dataclass, equal and hashed by its fields, whose fields are never assigned again."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
