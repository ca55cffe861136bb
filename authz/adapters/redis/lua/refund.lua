-- Return tokens to the bucket of the key KEYS[1] (bucket.lua), in a cluster, where its account refused the check.
-- ARGV[1] epoch, ARGV[2] the tokens that the check took from the key's bucket
-- Reply: 1, or 0 if there is no such key. The next check cuts the bucket to its capacity.
-- One script, because a check in between would otherwise be undone.

local value = redis.call('GETRANGE', KEYS[1], 0, 15)
if #value < 16 then return 0 end
local tokens, counted_us = struct.unpack('<dd', value)
redis.call('SETRANGE', KEYS[1], '0', struct.pack('<dd', tokens + ARGV[2], counted_us))
return 1
