"""Mail over SMTP: it arrives unchanged, never in clear text over a network; an error message never quotes it."""

import logging
import re
from datetime import UTC, datetime, timedelta
from email import message_from_string
from email.utils import parsedate_to_datetime

import pytest
from support.servers.mail import mail_server

from authz.adapters.smtp import LoggedMail, NoMail, SmtpMail
from authz.core.errors import StoreUnavailable

LINK = "https://portal.example/dashboard/verify?code=a-code-of-thirty-two-bytes-or-so-it-seems-to-be-here"


async def test_a_mail_arrives_as_it_was_written() -> None:
    async with mail_server() as (server, port):
        await SmtpMail(f"smtp://127.0.0.1:{port}", "authz@portal.example").send("ada@example.com", "Hello", LINK)
    assert any(command.startswith("MAIL FROM:<authz@portal.example>") for command in server.commands)
    assert "RCPT TO:<ada@example.com>" in server.commands
    assert "Subject: Hello" in server.text
    assert LINK in server.text


async def test_a_mail_has_a_date_and_an_id() -> None:
    async with mail_server() as (server, port):
        await SmtpMail(f"smtp://127.0.0.1:{port}", "Portal <authz@b\u00fccher.example>").send(
            "ada@example.com", "Hi", LINK
        )
    message = message_from_string(server.text)
    assert abs(parsedate_to_datetime(message["Date"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert re.fullmatch(r"<[^<>@]+@xn--bcher-kva\.example>", message["Message-ID"])
    assert message["From"] == "Portal <authz@xn--bcher-kva.example>"


async def test_an_international_domain_is_sent_in_ascii_to_a_server_without_smtputf8() -> None:
    async with mail_server() as (server, port):
        await SmtpMail(f"smtp://127.0.0.1:{port}", "a@b.example").send("ada@b\u00fccher.example", "Hello", LINK)
        with pytest.raises(StoreUnavailable):  # nothing can be done about the part before the @
            await SmtpMail(f"smtp://127.0.0.1:{port}", "a@b.example").send("\u00e4da@example.com", "Hello", LINK)
    assert "RCPT TO:<ada@xn--bcher-kva.example>" in server.commands


async def test_a_mail_that_is_deferred_is_sent_again() -> None:
    async with mail_server(later=2) as (server, port):
        mail = SmtpMail(f"smtp://127.0.0.1:{port}", "a@b.example", waits_s=(0.01, 0.01))
        await mail.send("ada@example.com", "Hello", LINK)
        assert LINK in server.text
    async with mail_server(later=3) as (server, port):
        with pytest.raises(StoreUnavailable):
            await SmtpMail(f"smtp://127.0.0.1:{port}", "a@b.example", waits_s=(0.01, 0.01)).send("a@b.de", "Hi", LINK)
        assert server.text == ""


async def test_a_mail_is_sent_again_after_a_lost_connection() -> None:
    async with mail_server(drops=2) as (server, port):
        await SmtpMail(f"smtp://127.0.0.1:{port}", "a@b.example", waits_s=(0.01, 0.01)).send("a@b.de", "Hi", LINK)
    assert LINK in server.text


async def test_a_refusal_is_final() -> None:
    async with mail_server(refuses="RCPT") as (server, port):
        with pytest.raises(StoreUnavailable):
            await SmtpMail(f"smtp://127.0.0.1:{port}", "a@b.example", waits_s=(0.01, 0.01)).send("a@b.de", "Hi", LINK)
    assert [command for command in server.commands if command.startswith("RCPT")] == ["RCPT TO:<a@b.de>"]


async def test_a_mail_does_not_leave_the_machine_without_tls() -> None:
    async with mail_server() as (server, port):
        with pytest.raises(StoreUnavailable):
            await SmtpMail(f"smtp://ada:hunter2@127.0.0.2:{port}", "a@b.example").send("ada@example.com", "Hello", LINK)
    assert not [command for command in server.commands if command.startswith(("MAIL", "AUTH"))]


async def test_what_a_mail_server_quotes_is_not_passed_on() -> None:
    async with mail_server(refuses="RCPT") as (_, port):
        with pytest.raises(StoreUnavailable) as raised:
            await SmtpMail(f"smtp://127.0.0.1:{port}", "a@b.example").send("ada@example.com", "Hello", LINK)
    assert str(raised.value) == "mail unavailable: SMTPRecipientsRefused"


async def test_a_mail_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(StoreUnavailable, match="mail unavailable"):
        await SmtpMail("smtps://127.0.0.1:1", "a@b.example", waits_s=(0.01,)).send("ada@example.com", "Hello", LINK)


async def test_without_a_mail_server_a_mail_is_logged_when_configured(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    await NoMail().send("ada@example.com", "Hello", LINK)
    assert not caplog.records
    await LoggedMail().send("ada@example.com", "Hello", LINK)
    (record,) = caplog.records
    assert vars(record)["text"] == LINK
