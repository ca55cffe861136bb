-- Withdraw one claim on a lease, of a check whose caller had gone.
-- ARGV[1] lease id
-- Reply: 1 if the lease is deleted, 0 if it stays: another check of the same request claimed it, or its stream was
-- renewed.
-- One script, because the claim of a simultaneous check must count.

local it = found(ARGV[1])
if not it or it.seen > 0 then return 0 end
it.claims = it.claims - 1
if it.claims > 0 then
  keep(ARGV[1], it)
  return 0
end
return redis.call('HDEL', KEYS[1], ARGV[1])
