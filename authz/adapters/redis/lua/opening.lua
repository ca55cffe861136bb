-- Decide one check and, where a token is granted to a key as the caller remembers it, take a lease for the stream that it
-- opens. `check` is check.lua, `acquire` leases.lua with lease_acquire.lua, both as they are by themselves.
-- KEYS[1] and ARGV[1] to ARGV[3] those of `check`, KEYS[2] to KEYS[4] and ARGV[4] to ARGV[8] those of `acquire`
-- Reply: that of `check`; where a lease was asked for {that of `check`, those of `acquire`…}
-- One script, because a stream's check would otherwise be two calls, of which the second leaves alone.

local answer = check(KEYS, ARGV)
if type(answer) ~= 'string' or #answer ~= 17 or string.lower(string.sub(answer, 1, 1)) ~= 'g' then return answer end
return {answer, unpack(acquire({KEYS[2], KEYS[3], KEYS[4]}, {unpack(ARGV, 4)}))}
