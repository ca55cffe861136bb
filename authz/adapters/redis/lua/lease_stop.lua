-- Record the state of a key, or of the account itself, beside the account's leases (KEYS[1]), unless a newer revision
-- is recorded.
-- ARGV[1] key id, or account id for the account; ARGV[2] revision, ARGV[3] state: a is active, ARGV[4] how long the
-- state is kept, in milliseconds
-- Reply: 1 if recorded, else 0
-- One script, because an older change that arrives late must not replace a newer one.

local mark = redis.call('HGET', KEYS[1], ARGV[1])
if mark and tonumber(string.match(mark, '^%d+') or 0) > tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
