"""`authz demo --policy FILE --backend URL`: one's own API behind Envoy and authz on this machine.

The stack is `stack.py`; Envoy's configuration is that of `authz init`.
"""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from authz.adapters.envoy_config.backend import Backend, parsed_backend
from authz.adapters.policy_file.loader import load_policy
from authz.cli.envoy.rendering import rendered
from authz.cli.own_api.stack_files import curl_credential, first_route, first_scopes, sample_path
from authz.core.errors import Refused
from authz.core.policy.policy import Policy
from authz.core.policy.route import Access, Route


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
        return rendered(self.policy, self.backend)


def requests(policy: Policy) -> tuple[Route | None, Route | None]:
    """Return a route for a first request, and one that needs another scope."""
    first = first_route(policy)
    held = set(first_scopes(policy))
    others = (it for it in policy.routes if it.access is Access.SCOPE and not it.shadow)
    other = next((it for it in others if not any(held.issuperset(each) for each in it.alternatives)), None)
    return first, other


def welcome(console: Console, url: str, policy: Policy, secret: str) -> None:
    """Print requests to try: what a key with the first route's scope alone may do, and what not."""
    console.print(f"\n[bold]Envoy answers on {url}[/bold]\n")
    first, other = requests(policy)
    if first is None:
        console.print(f"the key {secret} has every scope of the policy", markup=False)
        return
    target = f"'{url}{sample_path(first)}'"
    key = curl_credential(policy, secret)
    lines = [
        (f"{first.method} {first.template} with a key for {first.scope}", f"-i {key} {target}"),
        ("401: no key", f"-i {target}"),
    ]
    if other is not None:
        lines.append((f"403: needs {other.scope}", f"-i -X {other.method} {key} '{url}{sample_path(other)}'"))
    many = f"{target[:-1]}?[1-{policy.limit.capacity + 10}]'"
    counted = f"-Z -o /dev/null -s -w '%{{http_code}}\\n' {key} {many} | sort | uniq -c"
    lines.append((f"429: more than {policy.limit.capacity} at once", counted))
    for comment, arguments in lines:
        console.print(f"# {comment}", style="dim", soft_wrap=True, markup=False)
        console.print(f"curl {arguments}", soft_wrap=True, markup=False)
    console.print("\nCtrl-C stops everything.")
