"""The base of the models of policy files: strict, frozen, and without unknown fields.

The models are `document.py` and `keys.py`.
"""

from pydantic import BaseModel, ConfigDict


class Shape(BaseModel):
    """One mapping in a file; the docstrings of its fields are the descriptions in the schema."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)
