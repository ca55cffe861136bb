-- Remove the session ARGV[1] from the index KEYS[1].
-- Reply: 1, or 0 if it was not there.
-- A script, because the link sends scripts only.

return redis.call('HDEL', KEYS[1], ARGV[1])
