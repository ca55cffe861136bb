"""The portal's use cases over the real stores, with cheap password hashes and a readable mailbox."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from support.builders import policy

from authz.adapters.argon2 import Argon2Passwords
from authz.adapters.email_addresses import normalised_email
from authz.adapters.postgres.mailed_links import PostgresMailedLinks
from authz.adapters.postgres.owners import PostgresOwners
from authz.adapters.postgres.pool import Postgres
from authz.adapters.prometheus.portal import PortalMetrics
from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.grants import RedisGrants
from authz.adapters.redis.sessions import RedisSessions
from authz.adapters.redis.throttles import RedisThrottles
from authz.core.accounts import Actor
from authz.core.throttles import DEFAULT_THROTTLES, Throttles
from authz.portal.services import Services
from authz.service.keys.admin import KeyAdmin
from authz.service.portal.accounts import Accounts, PasswordRules
from authz.service.portal.codes import Codes
from authz.service.portal.device import DeviceFlow
from authz.service.portal.email_change import EmailChanges
from authz.service.portal.familiar import FamiliarBrowsers
from authz.service.portal.login import Login
from authz.service.portal.mailed_links import MailedLinks
from authz.service.portal.minting import Minting
from authz.service.portal.notices import Notices
from authz.service.portal.outgoing import OutgoingMail
from authz.service.portal.owner_keys import OwnerKeys
from authz.service.portal.password_reset import PasswordReset
from authz.service.portal.sessions import Sessions
from authz.service.portal.throttling import Gate
from authz.service.portal.verification import EmailVerification
from authz.service.supervision import Supervisor

PASSWORD = "correct horse battery"
BROWSERS = FamiliarBrowsers(b"s" * 32)
PUBLIC_URL = "https://portal.example"


def utc_now() -> datetime:
    return datetime.now(UTC)


def random_email() -> str:
    return f"{os.urandom(6).hex()}@example.com"


def random_address() -> str:
    """An address that no other test counts attempts for."""
    return "2001:db8:" + ":".join(os.urandom(2).hex() for _ in range(6))


@dataclass
class Mailbox:
    """Keeps what was sent: (recipient, subject, text)."""

    mails: list[tuple[str, str, str]] = field(default_factory=list)
    is_set_up: bool = True

    async def send(self, recipient: str, subject: str, text: str) -> None:
        self.mails.append((recipient, subject, text))

    def code(self, recipient: str = "") -> str:
        """The code in the last link, or in the last one to a recipient."""
        texts = [text for to, _, text in self.mails if recipient in {"", to} and "code=" in text]
        found = re.search(r"code=(\S+)", texts[-1])
        assert found
        return found[1]

    def subjects(self, recipient: str) -> list[str]:
        """The subjects of the mails to a recipient, in the order in which they were sent."""
        return [subject for to, subject, _ in self.mails if to == recipient]


class PortalUseCases:
    """Every use case of the portal with its dependencies."""

    def __init__(
        self, postgres: Postgres, link: RedisLink, admin: KeyAdmin, throttles: Throttles = DEFAULT_THROTTLES
    ) -> None:
        self.admin = admin
        self.actor = Actor("operator", "local")
        self.ledger = PostgresOwners(postgres)
        self.passwords = Argon2Passwords(memory_kib=64, passes=1)
        self.metrics = PortalMetrics(lambda: {"redis": True})
        self.gate = Gate(RedisThrottles(link), throttles, self.metrics)
        self.mail = Mailbox()
        self.supervisor = Supervisor()
        self.outgoing = OutgoingMail(self.mail, self.supervisor, self.metrics)
        self.notices = Notices(self.ledger, self.outgoing, is_on=True, url=f"{PUBLIC_URL}/x", now=utc_now)
        self.login = Login(
            self.ledger, self.passwords, self.gate, normalised_email, self.metrics, FamiliarBrowsers(b"s" * 32)
        )
        self.minting = Minting(admin, self.gate, policy(), self.notices)
        rules = PasswordRules(10, frozenset({"password1234"}))
        self.accounts = Accounts(
            self.ledger,
            self.passwords,
            self.gate,
            self.metrics,
            rules=rules,
            normalise_email=normalised_email,
            entropy=os.urandom,
            now=lambda: datetime.now(UTC),
        )
        self.sessions = Sessions(RedisSessions(link, idle_s=60, life_s=120), self.ledger, entropy=os.urandom)
        self.grants = RedisGrants(link)
        self.device = DeviceFlow(self.grants, self.minting, self.gate, self.ledger, self.metrics, entropy=os.urandom)
        self.verification = EmailVerification(
            self.ledger,
            self.mail,
            Codes(os.urandom, utc_now),
            f"{PUBLIC_URL}/dashboard/verify",
        )

        self.links = PostgresMailedLinks(postgres)
        self.password_reset = self.resets_at(utc_now)
        self.email_changes = self.email_changes_at(utc_now)

    def resets_at(self, now: Callable[[], datetime]) -> PasswordReset:
        return PasswordReset(self._mailed(now), f"{PUBLIC_URL}/dashboard/reset")

    def email_changes_at(self, now: Callable[[], datetime]) -> EmailChanges:
        return EmailChanges(self._mailed(now), f"{PUBLIC_URL}/dashboard/email")

    def _mailed(self, now: Callable[[], datetime]) -> MailedLinks:
        return MailedLinks(self.links, self.accounts, self.gate, self.outgoing, self.notices, Codes(os.urandom, now))

    def services(self, public_url: str = PUBLIC_URL) -> Services:
        return Services(
            policy=policy(),
            public_url=public_url,
            gate=self.gate,
            accounts=self.accounts,
            login=self.login,
            outgoing=self.outgoing,
            notices=self.notices,
            password_reset=self.password_reset,
            email_changes=self.email_changes,
            verification=self.verification,
            minting=self.minting,
            keys=OwnerKeys(self.admin, self.gate, self.notices),
            device=self.device,
            sessions=self.sessions,
            observer=self.metrics,
        )
