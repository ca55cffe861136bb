"""How a process that serves uses its `PolicyReload`: on an admin request, and by a watch of the file.

The reload itself is `reload.py`.
"""

from http import HTTPStatus

from authz.adapters.prometheus.process import ReloadOutcome
from authz.edge.admin.reloads import Reload
from authz.policy_reload.reload import Cause, PolicyReload
from authz.service.supervision import Supervisor
from authz.settings import Settings

_LOOP = "policy"
_STATUS = {
    ReloadOutcome.RELOADED: HTTPStatus.OK,
    ReloadOutcome.UNCHANGED: HTTPStatus.OK,
    ReloadOutcome.REFUSED: HTTPStatus.CONFLICT,
    ReloadOutcome.FAILED: HTTPStatus.UNPROCESSABLE_ENTITY,
}


def admin_reload(settings: Settings, policy_reload: PolicyReload) -> Reload | None:
    """Return what serves `POST /policy/reload`; None where the setting forbids it."""
    if not settings.admin_reload:
        return None

    async def reload(acknowledged: str) -> tuple[HTTPStatus, dict[str, object]]:
        result = await policy_reload.request(Cause.ADMIN, acknowledged)
        fields: dict[str, object] = {"outcome": result.outcome.value, "digest": result.digest}
        if result.fault:
            fields["error"] = result.fault
        found = result.effect
        return _STATUS[result.outcome], fields | {"opens": found.opens, "closes": found.closes, "changes": found.lines}

    return reload


def watch(policy_reload: PolicyReload, supervisor: Supervisor, watch_s: float) -> None:
    """Examine the policy file every `watch_s` seconds; 0 for never."""
    if watch_s:
        supervisor.keep(_LOOP, policy_reload.examine, watch_s, event="the policy file is not watched")
