-- Renew the lease of an open stream, also if it had expired or was lost.
-- KEYS[3] the end mark of this stream
-- ARGV[1] lease id, ARGV[2] key id, ARGV[3] cap per key, ARGV[4] cap per account, ARGV[5] life of a lease in
-- milliseconds, ARGV[6] when the stream was opened, for a lost lease
-- Reply: {OUTCOME, EXCEEDS}: k kept, t acquired again (EXCEEDS is 1 if a cap is exceeded), s not renewed because the
-- key or the account is stopped, e not renewed because the stream has ended
-- One script, because a stream that ends in between must not get a lease again.

if redis.call('EXISTS', KEYS[3]) == 1 then return {'e', 0} end
local it, until_ms = found(ARGV[1]), now + ARGV[5]
local counts = it and it.expires > now
it = it or {key_id = ARGV[2], opened = tonumber(ARGV[6]), expires = now, kept = now, claims = 1}
it.seen, it.kept = now, until_ms
if is_stopped(ARGV[2]) then
  keep(ARGV[1], it)
  return {'s', 0}
end
it.expires = until_ms
local outcome, exceeds = 'k', 0
if not counts then
  local of_key, of_account = count(ARGV[2], ARGV[1])
  outcome = 't'
  if of_key >= tonumber(ARGV[3]) or of_account >= tonumber(ARGV[4]) then exceeds = 1 end
end
keep(ARGV[1], it)
return {outcome, exceeds}
