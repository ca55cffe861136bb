"""Reads a file of expectations about a policy, or says what is wrong with it, with line and column.

Whether they are met is `core/expectations.py`.
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from authz.adapters.policy_file import yaml
from authz.adapters.policy_file.shape import OneOrMore
from authz.core.errors import DENIALS, DenyReason, PolicyError, Problem
from authz.core.policy.expectations import ALLOW, Expectation
from authz.core.policy.policy import Policy
from authz.core.policy.route import Access
from authz.core.policy.simulation import Caller

_NEEDS = frozenset({*Access, *DenyReason}) - {Access.SCOPE}
_OUTCOMES = frozenset({ALLOW, *DenyReason, *(str(denial.http) for denial in DENIALS.values())})


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Group(_Model):
    """Requests of which the same is expected."""

    request: OneOrMore
    needs: str | None = None
    expect: str | int | None = None
    key: list[str] | None = None
    account: str | None = Field(default=None, min_length=1)
    body: dict[str, Any] | None = None
    host: str = Field(default="", max_length=255)

    @model_validator(mode="after")
    def _one_expectation(self) -> "Group":
        if (self.needs is None) == (self.expect is None):
            raise ValueError("needs exactly one of needs and expect")
        if self.needs is not None and (self.key is not None or self.account is not None):
            raise ValueError("needs is about every key: key and account belong to expect")
        if self.account is not None and self.key is None:
            raise ValueError("account is a key's: it belongs to key")
        return self


class Document(_Model):
    """Expectations about one policy."""

    version: Literal[1]
    expectations: list[Group] = Field(min_length=1)


def load_expectations(path: Path, policy: Policy) -> list[Expectation]:
    """Read a file; raises `PolicyError` with every fault, such as a scope that the policy does not declare."""

    def build(document: Document) -> list[Expectation]:
        problems: list[Problem] = []
        found = [
            expectation
            for number, group in enumerate(document.expectations)
            for expectation in _unfolded(group, ("expectations", number), policy, problems)
        ]
        if problems:
            raise PolicyError(problems)
        return found

    names = {name for model in (Document, Group) for name in model.model_fields}
    return yaml.load(path, Document, build, names)


def _unfolded(group: Group, where: tuple[str | int, ...], policy: Policy, problems: list[Problem]) -> list[Expectation]:
    needs, outcome = group.needs or "", "" if group.expect is None else str(group.expect)
    if needs not in _NEEDS and not {it for text in needs.split(" or ") for it in text.split(" and ")} <= {
        *policy.scopes,
        "",
    }:
        problems.append(Problem((*where, "needs"), f"{needs} is neither a scope of the policy nor a need"))
    if outcome and outcome not in _OUTCOMES:
        problems.append(Problem((*where, "expect"), f"{outcome} is neither allow nor a status nor a reason"))
    for number, scope in enumerate(group.key or ()):
        if scope not in policy.scopes:
            problems.append(Problem((*where, "key", number), f"the scope {scope} is not declared"))
    caller = None if group.key is None else Caller(frozenset(group.key), group.account)
    body = b"" if group.body is None else json.dumps(group.body).encode()
    found = []
    for number, request in enumerate(group.request):
        place = (*where, "request", number)
        method, space, target = request.partition(" ")
        if not space or not target:
            problems.append(Problem(place, f"{request!r}: must be METHOD /path"))
        found.append(Expectation(place, method, target, needs, outcome, caller, body, group.host))
    return found
