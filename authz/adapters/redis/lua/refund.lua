-- Return tokens to the buckets of the key KEYS[1] (bucket.lua), in a cluster, where its account refused the check.
-- ARGV[1] epoch, ARGV[2] the tokens that the check took from each of the key's buckets. If it took them from further ones
-- (limits.lua), KEYS[2] is their hash, and ARGV[3] are their names, separated by spaces
-- Reply: 1, or 0 if there is no such key. The next check cuts each bucket to its capacity.
-- One script, because a check in between would otherwise be undone.

local value = redis.call('GETRANGE', KEYS[1], 0, 15)
if #value < 16 then return 0 end
local function refunded(bucket)
  local tokens, counted_us = struct.unpack('<dd', bucket)
  return struct.pack('<dd', tokens + ARGV[2], counted_us)
end
redis.call('SETRANGE', KEYS[1], '0', refunded(value))
for name in string.gmatch(ARGV[3] or '', '%S+') do
  local bucket = redis.call('HGET', KEYS[2], name)
  if bucket then redis.call('HSET', KEYS[2], name, refunded(bucket) .. string.sub(bucket, 17)) end
end
return 1
