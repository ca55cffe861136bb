"""The limits of a policy file: buckets, named limits and plans, and the core's values of them.

Which rows name them is `document.py`; the rules between rows and limits are `core/policy/rules.py`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from authz.adapters.policy_file.shape import Shape
from authz.core.errors import Problem
from authz.core.limits import (
    ACCOUNT_ITEM,
    BUCKETS_MAX,
    CAPACITY_MAX,
    FULL_AFTER_S_MAX,
    KEY_ITEM,
    REFILL_PER_S_MAX,
    REFILL_PER_S_MIN,
    KeyLimits,
    Limit,
    NamedLimit,
    limit_fault,
)

NAMES_MAX = 64
"""The most named limits, and the most plans, of a policy."""


class LimitModel(Shape):
    """A token bucket."""

    capacity: int = Field(gt=0, le=CAPACITY_MAX)
    """Its size in tokens."""
    refill_per_s: float = Field(ge=REFILL_PER_S_MIN, le=REFILL_PER_S_MAX)
    """Tokens that are added each second, which may be a fraction; the bucket must fill within 2³¹ seconds."""

    @model_validator(mode="after")
    def _fills(self) -> "LimitModel":
        fault = limit_fault(self.limit())
        if fault is not None:
            raise ValueError(fault)
        return self

    def limit(self) -> Limit:
        """Return the limit as the core's value."""
        return Limit(self.capacity, self.refill_per_s)


class WindowModel(Shape):
    """A token bucket of a named limit: with its refill, or with the time in which it fills."""

    capacity: int = Field(gt=0, le=CAPACITY_MAX)
    """Its size in tokens."""
    refill_per_s: float | None = Field(default=None, ge=REFILL_PER_S_MIN, le=REFILL_PER_S_MAX)
    """Tokens that are added each second, which may be a fraction. Either this or `window_s`."""
    window_s: int | None = Field(default=None, gt=0, le=FULL_AFTER_S_MAX)
    """The seconds in which an empty bucket fills: `capacity` tokens in each such window."""

    @model_validator(mode="after")
    def _fills(self) -> "WindowModel":
        if (self.refill_per_s is None) is (self.window_s is None):
            raise ValueError("needs exactly one of refill_per_s and window_s")
        fault = limit_fault(self.limit())
        if fault is not None:
            raise ValueError(fault)
        return self

    def limit(self) -> Limit:
        """Return the limit as the core's value."""
        return Limit(self.capacity, self.refill_per_s or self.capacity / (self.window_s or 1))


def _listed(value: object) -> object:
    return [value] if isinstance(value, (str, dict)) else value


class _OneOrMore:
    """Lets the JSON Schema of a list accept one element without the list."""

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> Any:  # noqa: ANN401 -- pydantic's
        several = handler(core_schema)
        return {"anyOf": [several["items"], several]}


Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=40)]
Windows = Annotated[
    list[WindowModel],
    Field(min_length=1, max_length=BUCKETS_MAX),
    BeforeValidator(_listed),
    _OneOrMore(),
]
Names = Annotated[
    list[str],
    Field(min_length=1, max_length=BUCKETS_MAX),
    BeforeValidator(_listed),
    _OneOrMore(),
]
NamedWindows = Annotated[dict[Name, Windows], Field(max_length=NAMES_MAX)]
Plans = Annotated[dict[Name, Names], Field(max_length=NAMES_MAX)]


@dataclass(frozen=True, slots=True)
class NamedLimits:
    """The buckets of each named limit. A limit of several buckets has one item `NAME`, then `NAME-2` and so on."""

    of_name: Mapping[str, tuple[NamedLimit, ...]]

    @classmethod
    def of(cls, windows: Mapping[str, list[WindowModel]]) -> "NamedLimits":
        """Name each bucket."""
        return cls(
            {
                name: tuple(
                    NamedLimit(name if number == 1 else f"{name}-{number}", it.limit())
                    for number, it in enumerate(listed, 1)
                )
                for name, listed in windows.items()
            }
        )

    def buckets(self, names: list[str] | None) -> tuple[NamedLimit, ...]:
        """Return the buckets of some limits, each once; those that are not declared have none."""
        found = [it for name in names or () for it in self.of_name.get(name, ())]
        return tuple({it.name: it for it in found}.values())

    def undeclared(self, names: list[str] | None) -> str | None:
        """Return the fault of some names, or None."""
        missing = next((name for name in names or () if name not in self.of_name), None)
        return None if missing is None else f"the limit {missing} is not declared"

    def faults(self, streams: Mapping[str, object]) -> Iterator[Problem]:
        """Yield the names that rate headers already use for something else."""
        taken = {KEY_ITEM, ACCOUNT_ITEM} | {f"{name}-{whose}" for name in streams for whose in ("key", "account")}
        for name, buckets in self.of_name.items():
            for it in buckets:
                if it.name in taken:
                    yield Problem(("limits", name), f"the name {it.name} already has a meaning in rate headers")
                taken.add(it.name)

    def key_limits(
        self, usual: Limit, further: list[str] | None, plans: Mapping[str, list[str]], *, has_rows: bool
    ) -> KeyLimits | None:
        """Return which buckets keys have; None if each has the usual one only, on every row."""
        if not (further or plans or has_rows):
            return None
        default = (NamedLimit(KEY_ITEM, usual), *self.buckets(further))
        of_plan = {name: self.buckets(names) for name, names in plans.items()}
        every = [*default, *(it for buckets in self.of_name.values() for it in buckets)]
        return KeyLimits(default, of_plan, max(it.limit.capacity / it.limit.refill_per_s for it in every))
