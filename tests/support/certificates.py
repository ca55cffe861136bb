"""Certificates for tests, made by openssl: an authority, and what it signs.

What they are used for is in the tests.
"""

import shutil
import subprocess
from pathlib import Path

from authz.edge.check.tls import TlsFiles


class Authority:
    """A CA in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self.certificate = folder / f"{name}.ca.crt"
        self._key = folder / f"{name}.ca.key"
        self._made = 0
        new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        # Python verifies strictly from 3.13 on.
        new += ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
        _openssl(*new, "-subj", f"/CN={name}", "-keyout", self._key, "-out", self.certificate)

    def issue(self, san: str, *, is_expired: bool = False, days: int = 1) -> tuple[Path, Path]:
        """Return the files of a new certificate and its key; `san` is such as `DNS:envoy` or `URI:spiffe://…`."""
        self._made += 1
        stem = f"{self.certificate.name}-{self._made}"
        key, request, certificate, extension = (
            self._folder / f"{stem}.{each}" for each in ("key", "csr", "crt", "ext")
        )
        new: list[str | Path] = [
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=leaf",
        ]
        _openssl(*new, "-keyout", key, "-out", request)
        extension.write_text(f"subjectAltName={san}\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n")
        sign: list[str | Path] = [
            "x509",
            "-req",
            "-CA",
            self.certificate,
            "-CAkey",
            self._key,
            "-CAcreateserial",
            "-extfile",
            extension,
        ]
        _openssl(*sign, "-days", "-1" if is_expired else str(days), "-in", request, "-out", certificate)
        return certificate, key


class MountedFiles:
    """A listener's mounted Secret in a folder: certificate, key, and the CA of clients; `names` are those admitted."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.folder = folder
        self.authority = Authority(folder, "ours")
        self.foreign = Authority(folder, "foreign")
        self.mounted = TlsFiles(folder / "tls.crt", folder / "tls.key", folder / "ca.crt", frozenset(names))
        shutil.copy(self.authority.certificate, folder / "ca.crt")
        self.rotate()

    def rotate(self, days: int = 1) -> None:
        """Write a new certificate as the kubelet does: whole files that replace the old ones."""
        issued = self.authority.issue("DNS:localhost", days=days)
        for source, target in zip(issued, ("tls.crt", "tls.key"), strict=True):
            shutil.copy(source, self.folder / f"{target}.new")
            (self.folder / f"{target}.new").replace(self.folder / target)


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)  # noqa: S607 -- from PATH
