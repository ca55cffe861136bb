-- Decide one check with further buckets and, if it is granted, acquire the lease of the stream that it opens. `check` is
-- limits.lua, `acquire` is leases.lua with lease_acquire.lua.
-- KEYS[1], KEYS[2] and KEYS[6], and ARGV[1] to ARGV[5] those of one check of `check`, KEYS[3] to KEYS[5] and ARGV[6] to
-- ARGV[11] those of `acquire`
-- Reply: that of `check`; with a lease {that of `check`, those of `acquire`…}
-- One script, because the check of a stream would otherwise take two calls.

-- Before a token is taken.
if ARGV[11] ~= '' and redis.call('GET', 'l:data') ~= ARGV[11] then
  return redis.error_reply('OTHERDATA redis has lost its data')
end
local answer = check({KEYS[1], KEYS[2], KEYS[6]}, {unpack(ARGV, 1, 5)})
if not string.find(answer, '^[gG]') then return answer end
return {answer, unpack(acquire({KEYS[3], KEYS[4], KEYS[5]}, {unpack(ARGV, 6)}))}
