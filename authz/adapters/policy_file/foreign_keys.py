"""The fields of `keys.foreign`: the formats of keys that another system has made.

The other fields of a policy file are `document.py`.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from authz.core.keys import ForeignFormat

_CHARS_MAX = 512
_BITS_MIN = 80


class ForeignKeysModel(BaseModel):
    """A format of keys that another system has made, and that `authz keys import` brings in by their digests."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)

    prefix: str = Field(default="", pattern=r"^[A-Za-z0-9_.-]*$", max_length=32)
    """The beginning of every key, such as sk_live_; not that of the policy's own keys."""
    alphabet: Literal["hex", "base62", "base64url", "base64"]
    """The characters behind the prefix."""
    chars_min: int = Field(gt=0, le=_CHARS_MAX)
    """The fewest characters behind the prefix: at least 80 bits, since a plain hash is stored."""
    chars_max: int = Field(gt=0, le=_CHARS_MAX)
    """The most characters behind the prefix."""

    @model_validator(mode="after")
    def _unguessable(self) -> "ForeignKeysModel":
        if self.chars_min > self.chars_max:
            raise ValueError("chars_min is more than chars_max")
        if self.format().entropy_bits < _BITS_MIN:
            raise ValueError(f"chars_min allows keys of less than {_BITS_MIN} bits, which can be guessed")
        return self

    def format(self) -> ForeignFormat:
        """Return the format as the core's value."""
        return ForeignFormat(self.prefix, self.chars_min, self.chars_max, self.alphabet)
