"""Compares locked packages with advisories on disk, without network: for sites to which pip-audit's sources are closed.

Advisories come from a checkout of pypa/advisory-database (OSV), or of pyupio/safety-db. Debian's packages are left out.
"""

import argparse
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Advisory:
    """One advisory on one package: the versions by name, by range from one up to another, or by specifier."""

    name: str
    versions: frozenset[str] = frozenset()
    ranges: tuple[tuple[Version, Version | None, bool], ...] = ()
    specifiers: tuple[SpecifierSet, ...] = ()

    def concerns(self, text: str) -> bool:
        """Return whether a version is one of these."""
        version = Version(text)
        return (
            text in self.versions
            or any(
                first <= version and (end is None or version < end or (includes_end and version == end))
                for first, end, includes_end in self.ranges
            )
            or any(specifier.contains(version, prereleases=True) for specifier in self.specifiers)
        )


Advisories = Mapping[str, Sequence[Advisory]]


def main() -> None:
    """Print the advisories that concern the locks; exits with 1 if there are some, with 2 without any advisory."""
    parser = argparse.ArgumentParser(description="Compare locked packages with advisories on disk.")
    parser.add_argument("advisories", type=Path, help="a checkout of pypa/advisory-database or pyupio/safety-db")
    parser.add_argument("locks", type=Path, nargs="+")
    given = parser.parse_args()
    known = read(given.advisories)
    if not known:
        print(f"error: no advisories in {given.advisories}", file=sys.stderr)
        sys.exit(2)
    found = False
    for lock in given.locks:
        pins = locked(lock.read_text())
        print(f"{lock}: {len(pins)} packages, {sum(name in known for name, _ in pins)} with advisories on any version")
        for name, version, advisory in concerned(pins, known):
            found = True
            print(f"  {name} {version}: {advisory}")
    sys.exit(found)


def locked(text: str) -> list[tuple[str, str]]:
    """Return the name and version of each package of a lock file."""
    return [(canonicalize_name(name), version) for name, version in _PINNED.findall(text)]


def concerned(pins: Sequence[tuple[str, str]], known: Advisories) -> Iterator[tuple[str, str, str]]:
    """Yield the packages that advisories concern, with the names of these."""
    for name, version in pins:
        for advisory in known.get(name, ()):
            if advisory.concerns(version):
                yield name, version, advisory.name


def read(folder: Path) -> Advisories:
    """Return the advisories of a checkout by package; one that has been withdrawn is left out."""
    known: dict[str, list[Advisory]] = defaultdict(list)
    for file in sorted((folder / "vulns").glob("*/*.yaml")):
        document = yaml.load(file.read_bytes(), Loader=yaml.CSafeLoader)
        if not document.get("withdrawn"):
            for affected in document.get("affected", ()):
                known[canonicalize_name(affected["package"]["name"])].append(_of_osv(document["id"], affected))
    if (listed := folder / "data/insecure.json").exists():
        for name, specifiers in json.loads(listed.read_bytes()).items():
            if name != "$meta":
                known[canonicalize_name(name)].append(Advisory("safety-db", specifiers=_specifiers(specifiers)))
    return known


def _of_osv(name: str, affected: Mapping[str, Any]) -> Advisory:
    versions = frozenset(map(str, affected.get("versions", ())))
    try:
        ranges = [_range(each["events"]) for each in affected.get("ranges", ()) if each["type"] == "ECOSYSTEM"]
    except InvalidVersion:
        # The versions are named one by one as well; if not, all are taken to be concerned.
        ranges = [] if versions else [[(Version("0"), None, False)]]
    return Advisory(name, versions, tuple(part for parts in ranges for part in parts))


def _range(events: Sequence[Mapping[str, Any]]) -> list[tuple[Version, Version | None, bool]]:
    parts: list[tuple[Version, Version | None, bool]] = []
    for before, after in pairwise([*events, {}]):
        if "introduced" in before:
            end = after.get("fixed") or after.get("last_affected")
            first = Version(str(before["introduced"]))
            parts.append((first, None if end is None else Version(str(end)), "last_affected" in after))
    return parts


def _specifiers(texts: Sequence[str]) -> tuple[SpecifierSet, ...]:
    found = []
    for text in texts:
        try:
            found.append(SpecifierSet(text))
        except InvalidSpecifier:
            # All versions are taken to be concerned.
            found.append(SpecifierSet())
    return tuple(found)


if __name__ == "__main__":
    main()
