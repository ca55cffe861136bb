-- Begin the grant whose hash is KEYS[1], unless its code is taken.
-- ARGV[1] digest of the device code, ARGV[2] address and ARGV[3] client that ask, ARGV[4] its life in milliseconds
-- Reply: 1, or 0 where another grant has the code.
-- One script, because two devices must never share a code.

if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'state', 'pending', 'digest', ARGV[1], 'address', ARGV[2], 'client', ARGV[3],
  'started_s', time[1])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
