-- Create the session in the hash KEYS[1].
-- ARGV[1] account id, ARGV[2] generation of the account's password, ARGV[3] life without use and ARGV[4] longest life,
-- both in milliseconds
-- Reply: 1.
-- One script, because a session that is written without a time to live would last for ever.

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'account_id', ARGV[1], 'generation', ARGV[2],
  'ends_ms', string.format('%.0f', now_ms + ARGV[4]))
redis.call('PEXPIRE', KEYS[1], math.min(ARGV[3], ARGV[4]))
return 1
