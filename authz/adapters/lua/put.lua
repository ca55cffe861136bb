-- Write the record of the key whose string is KEYS[1] (check.lua), unless a newer revision of it is already there.
-- ARGV[1] epoch, ARGV[2] revision, ARGV[3] header, ARGV[4] how long it lives in milliseconds, ARGV[5] the record: none of
-- a key that does not exist
-- Reply: 1 when written, 0 when the server holds a newer revision that was written in this epoch.
-- One script, because a slow load could otherwise overwrite the revocation that came in between. The bucket is left
-- alone: changing a record gives no tokens back.

local value = redis.call('GET', KEYS[1]) or ''
local epoch, revision = string.match(value, '^(%S+) (%d+) ', 17)
if epoch == ARGV[1] and tonumber(revision) > tonumber(ARGV[2]) then return 0 end
local bucket, ttl_ms = string.rep('\0', 16), ARGV[4]
-- A key that does not exist has no bucket either, whose longer life would become that of this entry.
if epoch and ARGV[5] then
  bucket = string.sub(value, 1, 16)
  ttl_ms = string.format('%.0f', math.max(ttl_ms, redis.call('PTTL', KEYS[1])))
end
redis.call('SET', KEYS[1], bucket .. ARGV[3] .. '\n' .. (ARGV[5] or ''), 'PX', ttl_ms)
return 1
