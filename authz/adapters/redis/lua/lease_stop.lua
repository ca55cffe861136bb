-- Note for an account's leases (KEYS[1]) whether a key of it works, unless a newer revision has been noted.
-- ARGV[1] key id, ARGV[2] revision, ARGV[3] state: a where it works, ARGV[4] how long this is remembered in milliseconds
-- Reply: 1 when noted, else 0
-- One script, because an older change that comes late must not undo a newer one.

local mark = redis.call('HGET', KEYS[1], ARGV[1])
if mark and tonumber(string.match(mark, '^%d+') or 0) > tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
