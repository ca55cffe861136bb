-- Return the index KEYS[1] of an account's sessions.
-- Reply: {DIGEST, FACTS, ...}, the facts as `session_note.lua` writes them.
-- A script, because the link sends scripts only.

return redis.call('HGETALL', KEYS[1])
