-- Which key replaced which, and when each was last used.

ALTER TABLE api_keys ADD COLUMN replaces text UNIQUE REFERENCES api_keys;

-- Apart from the keys, whose rows are held still while they are projected; and room to rewrite a row in its place,
-- because that is what happens here all the time.
CREATE TABLE key_uses (
  key_id        text PRIMARY KEY,
  last_used_at  timestamptz NOT NULL
) WITH (fillfactor = 70);
