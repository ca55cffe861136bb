"""The transport of the listeners from the settings: TLS or not.

The rules that the settings follow are in `settings.py`; TLS itself is `edge/check/tls.py`.
"""

from pathlib import Path

from authz.core.errors import SettingsError
from authz.edge.check.tls import CheckTls, TlsFiles
from authz.settings import Settings


def check_tls(settings: Settings) -> CheckTls | None:
    """Return TLS for the check listener, or None. Raises `SettingsError` if a file cannot be used."""
    certificate, key = settings.check_certificate_file, settings.check_key_file
    if certificate is None or key is None:
        return None
    names = frozenset(name for name in (part.strip() for part in settings.check_client_names.split(",")) if name)
    return _tls(TlsFiles(certificate, key, settings.check_client_ca_file, names), "AUTHZ_CHECK")


def admin_tls(settings: Settings) -> CheckTls | None:
    """Return TLS for the sidecar's admin listener, or None. Raises `SettingsError` if a file cannot be used."""
    certificate, key = settings.admin_certificate_file, settings.admin_key_file
    return _admin_tls(certificate, key, settings.admin_client_ca_file, "AUTHZ_ADMIN")


def portal_admin_tls(settings: Settings) -> CheckTls | None:
    """Return TLS for the portal's admin listener, or None. Raises `SettingsError` if a file cannot be used."""
    certificate, key = settings.portal_admin_certificate_file, settings.portal_admin_key_file
    return _admin_tls(certificate, key, settings.portal_admin_client_ca_file, "AUTHZ_PORTAL_ADMIN")


def _admin_tls(certificate: Path | None, key: Path | None, client_ca: Path | None, prefix: str) -> CheckTls | None:
    if certificate is None or key is None:
        return None
    return _tls(TlsFiles(certificate, key, client_ca, protocols=("http/1.1",)), prefix)


def _tls(files: TlsFiles, prefix: str) -> CheckTls:
    try:
        return CheckTls(files)
    except OSError as error:
        raise SettingsError(f"{prefix}_CERTIFICATE_FILE and its key cannot be used: {type(error).__name__}") from None
