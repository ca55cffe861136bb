-- Create the grant in the hash KEYS[1], unless its code is in use.
-- ARGV[1] digest of the device code, ARGV[2] address and ARGV[3] client of the request, ARGV[4] life in milliseconds,
-- ARGV[5] the requested scopes, separated by spaces
-- Reply: 1, or 0 if another grant uses the code.
-- One script, because two devices must never share a code.

if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'state', 'pending', 'digest', ARGV[1], 'address', ARGV[2], 'client', ARGV[3],
  'started_s', time[1], 'requested', ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
