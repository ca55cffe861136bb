-- End the session KEYS[1].
-- Reply: 1, or 0 where there was none.
-- A script like the others, so that the link knows one way to ask.

return redis.call('DEL', KEYS[1])
