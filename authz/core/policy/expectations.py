"""Expected decisions of a policy on requests, and the comparison with its real decisions.

`adapters/policy_file/expectations.py` reads them from a file.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from authz.core.check import Allow, Decision
from authz.core.errors import DENIALS
from authz.core.policy.path import parse
from authz.core.policy.policy import Policy
from authz.core.policy.route import Route
from authz.core.policy.simulation import Caller, decide, need

ALLOW = "allow"


@dataclass(frozen=True, slots=True)
class Expectation:
    """One request, with either what it needs (`need` of `simulation.py`) or its outcome for a given caller.

    `outcome` is `allow`, an HTTP status or a `DenyReason`. `where` is its path in the document.
    """

    where: tuple[str | int, ...]
    method: str
    target: str
    needs: str = ""
    outcome: str = ""
    caller: Caller | None = None
    body: bytes = b""
    host: str = ""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """An expectation that a policy does not meet, and the real result."""

    expectation: Expectation
    expected: str
    found: str


def mismatches(policy: Policy, expectations: Iterable[Expectation]) -> list[Mismatch]:
    """Return every expectation that the policy does not meet."""
    found = []
    for it in expectations:
        if it.needs:
            needed = need(policy, it.method, it.target, it.body, host=it.host)
            if needed != it.needs:
                found.append(Mismatch(it, f"needs {it.needs}", f"needs {needed}"))
        else:
            names = outcomes(decide(policy, it.method, it.target, it.caller, it.body, host=it.host))
            if it.outcome not in names:
                found.append(Mismatch(it, it.outcome, " ".join(names)))
    return found


def outcomes(decision: Decision) -> Sequence[str]:
    """Name a decision in every way that an expectation may: `allow`, or its HTTP status and its reason."""
    if isinstance(decision, Allow):
        return (ALLOW,)
    return str(DENIALS[decision.reason].http), decision.reason.value


def uncovered(policy: Policy, expectations: Iterable[Expectation]) -> list[Route]:
    """Return the rows that decide on no expectation's request, in the policy's order."""
    covered = {row(policy, it.method, it.target, it.host) for it in expectations}
    return [route for route in policy.routes if route not in covered]


def row(policy: Policy, method: str, target: str, host: str = "") -> Route | None:
    """Find the row that decides on a request, or None."""
    parsed = parse(target)
    match = policy.router.for_host(host).match(method, parsed) if parsed else None
    return match.route if match else None
