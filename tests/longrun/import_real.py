"""Imports the whole descriptions of GitHub, Stripe and Kubernetes, and asks 200 operations of GitHub's through Envoy.

`python -m longrun.import_real`. The descriptions are in packages: npm's `@octokit/openapi`, and Go's modules
`github.com/stripe/stripe-mock` and `k8s.io/kubectl`.
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from support.clients.raw_http import send_settled

from authz.adapters.policy_file.loader import load_policy
from authz.core.limits import Limit
from authz.demo.own_api import OwnApi
from authz.demo.servers import Server, free_port
from authz.demo.stack import ACTOR, Stack
from authz.service.keys.admin import KeyAdmin, KeyRequest

_GITHUB = "@octokit/openapi@23.0.2"
_GO = {
    "stripe": ("github.com/stripe/stripe-mock@v0.203.0", "embedded/openapi/spec3.json"),
    "kubernetes": ("k8s.io/kubectl@v0.37.2", "testdata/openapi/swagger.json"),
}
_OPERATIONS = {"github": 1223, "stripe": 594, "kubernetes": 1057, "github.yaml": 1223}
_ASKED = 200


def fetched(folder: Path) -> dict[str, Path]:
    """Download the packages; return the descriptions by name."""
    subprocess.run(["npm", "pack", "--silent", _GITHUB], cwd=folder, check=True, capture_output=True)  # noqa: S607
    (archive,) = folder.glob("*.tgz")
    subprocess.run(["tar", "xzf", archive, "package/generated/api.github.com.json"], cwd=folder, check=True)  # noqa: S607
    found = {"github": folder / "package/generated/api.github.com.json"}
    for name, (module, path) in _GO.items():
        out = subprocess.run(
            ["go", "mod", "download", "-json", module],  # noqa: S607
            cwd=folder,
            check=True,
            capture_output=True,
        ).stdout
        found[name] = Path(json.loads(out)["Dir"]) / path
    as_yaml = folder / "github.yaml"
    document = json.loads(found["github"].read_text())
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    as_yaml.write_text(yaml.dump(document, Dumper=dumper, sort_keys=False))
    return {**found, "github.yaml": as_yaml}


def imported(name: str, spec: Path, folder: Path) -> Path:
    """Import a description, lint it and hold it against its expectations; return the policy."""
    policy, expectations = folder / f"{name}.policy.yaml", folder / f"{name}.expectations.yaml"
    started = time.monotonic()
    arguments = ["import", "openapi", str(spec), "-o", str(policy), "--expectations", str(expectations), "--json"]
    fields = json.loads(_authz(*arguments))
    took_s = time.monotonic() - started
    assert fields["operations"] == _OPERATIONS[name], fields
    assert fields["omitted"] == fields["undecided"] == []
    assert json.loads(_authz("lint", str(policy), "--json"))["warnings"] == []
    _authz("test", str(expectations), "--policy", str(policy), "--complete")
    _authz("coverage", str(spec), "--policy", str(policy))
    sys.stdout.write(
        f"{name}: {spec.stat().st_size >> 20} MiB, {fields['operations']} operations, {fields['rows']} rows, "
        f"{fields['scopes']} scopes, {fields['widened']} widened, lints clean, imported in {took_s:.1f} s\n"
    )
    return policy


def _authz(*arguments: str) -> str:
    command = [sys.executable, "-m", "authz", "policy", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def asked_through_envoy(spec: Path, policy: Path, folder: Path) -> None:
    """Ask operations at random with a key for their scope, one for another, and none."""
    document: dict[str, Any] = json.loads(spec.read_text())
    operations = [
        (method, path, operation["tags"][0])
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    ]
    port = free_port()
    server = Server(
        "own backend",
        [sys.executable, "-m", "authz.demo.backend", "--port", str(port)],
        folder / "backend.log",
    )
    stack = Stack(own=OwnApi.checked(policy, f"http://127.0.0.1:{port}"))
    header = load_policy(policy).keys.header
    try:
        server.start(lambda: _is_up(port))
        stack.start()
        sample = random.Random(1).sample(operations, _ASKED)  # noqa: S311 -- for tests
        needed = {f"{tag}:{'read' if method == 'get' else 'write'}" for method, _, tag in sample}
        keys = stack.administer(lambda admin: _keys(admin, sorted(needed | {"meta:read", "gists:read"})))
        for method, path, tag in sample:
            scope = f"{tag}:{'read' if method == 'get' else 'write'}"
            other = "meta:read" if scope != "meta:read" else "gists:read"
            target = path.replace("{", "a").replace("}", "")
            found = [
                send_settled(stack.url, method.upper(), target, *headers).status
                for headers in ([(header, keys[scope])], [(header, keys[other])], [])
            ]
            assert found == [200, 403, 401], (method, path, found)
    finally:
        stack.stop()
        server.stop()
    sys.stdout.write(
        f"github: {_ASKED} operations through Envoy: 200 with their scope, 403 with another, 401 without\n"
    )


async def _keys(admin: KeyAdmin, scopes: Sequence[str]) -> dict[str, str]:
    """Make a key for each scope, in an account of its own."""
    found = {}
    for scope in scopes:
        account = await admin.create_account(scope, None, ACTOR)
        request = KeyRequest(account.id, scope, frozenset({scope}), Limit(1_000_000, 1_000))
        found[scope] = (await admin.create_key(request, ACTOR)).secret
    return found


def _is_up(port: int) -> bool:
    try:
        return send_settled(f"http://127.0.0.1:{port}", "GET", "/").status == 200
    except OSError:
        return False


def main() -> None:
    """Run all."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        specs = fetched(folder)
        policies = {name: imported(name, spec, folder) for name, spec in specs.items()}
        asked_through_envoy(specs["github"], policies["github"], folder)


if __name__ == "__main__":
    main()
