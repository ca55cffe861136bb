-- Note a session in the index KEYS[1] of its account's sessions.
-- ARGV[1] digest of the session, ARGV[2] generation of the account's password, ARGV[3] address and ARGV[4] browser of the
-- login, both without line breaks, ARGV[5] longest life in milliseconds
-- Reply: the number of sessions in the index.
-- One script, because an index that is written without a time to live would last for ever.

local time = redis.call('TIME')
local started_us = string.format('%.0f', time[1] * 1000000 + time[2])
redis.call('HSET', KEYS[1], ARGV[1], started_us .. '\n' .. ARGV[2] .. '\n' .. ARGV[3] .. '\n' .. ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return #redis.call('HGETALL', KEYS[1]) / 2
