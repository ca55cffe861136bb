"""Owners in Postgres: their addresses, password hashes and verification links.

Accounts and keys are in `keys.py`; sessions are in Redis.
"""

from datetime import datetime
from typing import Any

from authz.adapters.postgres.accounts import insert_account
from authz.adapters.postgres.audit import read_audit, write_audit
from authz.adapters.postgres.mailed_links import delete_links
from authz.adapters.postgres.pool import Postgres
from authz.core.accounts import Account, Actor, AuditEvent
from authz.core.errors import EmailTaken
from authz.core.owners import AuditLine, Contact, Owner

_OWNER = (
    "SELECT o.account_id, o.email, o.password_hash, o.generation, o.email_verified_at, a.suspended_at "
    "FROM owners o JOIN accounts a ON a.id = o.account_id WHERE {} = $1"
)


class PostgresOwners:
    """Stores and changes owners (`service.portal.ports.OwnerLedger`). Every method raises `StoreUnavailable`."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def add_owner(self, account: Account, owner: Owner, actor: Actor) -> None:
        """Store a new account with its owner; raises `EmailTaken`."""
        async with self._postgres.transaction() as connection:
            await insert_account(connection, account)
            added = await connection.fetchval(
                "INSERT INTO owners (account_id, email, password_hash) VALUES ($1, $2, $3) "
                "ON CONFLICT (email) DO NOTHING RETURNING account_id",
                account.id,
                owner.email,
                owner.password_hash,
            )
            if added is None:
                raise EmailTaken("email already registered")
            await write_audit(connection, actor, AuditEvent.ACCOUNT_CREATED, account.id)

    async def owner_of_email(self, email: str) -> Owner | None:
        """Return the owner of an address, None if there is none."""
        return await self._owner("o.email", email)

    async def owner(self, account_id: str) -> Owner | None:
        """Return an account's owner, None for an account that an operator created."""
        return await self._owner("o.account_id", account_id)

    async def contact(self, account_id: str) -> Contact | None:
        """Return the contact of any account, also of one that an operator created."""
        async with self._postgres.transaction() as connection:
            row = await connection.fetchrow(
                "SELECT coalesce(o.email, a.email, '') AS email, o.email_verified_at IS NOT NULL AS is_verified "
                "FROM accounts a LEFT JOIN owners o ON o.account_id = a.id WHERE a.id = $1",
                account_id,
            )
        return None if row is None else Contact(**dict(row))

    async def rehash(self, owner: Owner, password_hash: str) -> None:
        """Replace the hash of an unchanged password; do nothing if the password was changed meanwhile."""
        async with self._postgres.transaction() as connection:
            await connection.execute(
                "UPDATE owners SET password_hash = $3 WHERE account_id = $1 AND password_hash = $2",
                owner.account_id,
                owner.password_hash,
                password_hash,
            )

    async def change_password(self, owner: Owner, password_hash: str, actor: Actor) -> Owner | None:
        """Start a new generation with a new password; return None if another change came first."""
        async with self._postgres.transaction() as connection:
            changed = await connection.fetchval(
                "UPDATE owners SET password_hash = $3, generation = generation + 1 "
                "WHERE account_id = $1 AND generation = $2 RETURNING account_id",
                owner.account_id,
                owner.generation,
                password_hash,
            )
            if changed is None:
                return None
            await delete_links(connection, owner.account_id)
            await write_audit(connection, actor, AuditEvent.PASSWORD_CHANGED, owner.account_id)
        return await self.owner(owner.account_id)

    async def await_verification(self, account_id: str, digest: bytes, ends_at: datetime) -> None:
        """Store the code that verifies an address; it replaces an earlier code."""
        async with self._postgres.transaction() as connection:
            await connection.execute(
                "UPDATE owners SET verification_digest = $2, verification_ends_at = $3 WHERE account_id = $1",
                account_id,
                digest,
                ends_at,
            )

    async def owner_to_verify(self, digest: bytes, now: datetime) -> Owner | None:
        """Return the owner whose address a code verifies, None for an unknown code."""
        async with self._postgres.transaction() as connection:
            row: Any = await connection.fetchrow(
                _OWNER.format("o.verification_digest") + " AND o.verification_ends_at > $2", digest, now
            )
        return None if row is None else Owner(**dict(row))

    async def verify_email(self, digest: bytes, now: datetime, source_address: str) -> Owner | None:
        """Accept a code once as the verification of an address; return None if the code is unknown."""
        async with self._postgres.transaction() as connection:
            account_id = await connection.fetchval(
                "UPDATE owners SET email_verified_at = coalesce(email_verified_at, $2), "
                "verification_digest = NULL, verification_ends_at = NULL "
                "WHERE verification_digest = $1 AND verification_ends_at > $2 RETURNING account_id",
                digest,
                now,
            )
            if account_id is None:
                return None
            actor = Actor(f"owner:{account_id}", source_address)
            await write_audit(connection, actor, AuditEvent.EMAIL_VERIFIED, account_id)
        return await self.owner(account_id)

    async def note(self, account_id: str, event: AuditEvent, actor: Actor) -> None:
        """Write a line into an account's audit trail for an event that changes no row."""
        async with self._postgres.transaction() as connection:
            await write_audit(connection, actor, event, account_id)

    async def audit_trail(self, account_id: str, before: int, lines_max: int) -> list[AuditLine]:
        """Return an account's latest audit lines with a number below `before`, newest first."""
        async with self._postgres.transaction() as connection:
            return await read_audit(connection, account_id, before, lines_max)

    async def _owner(self, column: str, value: str) -> Owner | None:
        async with self._postgres.transaction() as connection:
            row: Any = await connection.fetchrow(_OWNER.format(column), value)
        return None if row is None else Owner(**dict(row))
