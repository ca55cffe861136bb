"""A client of the API server under test, and where the tools are."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
KUBECTL = ROOT / ".venv/tools/manifests/bin/kubectl"


@dataclass(frozen=True)
class Cluster:
    kubeconfig: Path

    def kubectl(self, *arguments: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
        command = [KUBECTL, "--kubeconfig", self.kubeconfig, *arguments]
        return subprocess.run(command, check=False, capture_output=True, text=True, input=text, timeout=60)

    def namespace(self, name: str) -> str:
        """Create a namespace in which Pod Security "restricted" is enforced."""
        label = "pod-security.kubernetes.io"
        manifest = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {f"{label}/enforce": "restricted", f"{label}/warn": "restricted"}},
        }
        done = self.kubectl("apply", "-f", "-", text=json.dumps(manifest))
        assert done.returncode == 0, done.stderr
        return name
