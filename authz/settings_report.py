"""What the settings are, and which of them are in force, for people: secrets are masked.

The settings themselves are `settings.py`.
"""

from dataclasses import dataclass

from pydantic import SecretStr

from authz.masked_urls import MASK, masked_url
from authz.settings import Settings, load, variable


@dataclass(frozen=True, slots=True)
class SettingInForce:
    """One setting as it applies; secrets in `value` and `default` are masked."""

    variable: str
    value: str
    source: str
    default: str
    meaning: str


def in_force(settings: Settings | None = None, *, strict: bool = False) -> list[SettingInForce]:
    """Return each setting with its value and its source: `environment`, `file` or `default`.

    `strict` masks more of a URL (`masked_url`). Raises `SettingsError` unless `settings` are given.
    """
    settings = settings or load()
    return [
        SettingInForce(
            name_of, _masked(getattr(settings, name), strict=strict), _source(settings, name), default, meaning
        )
        for name, (name_of, default, meaning) in zip(Settings.model_fields, described(), strict=True)
    ]


def described() -> list[tuple[str, str, str]]:
    """Return each setting as (variable, default, description)."""
    return [
        (variable(name), _plain(field.default), field.description or "")
        for name, field in Settings.model_fields.items()
    ]


def _source(settings: Settings, name: str) -> str:
    if name not in settings.model_fields_set:
        return "default"
    return "file" if getattr(settings, f"{name}_file", None) is not None else "environment"


def _masked(value: object, *, strict: bool) -> str:
    if not isinstance(value, SecretStr):
        return "" if value is None else str(value)
    secret = value.get_secret_value()
    if "://" not in secret:
        return secret if secret in {"", "log:"} else MASK
    return masked_url(secret, strict=strict)


def _plain(default: object) -> str:
    if default is None:
        return ""
    return default.get_secret_value() if isinstance(default, SecretStr) else str(default)
