-- Note a stream's sign of life: its lease begins to count anew, also where it had run out or was lost.
-- KEYS[3] the mark of this stream's end
-- ARGV[1] lease id, ARGV[2] key id, ARGV[3] cap of a key, ARGV[4] cap of an account, ARGV[5] how long a lease lives in
-- milliseconds, ARGV[6] when the stream was opened, for a lease that was lost
-- Reply: {OUTCOME, EXCEEDS}: k kept, t taken again (EXCEEDS 1 where that is more than a cap), s not renewed because its
-- key was stopped, e not renewed because the stream is over
-- One script, because a stream that ends in between must not come back.

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
