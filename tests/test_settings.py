"""Settings come from AUTHZ_* variables, are checked, and never show a secret."""

import subprocess
import sys
from pathlib import Path

import pytest

from authz.core.errors import SettingsError
from authz.settings import Settings, load
from authz.settings_report import described


def test_defaults_need_no_environment() -> None:
    assert load().check_listen == "127.0.0.1:9001"
    assert load().grpc_listen == ""


def test_a_variable_overrides_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTHZ_GRPC_LISTEN", "unix:/run/authz.sock")
    assert load().grpc_listen == "unix:/run/authz.sock"


MAIL_FAULT = (
    "AUTHZ_MAIL_URL: Value error, must be smtp://[USER:PASSWORD@]HOST[:PORT], with special characters percent-encoded"
)


@pytest.mark.parametrize(
    "url", ["smtp://mail.example.", "smtps://u:p%40w@[::1]:465", "smtp://b\u00fccher.example", "log:"]
)
def test_a_mail_server_is_accepted(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("AUTHZ_MAIL_URL", url)
    assert load().mail_url.get_secret_value() == url


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("AUTHZ_GRPC_LISTEN", "9002", "AUTHZ_GRPC_LISTEN: Value error, must be HOST:PORT or unix:/PATH"),
        ("AUTHZ_GRPC_LISTEN", "h:70000", "AUTHZ_GRPC_LISTEN: Value error, must be HOST:PORT or unix:/PATH"),
        ("AUTHZ_REDIS_DEADLINE_S", "0", "AUTHZ_REDIS_DEADLINE_S: Input should be greater than 0"),
        (
            "AUTHZ_PUBLIC_URL",
            "http://portal.example",
            "AUTHZ_PUBLIC_URL: Value error, must be https, except on loopback",
        ),
        ("AUTHZ_PUBLIC_URL", "https://x.example/path", "AUTHZ_PUBLIC_URL: Value error, must be https://HOST[:PORT]"),
        ("AUTHZ_MAIL_URL", "imap://x", "AUTHZ_MAIL_URL: Value error, must be smtp://…, smtps://… or log:"),
        ("AUTHZ_MAIL_URL", "smtp://a b", "AUTHZ_MAIL_URL: Value error, must have a host name or an address"),
        ("AUTHZ_MAIL_URL", "smtp://mail..example", "AUTHZ_MAIL_URL: Value error, must have a host name or an address"),
        ("AUTHZ_MAIL_URL", "smtp://u@h", "AUTHZ_MAIL_URL: Value error, must have a user and a password, or neither"),
        *(("AUTHZ_MAIL_URL", f"smtp://{rest}", MAIL_FAULT) for rest in ("h/x", "h?starttls=1", "h:0", "u:1#w@h")),
        *(
            ("AUTHZ_MAIL_FROM", text, "AUTHZ_MAIL_FROM: Value error, must be an e-mail address, or NAME <ADDRESS>")
            for text in (
                "a@b.example>",
                "A <a@b.example> x",
                "a@b.example, c@d.example",
                "a@b.example\nX: y",
                "A, B <a@b.c>",
            )
        ),
        (
            "AUTHZ_REDIS_URL",
            "redis+cluster://h:1/2",
            "AUTHZ_REDIS_URL: Value error, must name no database: a cluster has only the first",
        ),
        ("AUTHZ_DRAIN_DELAY_S", "inf", "AUTHZ_DRAIN_DELAY_S: Input should be less than or equal to 3600"),
        ("AUTHZ_REDIS_FAILURE", "allow", "AUTHZ_REDIS_FAILURE: Input should be 'deny' or 'degrade'"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as raised:
        load()
    assert str(raised.value) == message


SECRETS = {
    "AUTHZ_POSTGRES_URL_FILE": "postgresql://a:hunter2@h/a",
    "AUTHZ_REDIS_URL_FILE": "redis://:hunter2@h/0",
    "AUTHZ_MAIL_URL_FILE": "smtp://a:hunter2@h",
    "AUTHZ_PORTAL_PROXY_SECRET_FILE": "hunter2" * 5,
}


@pytest.mark.parametrize("variable", SECRETS)
@pytest.mark.parametrize("form", ["{}", "{}\n", "{}\r\n", "{}\n\n", "\ufeff{}\r\n"])
def test_a_secret_is_the_line_of_its_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, form: str
) -> None:
    file = tmp_path / "secret"
    file.write_text(form.format(SECRETS[variable]), newline="")
    monkeypatch.setenv(variable, str(file))
    name = variable.removeprefix("AUTHZ_").removesuffix("_FILE").lower()
    assert getattr(load(), name).get_secret_value() == SECRETS[variable]
    assert load().reader(name)() == SECRETS[variable]


@pytest.mark.parametrize("variable", SECRETS)
@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"%s\nsecond", "must be one line of text, of 64 KiB at most"),
        (b"\n%s", "must be one line of text, of 64 KiB at most"),
        (b"%s\0", "must be one line of text, of 64 KiB at most"),
        (b"%s" + b"x" * 70_000, "must be one line of text, of 64 KiB at most"),
        (b"\xff\xfe%s", "UnicodeDecodeError"),
        (None, "IsADirectoryError"),
    ],
)
def test_a_file_that_is_no_secret_is_named_and_not_quoted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, content: bytes | None, fault: str
) -> None:
    file = tmp_path / "secret"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content % SECRETS[variable].encode())
    monkeypatch.setenv(variable, str(file))
    with pytest.raises(SettingsError) as raised:
        load()
    assert str(raised.value) == f"Value error, {variable}: cannot be read: {fault}"


def test_no_secret_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTHZ_REDIS_URL", "redis://:hunter2@127.0.0.1/0")
    monkeypatch.setenv("AUTHZ_POSTGRES_URL", "postgresql://a:hunter2@127.0.0.1/a")
    monkeypatch.setenv("AUTHZ_MAIL_URL", "smtp://a:hunter2@127.0.0.1")
    monkeypatch.setenv("AUTHZ_PORTAL_PROXY_SECRET", "hunter2" * 5)
    assert "hunter2" not in repr(load())
    assert "hunter2" not in str(described())


def test_every_setting_is_described() -> None:
    assert len(described()) == len(Settings.model_fields)
    assert all(meaning.endswith(".") for _, _, meaning in described())


def test_the_sidecar_starts_without_the_portals_packages() -> None:
    program = (
        "import sys; sys.modules['email_validator'] = None; "
        "from authz.settings import load; load(); load(mail_from='Notes <notes@api.example>')"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, capture_output=True).returncode == 0
