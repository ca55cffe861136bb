"""Mailed links in Postgres: for a forgotten password, and for a change of the e-mail address.

The verification of a first address is in `owners.py`. A row has only the digest of a code.
"""

from datetime import datetime
from typing import Any

from authz.adapters.postgres.audit import write_audit
from authz.adapters.postgres.pool import Postgres
from authz.adapters.postgres.session import Session
from authz.core.accounts import Actor, AuditEvent
from authz.core.errors import EmailTaken
from authz.core.owners import EmailChange, Owner

_OWNER = (
    "SELECT o.account_id, o.email, o.password_hash, o.generation, o.email_verified_at, a.suspended_at "
    "FROM owners o JOIN accounts a ON a.id = o.account_id "
)
_CHANGE = (
    "SELECT c.account_id, o.email AS old_email, c.new_email, c.is_old_confirmed, c.is_new_confirmed "
    "FROM email_changes c JOIN owners o ON o.account_id = c.account_id "
    "WHERE (c.old_digest = $1 OR c.new_digest = $1) AND c.ends_at > $2"
)
_CONFIRM = (
    "UPDATE email_changes SET is_old_confirmed = is_old_confirmed OR old_digest = $1, "
    "is_new_confirmed = is_new_confirmed OR new_digest = $1 "
    "WHERE (old_digest = $1 OR new_digest = $1) AND ends_at > $2 RETURNING account_id"
)


class PostgresMailedLinks:
    """Stores links (`service.portal.ports.LinkLedger`). Every method raises `StoreUnavailable`.

    A change locks its owner before its links: two links of one owner are used one after the other.
    """

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def add_reset(self, email: str, digest: bytes, ends_at: datetime, source_address: str) -> bool:
        """Store the code of a reset link for the owner of an address; return False if there is none."""
        async with self._postgres.transaction() as connection:
            # The lock ensures that the address is still the owner's when the link is stored.
            account_id = await connection.fetchval("SELECT account_id FROM owners WHERE email = $1 FOR UPDATE", email)
            if account_id is None:
                return False
            await connection.execute(
                "INSERT INTO password_resets (digest, account_id, ends_at) VALUES ($1, $2, $3)",
                digest,
                account_id,
                ends_at,
            )
            actor = Actor("visitor", source_address)
            await write_audit(connection, actor, AuditEvent.PASSWORD_RESET_MAILED, account_id)
        return True

    async def owner_of_reset(self, digest: bytes, now: datetime) -> Owner | None:
        """Return the owner whose password a code may reset, None for an unknown code."""
        async with self._postgres.transaction() as connection:
            row: Any = await connection.fetchrow(
                _OWNER + "JOIN password_resets r ON r.account_id = o.account_id WHERE r.digest = $1 AND r.ends_at > $2",
                digest,
                now,
            )
        return None if row is None else Owner(**dict(row))

    async def reset_password(
        self, digest: bytes, password_hash: str, now: datetime, source_address: str
    ) -> Owner | None:
        """Accept a code once: start a new generation with a new password; the address counts as verified."""
        async with self._postgres.transaction() as connection:
            account_id = await connection.fetchval(
                "SELECT account_id FROM owners WHERE account_id = "
                "(SELECT account_id FROM password_resets WHERE digest = $1) FOR UPDATE",
                digest,
            )
            taken = await connection.fetchval(
                "DELETE FROM password_resets WHERE digest = $1 AND ends_at > $2 RETURNING account_id", digest, now
            )
            if account_id is None or taken is None:
                return None
            await connection.execute(
                "UPDATE owners SET password_hash = $2, generation = generation + 1, "
                "email_verified_at = coalesce(email_verified_at, $3), "
                "verification_digest = NULL, verification_ends_at = NULL WHERE account_id = $1",
                account_id,
                password_hash,
                now,
            )
            await delete_links(connection, account_id)
            await write_audit(
                connection, Actor(f"owner:{account_id}", source_address), AuditEvent.PASSWORD_RESET, account_id
            )
            row: Any = await connection.fetchrow(_OWNER + "WHERE o.account_id = $1", account_id)
        return Owner(**dict(row))

    async def start_email_change(
        self, change: EmailChange, old_digest: bytes, new_digest: bytes, ends_at: datetime, actor: Actor
    ) -> None:
        """Store a change with the codes for both addresses; it replaces an earlier change."""
        async with self._postgres.transaction() as connection:
            await connection.execute(
                "INSERT INTO email_changes (account_id, new_email, old_digest, new_digest, ends_at) "
                "VALUES ($1, $2, $3, $4, $5) ON CONFLICT (account_id) DO UPDATE SET new_email = $2, old_digest = $3, "
                "new_digest = $4, ends_at = $5, is_old_confirmed = false, is_new_confirmed = false",
                change.account_id,
                change.new_email,
                old_digest,
                new_digest,
                ends_at,
            )
            await write_audit(connection, actor, AuditEvent.EMAIL_CHANGE_STARTED, change.account_id)

    async def email_change(self, digest: bytes, now: datetime) -> EmailChange | None:
        """Return the change that a code confirms, None for an unknown code."""
        async with self._postgres.transaction() as connection:
            row: Any = await connection.fetchrow(_CHANGE, digest, now)
        return None if row is None else EmailChange(**dict(row))

    async def confirm_email_change(self, digest: bytes, now: datetime, source_address: str) -> EmailChange | None:
        """Confirm a change for one address; after both it takes effect. Raises `EmailTaken`."""
        async with self._postgres.transaction() as connection:
            await connection.fetchval(
                "SELECT account_id FROM owners WHERE account_id = (SELECT account_id FROM email_changes "
                "WHERE old_digest = $1 OR new_digest = $1) FOR UPDATE",
                digest,
            )
            if await connection.fetchval(_CONFIRM, digest, now) is None:
                return None
            row: Any = await connection.fetchrow(_CHANGE, digest, now)
            change = EmailChange(**dict(row))
            if change.is_done:
                await _apply(connection, change, now)
                actor = Actor(f"owner:{change.account_id}", source_address)
                await write_audit(connection, actor, AuditEvent.EMAIL_CHANGED, change.account_id)
        return change

    async def delete_expired(self, now: datetime) -> None:
        """Delete links that have expired."""
        async with self._postgres.transaction() as connection:
            await connection.execute("DELETE FROM password_resets WHERE ends_at <= $1", now)
            await connection.execute("DELETE FROM email_changes WHERE ends_at <= $1", now)


async def delete_links(connection: Session, account_id: str) -> None:
    """Delete every link of an owner, in the caller's transaction."""
    await connection.execute("DELETE FROM password_resets WHERE account_id = $1", account_id)
    await connection.execute("DELETE FROM email_changes WHERE account_id = $1", account_id)


async def _apply(connection: Session, change: EmailChange, now: datetime) -> None:
    # Two owners who take one address at the same moment wait here for each other.
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", change.new_email)
    is_taken = await connection.fetchval("SELECT EXISTS (SELECT FROM owners WHERE email = $1)", change.new_email)
    if is_taken:
        raise EmailTaken("email already registered")
    await connection.execute(
        "UPDATE owners SET email = $2, email_verified_at = $3, verification_digest = NULL, "
        "verification_ends_at = NULL WHERE account_id = $1",
        change.account_id,
        change.new_email,
        now,
    )
    # A signup names the account after its address.
    await connection.execute(
        "UPDATE accounts SET email = $2, name = CASE WHEN name = $3 THEN $2 ELSE name END WHERE id = $1",
        change.account_id,
        change.new_email,
        change.old_email,
    )
    await delete_links(connection, change.account_id)
