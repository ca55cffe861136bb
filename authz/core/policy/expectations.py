"""What somebody expects a policy to say to a request, and whether it does.

Reading expectations from a file is `adapters/expectation_file.py`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from authz.core.check import Allow, Decision
from authz.core.errors import DENIALS
from authz.core.policy.path import parse
from authz.core.policy.policy import Policy
from authz.core.policy.route import Route
from authz.core.policy.trial import Caller, decide, need

ALLOW = "allow"


@dataclass(frozen=True, slots=True)
class Expectation:
    """One request and either what it needs (`need` of `trial.py`), or what becomes of it when this caller sends it.

    `outcome` is `allow`, an HTTP status or a `DenyReason`. `where` is the place in the document that says so.
    """

    where: tuple[str | int, ...]
    method: str
    target: str
    needs: str = ""
    outcome: str = ""
    caller: Caller | None = None
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Surprise:
    """An expectation that a policy does not meet, and what it says instead."""

    expectation: Expectation
    expected: str
    found: str


def surprises(policy: Policy, expectations: Iterable[Expectation]) -> list[Surprise]:
    """Return every expectation that the policy does not meet."""
    found = []
    for it in expectations:
        if it.needs:
            needed = need(policy, it.method, it.target, it.body)
            if needed != it.needs:
                found.append(Surprise(it, f"needs {it.needs}", f"needs {needed}"))
        else:
            names = outcomes(decide(policy, it.method, it.target, it.caller, it.body))
            if it.outcome not in names:
                found.append(Surprise(it, it.outcome, " ".join(names)))
    return found


def outcomes(decision: Decision) -> Sequence[str]:
    """Name a decision in every way that an expectation may: `allow`, or its HTTP status and its reason."""
    if isinstance(decision, Allow):
        return (ALLOW,)
    return str(DENIALS[decision.reason].http), decision.reason.value


def untouched(policy: Policy, expectations: Iterable[Expectation]) -> list[Route]:
    """Return the rows that no expectation's request reaches, in the policy's order."""
    reached = {row(policy, it.method, it.target) for it in expectations}
    return [route for route in policy.routes if route not in reached]


def row(policy: Policy, method: str, target: str) -> Route | None:
    """Find the row that decides on a request, if any."""
    parsed = parse(target)
    match = policy.router.match(method, parsed) if parsed else None
    return match.route if match else None
