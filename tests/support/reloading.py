"""A process that reloads one policy file, and the texts that its file may have."""

from pathlib import Path

from authz.adapters.policy_file.loader import load_files
from authz.core.errors import SettingsError
from authz.core.policy.policy import Gate, Policy
from authz.demo.servers import shipped
from authz.policy_reload.reload import PolicyReload

TEXT = shipped("policies/truetick.yaml").read_text()
CLOSED = TEXT.replace("      - GET /v1/regions\n", "")
OPENED = TEXT.replace('      - "* /v1/admin/**"\n', "      - '* /v1/admin/x'\n").replace(
    "      - GET /v1/regions\n", "      - GET /v1/regions\n      - GET /v1/admin/{id}\n"
)
FAULTY = "routes: ["


class Process:
    """A reload of one file, with the policies that it applied."""

    def __init__(self, file: Path, gate: Gate = Gate.OFF) -> None:
        self.applied: list[Policy] = []
        self.refuses = ""
        self.reload = PolicyReload(file, load_files, apply=self.applied.append, check=self._check, gate=gate)

    def _check(self, policy: Policy) -> None:
        if policy.api == self.refuses:
            raise SettingsError("does not fit")

    async def watched(self) -> None:
        """Examine the file as often as a change takes to be read."""
        for _ in range(2):
            await self.reload.examine()
