-- Take the slot of a stream that is about to open, unless its key or its account has as many open as it may.
-- KEYS[3] the mark of this stream's end
-- ARGV[1] lease id, ARGV[2] key id, ARGV[3] cap of a key, ARGV[4] cap of an account, ARGV[5] how long the lease lives
-- before the stream's first sign of life, in milliseconds
-- Reply: {OUTCOME, OF_KEY, OF_ACCOUNT, EXPIRED}: g granted (the counts include it, and a lease is one however often its
-- check is repeated), k or a too many of the key or the account, s the key was stopped, e the stream is over already
-- One script, because two sidecars would both find the last slot free.

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
