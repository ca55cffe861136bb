"""The base of the models of policy files: strict, frozen, and without unknown fields; and the types of lists.

The models are `document.py` and `keys.py`.
"""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from authz.core.hosts.names import HOSTS_MAX, pattern_fault


class Shape(BaseModel):
    """One mapping in a file; the docstrings of its fields are the descriptions in the schema."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


OneOrMore = Annotated[
    list[str],
    Field(min_length=1),
    BeforeValidator(_listed),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]


def _hosts(names: list[str]) -> list[str]:
    for name in names:
        if (fault := pattern_fault(name)) is not None:
            raise ValueError(fault)
    return names


Hosts = Annotated[
    list[Annotated[str, Field(max_length=255)]],
    Field(min_length=1, max_length=HOSTS_MAX),
    AfterValidator(_hosts),
    BeforeValidator(_listed),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]
