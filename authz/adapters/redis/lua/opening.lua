-- Decide one check and, if a token is granted to a key with the cached record, acquire the lease of the stream that it
-- opens. `check` is check.lua, `acquire` is leases.lua with lease_acquire.lua.
-- KEYS[1], KEYS[2] and ARGV[1] to ARGV[3] those of `check`, KEYS[3] to KEYS[5] and ARGV[4] to ARGV[9] those of
-- `acquire`
-- Reply: that of `check`; with a lease {that of `check`, those of `acquire`…}
-- One script, because the check of a stream would otherwise take two calls.

-- Before a token is taken.
if ARGV[9] ~= '' and redis.call('GET', 'l:data') ~= ARGV[9] then
  return redis.error_reply('OTHERDATA redis has lost its data')
end
local answer = check(KEYS, ARGV)
if type(answer) ~= 'string' or #answer ~= 17 or not string.find(answer, '^[gGhH]') then return answer end
return {answer, unpack(acquire({KEYS[3], KEYS[4], KEYS[5]}, {unpack(ARGV, 4)}))}
