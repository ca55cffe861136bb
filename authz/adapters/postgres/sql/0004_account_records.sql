-- An account's record in the projection: its revision, its pending changes, and the sum of its keys' own limits. And the
-- indexes by which dead keys cost nothing: neither a count of live keys, nor a page of a list, nor their deletion.

ALTER TABLE accounts
  ADD COLUMN revision           bigint NOT NULL DEFAULT 1,
  ADD COLUMN keys_capacity      bigint NOT NULL DEFAULT 0,
  ADD COLUMN keys_refill_per_s  double precision NOT NULL DEFAULT 0;

UPDATE accounts a SET keys_capacity = s.capacity, keys_refill_per_s = s.refill_per_s
FROM (
  SELECT account_id, sum(capacity) AS capacity, sum(refill_per_s) AS refill_per_s FROM api_keys
  WHERE capacity IS NOT NULL AND revoked_at IS NULL AND (expires_at > now() OR expires_at IS NULL) GROUP BY account_id
) s
WHERE a.id = s.account_id;

CREATE FUNCTION keep_account_revision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  -- Redis tells old from new by the revision.
  NEW.revision := OLD.revision + 1;
  RETURN NEW;
END $$;

CREATE TRIGGER keep_account_revision BEFORE UPDATE ON accounts FOR EACH ROW EXECUTE FUNCTION keep_account_revision();

CREATE TABLE account_outbox (
  account_id    text PRIMARY KEY REFERENCES accounts,
  revision      bigint NOT NULL,
  created_at    timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX accounts_by_age ON accounts (created_at, id);
CREATE INDEX api_keys_by_age ON api_keys (account_id, created_at, id);
CREATE INDEX api_keys_live ON api_keys (account_id, expires_at) WHERE revoked_at IS NULL;
CREATE INDEX api_keys_by_hint ON api_keys (hint);
CREATE INDEX api_keys_by_end ON api_keys (least(revoked_at, expires_at)) WHERE least(revoked_at, expires_at) IS NOT NULL;
DROP INDEX api_keys_by_account;

-- A key outlives the one that it replaced.
ALTER TABLE api_keys DROP CONSTRAINT api_keys_replaces_fkey,
  ADD CONSTRAINT api_keys_replaces_fkey FOREIGN KEY (replaces) REFERENCES api_keys ON DELETE SET NULL;

-- The application's role may delete no key but through this: only keys that ended before a time in the past, and are settled.
CREATE FUNCTION delete_ended_keys(ended_before timestamptz, rows_max integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
  ended text[];
BEGIN
  SELECT array_agg(id) INTO ended FROM (
    SELECT id FROM api_keys k
    WHERE least(revoked_at, expires_at) < least(ended_before, now())
      AND NOT EXISTS (SELECT FROM key_outbox o WHERE o.key_id = k.id)
    ORDER BY least(revoked_at, expires_at) LIMIT rows_max FOR UPDATE SKIP LOCKED
  ) found;
  DELETE FROM api_keys WHERE id = ANY(ended);
  DELETE FROM key_uses WHERE key_id = ANY(ended);
  RETURN coalesce(cardinality(ended), 0);
END $$;

REVOKE ALL ON FUNCTION delete_ended_keys(timestamptz, integer) FROM PUBLIC;
