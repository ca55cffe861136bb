-- Decide one check and, if a token is granted to a key with the cached record, acquire the lease of the stream that it
-- opens. `check` is check.lua, `acquire` is leases.lua with lease_acquire.lua.
-- KEYS[1] and ARGV[1] to ARGV[3] those of `check`, KEYS[2] to KEYS[4] and ARGV[4] to ARGV[8] those of `acquire`
-- Reply: that of `check`; with a lease {that of `check`, those of `acquire`…}
-- One script, because the check of a stream would otherwise take two calls.

local answer = check(KEYS, ARGV)
if type(answer) ~= 'string' or #answer ~= 17 or string.lower(string.sub(answer, 1, 1)) ~= 'g' then return answer end
return {answer, unpack(acquire({KEYS[2], KEYS[3], KEYS[4]}, {unpack(ARGV, 4)}))}
