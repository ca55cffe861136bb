-- Write the record of the key whose string is KEYS[1] (check.lua), unless a newer revision of it is already there.
-- ARGV[1] epoch, ARGV[2] revision, ARGV[3] header, ARGV[4] how long it stays in milliseconds, 0 for ever, and ARGV[5] from
-- when on where that is still to come, in milliseconds of Unix time; ARGV[6] the record: none of a key that does not exist
-- Reply: 1 when written, 0 when the server holds a newer revision that was written in this epoch.
-- One script, because a slow load could otherwise overwrite the revocation that came in between. The bucket is left
-- alone: changing a record gives no tokens back.

local value = redis.call('GET', KEYS[1]) or ''
local epoch, revision = string.match(value, '^(%S+) (%d+) ', 17)
if epoch == ARGV[1] and tonumber(revision) > tonumber(ARGV[2]) then return 0 end
-- A key that does not exist has no bucket either.
local bucket = epoch and ARGV[6] and string.sub(value, 1, 16) or string.rep('\0', 16)
redis.call('SET', KEYS[1], bucket .. ARGV[3] .. '\n' .. (ARGV[6] or ''))
if ARGV[4] ~= '0' then
  local time = redis.call('TIME')
  local before_ms = math.max(0, ARGV[5] - time[1] * 1000)
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', before_ms + ARGV[4]))
end
return 1
