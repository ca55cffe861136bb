-- End the session KEYS[1].
-- Reply: 1, or 0 if there was none.
-- A script, because the link sends scripts only.

return redis.call('DEL', KEYS[1])
