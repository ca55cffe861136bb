-- Accounts, their API keys, the changes that Redis has yet to learn of, and the audit log.

CREATE TABLE accounts (
  id            text PRIMARY KEY,
  name          text NOT NULL,
  email         text,
  created_at    timestamptz NOT NULL,
  suspended_at  timestamptz
);

CREATE TABLE api_keys (
  id            text PRIMARY KEY,
  account_id    text NOT NULL REFERENCES accounts,
  digest        bytea NOT NULL UNIQUE CHECK (octet_length(digest) = 32),
  name          text NOT NULL,
  hint          text NOT NULL,
  scopes        text[] NOT NULL CHECK (cardinality(scopes) > 0),
  capacity      integer CHECK (capacity > 0),
  refill_per_s  double precision CHECK (refill_per_s > 0),
  created_at    timestamptz NOT NULL,
  expires_at    timestamptz,
  disabled_at   timestamptz,
  revoked_at    timestamptz,
  revision      bigint NOT NULL DEFAULT 1,
  CHECK ((capacity IS NULL) = (refill_per_s IS NULL))
);

CREATE INDEX api_keys_by_account ON api_keys (account_id);

CREATE FUNCTION keep_key_identity() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.account_id <> OLD.account_id OR NEW.digest <> OLD.digest THEN
    RAISE EXCEPTION 'a key belongs to one account for ever';
  END IF;
  IF OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS NULL THEN
    RAISE EXCEPTION 'a revoked key stays revoked';
  END IF;
  -- Redis tells old from new by the revision.
  NEW.revision := OLD.revision + 1;
  RETURN NEW;
END $$;

CREATE TRIGGER keep_key_identity BEFORE UPDATE ON api_keys FOR EACH ROW EXECUTE FUNCTION keep_key_identity();

CREATE TABLE key_outbox (
  key_id        text PRIMARY KEY REFERENCES api_keys,
  revision      bigint NOT NULL,
  created_at    timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE audit_log (
  id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at              timestamptz NOT NULL DEFAULT now(),
  actor           text NOT NULL,
  source_address  text NOT NULL,
  event           text NOT NULL,
  account_id      text NOT NULL,
  key_id          text
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the audit log is append-only';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
