"""What the doctor finds on this machine: versions, the policy, the certificate, and the limit on open files.

Nothing here connects to anything. Stores are `stores.py`.
"""

import platform
import resource
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from authz.adapters.policy_file.loader import load_policy
from authz.adapters.policy_file.yaml import rendered
from authz.build_info import version_line
from authz.cli.doctor.findings import Finding, State, judged
from authz.core.errors import PolicyError, SettingsError
from authz.core.policy.rules import warning
from authz.edge.check.certificate import earliest_end_s
from authz.process import OTHER_FILES
from authz.settings import Settings
from authz.sidecar_parts import check_heartbeat

_PACKAGES = (
    *("asyncpg", "grpcio", "hiredis", "hpack", "msgspec", "opentelemetry-sdk", "orjson", "prometheus-client"),
    *("protobuf", "pydantic", "redis", "uvloop"),
)
_DAY_S = 86_400
_EXPIRES_SOON_S = 7 * _DAY_S
_WARNINGS_MAX = 20


def local_findings(settings: Settings) -> Iterator[Finding]:
    """Yield what concerns this machine and its files."""
    yield versions()
    yield policy_in_file(settings)
    files = {
        "check": settings.check_certificate_file,
        "admin": settings.admin_certificate_file,
        "portal admin": settings.portal_admin_certificate_file,
    }
    yield from (certificate(listener, file) for listener, file in files.items() if file is not None)
    yield open_files(settings)


def versions() -> Finding:
    """Return the versions of authz, Python, the system and the packages that touch the network or the policy."""
    facts = {"authz": version_line(), "python": platform.python_version(), "system": platform.platform()}
    for package in _PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    return Finding("versions", State.OK, f"authz {facts['authz']}, Python {facts['python']}", dict(facts))


def policy_in_file(settings: Settings) -> Finding:
    """Return the digest of the policy file and its warnings, or its faults."""
    try:
        policy = load_policy(settings.policy_file)
        check_heartbeat(policy, settings.stream_heartbeat_s)
    except PolicyError as error:
        return Finding("policy", State.WRONG, rendered(error))
    except SettingsError as error:
        return Finding("policy", State.WRONG, str(error))
    found = [f"{route.method} {route.template} {text}" for route in policy.routes if (text := warning(route))]
    facts = {
        "digest": policy.digest,
        "version": policy.version,
        "routes": len(policy.routes),
        "warnings": found[:_WARNINGS_MAX],
    }
    detail = f"digest {policy.digest}, {len(policy.routes)} routes, {len(found)} warnings"
    return Finding("policy", State.WARNING if found else State.OK, "; ".join([detail, *found[:_WARNINGS_MAX]]), facts)


def certificate(listener: str, file: Path) -> Finding:
    """Return for how long the certificate of a listener is valid."""
    name = f"{listener} certificate"
    try:
        left_s = earliest_end_s(file.read_bytes()) - time.time()
    except (OSError, ValueError) as error:
        return Finding(name, State.WRONG, f"{file} cannot be read: {type(error).__name__}")
    fault = "has expired" if left_s <= 0 else ("expires soon" if left_s < _EXPIRES_SOON_S else "")
    return judged(name, fault, f"{left_s / _DAY_S:.1f} days left", {"left_s": round(left_s)})


def open_files(settings: Settings) -> Finding:
    """Return whether the limit on open files permits all connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = settings.check_connections_max + OTHER_FILES
    is_low = hard not in {resource.RLIM_INFINITY, -1} and hard < needed
    fault = f"{needed} are needed for AUTHZ_CHECK_CONNECTIONS_MAX" if is_low else ""
    facts = {"soft": soft, "hard": hard, "needed": needed}
    return judged("open files", fault, f"ulimit -n {soft}, at most {hard}", facts)
