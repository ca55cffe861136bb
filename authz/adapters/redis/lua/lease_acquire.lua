-- Acquire the lease of a stream before it opens, unless its key or its account is at its cap.
-- KEYS[3] the end mark of this stream
-- ARGV[1] lease id, ARGV[2] key id, ARGV[3] cap per key, ARGV[4] cap per account, ARGV[5] life of the lease before the
-- first renewal, in milliseconds; ARGV[6] the mark of the data that the caller knows, empty in a cluster
-- Reply: {OUTCOME, OF_KEY, OF_ACCOUNT, EXPIRED}: g granted (the counts include this lease; repeated checks of a request
-- share one lease), k key at its cap, a account at its cap, s key or account stopped, e stream already ended
-- An error if Redis has other data than the caller knows: the leases of open streams may be lost, and the caller must
-- wait until they are reported again.
-- One script, because two sidecars would both find the last lease free.

if is_other(ARGV[6]) then return redis.error_reply('OTHERDATA redis has lost its data') end
if redis.call('EXISTS', KEYS[3]) == 1 then return {'e', 0, 0, 0} end
if is_stopped(ARGV[2]) then return {'s', 0, 0, 0} end
local of_key, of_account, expired = count(ARGV[2], ARGV[1])
local it, until_ms = found(ARGV[1]), now + ARGV[5]
if it and it.expires > now then
  it.claims = it.claims + 1
  it.expires = math.max(it.expires, until_ms)
  it.kept = math.max(it.kept, until_ms)
else
  if of_key >= tonumber(ARGV[3]) then return {'k', of_key, of_account, expired} end
  if of_account >= tonumber(ARGV[4]) then return {'a', of_key, of_account, expired} end
  it = {key_id = ARGV[2], opened = now, expires = until_ms, kept = until_ms, seen = 0, claims = 1}
end
keep(ARGV[1], it)
return {'g', of_key + 1, of_account + 1, expired}
