-- Who logs in for an account: address, password hash, and the links by which an address is verified.

CREATE TABLE owners (
  account_id             text PRIMARY KEY REFERENCES accounts,
  email                  text NOT NULL UNIQUE,
  password_hash          text NOT NULL,
  generation             integer NOT NULL DEFAULT 1,
  email_verified_at      timestamptz,
  verification_digest    bytea UNIQUE CHECK (octet_length(verification_digest) = 32),
  verification_ends_at   timestamptz,
  CHECK ((verification_digest IS NULL) = (verification_ends_at IS NULL))
);

CREATE INDEX audit_log_by_account ON audit_log (account_id, id DESC);
