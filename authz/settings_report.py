"""What the settings are, and which of them are in force, for people: secrets are masked.

The settings themselves are `settings.py`.
"""

import re
from dataclasses import dataclass

from pydantic import SecretStr

from authz.settings import Settings, load, variable

_MASK = "***"
_PASSWORD_PARAMETER = re.compile(r"(password=)[^&]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SettingInForce:
    """One setting as it applies; secrets in `value` and `default` are masked."""

    variable: str
    value: str
    source: str
    default: str
    meaning: str


def in_force() -> list[SettingInForce]:
    """Return each setting with its value and its source, `environment` or `default`; raises `SettingsError`."""
    settings = load()
    return [
        SettingInForce(
            name_of,
            _masked(getattr(settings, name)),
            "environment" if name in settings.model_fields_set else "default",
            default,
            meaning,
        )
        for name, (name_of, default, meaning) in zip(Settings.model_fields, described(), strict=True)
    ]


def described() -> list[tuple[str, str, str]]:
    """Return each setting as (variable, default, description)."""
    return [
        (variable(name), _plain(field.default), field.description or "")
        for name, field in Settings.model_fields.items()
    ]


def _masked(value: object) -> str:
    if not isinstance(value, SecretStr):
        return "" if value is None else str(value)
    secret = value.get_secret_value()
    if "://" not in secret:
        return secret if secret in {"", "log:"} else _MASK
    head, separator, host = secret.rpartition("@")
    scheme, _, user = head.partition("://")
    shown = f"{scheme}://{user.partition(':')[0]}:{_MASK}@{host}" if separator and ":" in user else secret
    return _PASSWORD_PARAMETER.sub(rf"\1{_MASK}", shown)


def _plain(default: object) -> str:
    if default is None:
        return ""
    return default.get_secret_value() if isinstance(default, SecretStr) else str(default)
