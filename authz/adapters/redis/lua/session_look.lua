-- Return whether the session KEYS[1] is open; this does not extend it.
-- Reply: 1 or 0.
-- A script, because the link sends scripts only.

return redis.call('EXISTS', KEYS[1])
