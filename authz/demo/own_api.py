"""`authz demo --policy FILE --backend URL`: one's own API behind Envoy and authz on this machine.

The stack is `stack.py`; Envoy's configuration is that of `authz init`.
"""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from authz.adapters.policy_file.loader import load_policy
from authz.cli.own_api.envoy_file import Backend, envoy_text, parsed_backend
from authz.cli.own_api.stack_files import first_route, sample_path
from authz.core.errors import Refused
from authz.core.policy.policy import Policy
from authz.core.policy.route import Access, Route
from authz.demo.servers import shipped


@dataclass(frozen=True, slots=True)
class OwnApi:
    """A policy, its file, and the address of the API that it is for."""

    policy_file: Path
    policy: Policy
    backend: Backend

    @classmethod
    def checked(cls, policy_file: Path, backend: str) -> "OwnApi":
        """Load the policy and read the address; raises `PolicyError` and `Refused`."""
        policy = load_policy(policy_file)
        try:
            return cls(policy_file.resolve(), policy, parsed_backend(backend))
        except ValueError as error:
            raise Refused(str(error)) from None

    def envoy_text(self) -> str:
        """Return Envoy's configuration for it."""
        return envoy_text(shipped("envoy.yaml").read_text(encoding="utf-8"), self.policy, self.backend)


def requests(policy: Policy) -> tuple[Route | None, Route | None]:
    """Return a route for a first request, and one that needs another scope."""
    first = first_route(policy)
    other = next(
        (it for it in policy.routes if it.access is Access.SCOPE and first is not None and it.scope != first.scope),
        None,
    )
    return first, other


def first_scopes(policy: Policy) -> list[str]:
    """Return the scopes of a first key: that of the first route, or all if there is no such route."""
    first = first_route(policy)
    return [first.scope] if first is not None else sorted(policy.scopes)


def welcome(console: Console, url: str, policy: Policy, secret: str) -> None:
    """Print requests to try: what a key with the first route's scope alone may do, and what not."""
    console.print(f"\n[bold]Envoy answers on {url}[/bold]\n")
    first, other = requests(policy)
    if first is None:
        console.print(f"the key {secret} has every scope of the policy", markup=False)
        return
    target = f"'{url}{sample_path(first)}'"
    header = f"-H '{policy.keys.header}: {secret}'"
    lines = [
        (f"{first.method} {first.template} with a key for {first.scope}", f"-i {header} {target}"),
        ("401: no key", f"-i {target}"),
    ]
    if other is not None:
        lines.append((f"403: needs {other.scope}", f"-i -X {other.method} {header} '{url}{sample_path(other)}'"))
    many = f"{target[:-1]}?[1-{policy.limit.capacity + 10}]'"
    counted = f"-Z -o /dev/null -s -w '%{{http_code}}\\n' {header} {many} | sort | uniq -c"
    lines.append((f"429: more than {policy.limit.capacity} at once", counted))
    for comment, arguments in lines:
        console.print(f"# {comment}", style="dim", soft_wrap=True, markup=False)
        console.print(f"curl {arguments}", soft_wrap=True, markup=False)
    console.print("\nCtrl-C stops everything.")
