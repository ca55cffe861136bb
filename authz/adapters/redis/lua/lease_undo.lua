-- Take back one claim on a lease whose check nobody waited for.
-- ARGV[1] lease id
-- Reply: 1 when the lease is gone, 0 when it stays: another check of the same request claimed it as well, or its stream
-- has given a sign of life.
-- One script, because the claim that a repeated check makes in between must count.

local it = found(ARGV[1])
if not it or it.seen > 0 then return 0 end
it.claims = it.claims - 1
if it.claims > 0 then
  keep(ARGV[1], it)
  return 0
end
return redis.call('HDEL', KEYS[1], ARGV[1])
