-- The links by which an owner sets a forgotten password, and confirms another e-mail address. Each link has a secret code, of
-- which only the digest is stored.

CREATE TABLE password_resets (
  digest        bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
  account_id    text NOT NULL REFERENCES owners,
  ends_at       timestamptz NOT NULL
);

CREATE INDEX password_resets_by_account ON password_resets (account_id);
CREATE INDEX password_resets_by_end ON password_resets (ends_at);

-- One change of an account at a time. It takes effect when both addresses have confirmed it.
CREATE TABLE email_changes (
  account_id          text PRIMARY KEY REFERENCES owners,
  new_email           text NOT NULL,
  old_digest          bytea NOT NULL UNIQUE CHECK (octet_length(old_digest) = 32),
  new_digest          bytea NOT NULL UNIQUE CHECK (octet_length(new_digest) = 32),
  is_old_confirmed    boolean NOT NULL DEFAULT false,
  is_new_confirmed    boolean NOT NULL DEFAULT false,
  ends_at             timestamptz NOT NULL
);

CREATE INDEX email_changes_by_end ON email_changes (ends_at);
