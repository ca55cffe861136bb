-- The plan of a key, by its name in the policy; NULL for none. Releases that do not know the column neither read nor write it.

ALTER TABLE api_keys ADD COLUMN plan text;
