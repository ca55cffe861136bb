"""Writes the image's SBOM (CycloneDX, JSON), build/image/sbom.cdx.json: the locked packages and those of the base.

The Python part is cyclonedx-py's. A base image of one's own has an SBOM of its own and is left out.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).parents[2]
STATUS = ROOT / "build/image/root/var/lib/dpkg/status.d"


def main() -> None:
    """Write the SBOM of one lock file."""
    parser = argparse.ArgumentParser(description="Write the image's SBOM.")
    parser.add_argument("lock", type=Path)
    parser.add_argument("--version", required=True)
    parser.add_argument("--own-base", action="store_true", help="leave out the assembled base's packages")
    given = parser.parse_args()
    program = Path(sys.executable).with_name("cyclonedx-py")
    options = ["--pyproject", ROOT / "pyproject.toml", "--output-reproducible", "--of", "JSON", "--spec-version", "1.6"]
    command = [program, "requirements", given.lock, *options]
    made = subprocess.run(command, check=True, capture_output=True).stdout
    document = json.loads(made)
    document["metadata"]["component"]["version"] = given.version
    if not given.own_base:
        document["components"] += list(_base())
    (ROOT / "build/image/sbom.cdx.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    print(f"build/image/sbom.cdx.json: {len(document['components'])} components")


def _base() -> Iterator[dict[str, str]]:
    for file in sorted(STATUS.iterdir()):
        fields = dict(line.split(": ", 1) for line in file.read_text().splitlines() if ": " in line and line[0] != " ")
        name, version = fields["Package"], fields["Version"]
        where = f"pkg:deb/debian/{name}@{quote(version)}?arch={fields['Architecture']}"
        yield {"type": "library", "bom-ref": where, "name": name, "version": version, "purl": where}


if __name__ == "__main__":
    main()
